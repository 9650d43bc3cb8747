"""The file of a page: whole or not at all, and where it is written."""

import errno
import os
import stat

import pytest

from tersely.cli.page import check_page, write_page
from tersely.errors import CorpusError, UsageError


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "there is no room left for .*page.html"),
        (errno.EFBIG, "page.html needs a file larger than"),
        (errno.EIO, "page.html cannot be written: as the system says it"),
    ],
)
def test_a_page_that_cannot_be_written_leaves_the_one_that_was_there(tmp_path, monkeypatch, number, words):
    page = tmp_path / "page.html"
    write_page(page, "the first")

    def fail(descriptor):
        raise OSError(number, "as the system says it")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(CorpusError, match=words):
        write_page(page, "the second")
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]
    assert page.read_text() == "the first"


def test_a_link_to_a_page_stays_one(tmp_path):
    (tmp_path / "pages").mkdir()
    link = tmp_path / "link.html"
    link.symlink_to(tmp_path / "pages" / "page.html")
    for text in ("the first", "the second"):
        check_page(link)
        write_page(link, text)
        assert link.is_symlink()
        assert (tmp_path / "pages" / "page.html").read_text() == text


def test_a_pipe_is_written_into_and_stays_one(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    check_page(pipe)
    write_page(pipe, "all of it")
    assert os.read(reader, 100) == b"all of it"
    os.close(reader)
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert len(list(tmp_path.iterdir())) == 1


def test_a_link_to_what_the_page_is_made_of_is_refused(tmp_path):
    (tmp_path / "docs.jsonl").write_text("{}")
    (tmp_path / "link.html").symlink_to("docs.jsonl")
    with pytest.raises(UsageError, match=r"link\.html would replace what it is made of"):
        check_page(tmp_path / "link.html", [tmp_path / "docs.jsonl"])
    check_page(tmp_path / "other.html", [tmp_path / "docs.jsonl"])
