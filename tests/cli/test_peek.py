"""``tersely peek``: what a row holds, as text."""

import json

import pytest
from click.testing import CliRunner
from small import TEXTS

from tersely.cli.main import cli
from tersely.corpus import find_sources, prepare
from tersely.errors import UsageError
from tersely.shards import ShardFolder


def peek(*arguments):
    done = CliRunner().invoke(cli, ["peek", *map(str, arguments)], standalone_mode=False)
    if done.exception:
        raise done.exception
    return done.output


def test_all_rows_together_hold_every_document_once(corpus):
    rows = ShardFolder(corpus).manifest.rows
    pieces = [
        piece for row in range(rows) for piece in json.loads(peek(corpus, "--row", row, "--json"))["pieces"]
    ]
    pieces.sort(key=lambda piece: (piece["document"], piece["start"]))
    found = {}
    for piece in pieces:
        found[piece["document"]] = found.get(piece["document"], "") + piece["text"]
    assert list(found.values()) == [text for text in TEXTS if text]


def test_a_row_is_printed_with_its_boundaries(corpus):
    out = peek(corpus, "--row", -1)
    last = ShardFolder(corpus).row(ShardFolder(corpus).manifest.rows - 1)
    assert out.count("--- document") == len(last.places)
    for place in last.places:
        assert f"document {place.document}, tokens {place.start} to {place.start + place.length}" in out
    assert "of 256 tokens" in out


def test_long_pieces_are_cut_and_control_characters_spelled_out(write_jsonl, tmp_path):
    path = write_jsonl([{"text": "start\n\x1b[31m" + "x" * 5000 + "\tend", "lang": "\x07en"}])
    prepare(find_sources([path], fields=("lang",))[0], tmp_path / "out", "bytes", capacity=8192)
    out = peek(tmp_path / "out")
    assert "start\n\\x1b[31mx" in out
    assert "\tend" in out
    assert "characters ...]" in out
    assert "lang: \\x07en" in out
    assert "\x1b" not in out
    assert "x" * 5000 in peek(tmp_path / "out", "--full")


def test_rows_that_are_not_there_are_refused(corpus):
    rows = ShardFolder(corpus).manifest.rows
    for row in (rows, -rows - 1):
        with pytest.raises(UsageError, match=f"no row {row}"):
            peek(corpus, "--row", row)
