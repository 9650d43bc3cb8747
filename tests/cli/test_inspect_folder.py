"""``tersely inspect`` of a prepared folder as a user meets it."""

import json
import subprocess
import sys

import pytest
from click.testing import CliRunner
from pages import assert_fetches_and_runs_nothing
from text_folders import make_folder

from tersely.cli.main import cli
from tersely.corpus.inspection import inspect_folder
from tersely.errors import UsageError

COMMAND = [sys.executable, "-P", "-c", "from tersely.cli.main import main; main()", "inspect"]


def inspect(*arguments, **more):
    """Runs the command; its exit code, standard output and standard error."""
    done = subprocess.run(
        [*COMMAND, *map(str, arguments)], capture_output=True, text=True, check=False, timeout=120, **more
    )
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def folder(tmp_path):
    names = ["first.jsonl", "red\x1b[31m\u202e.jsonl", *(f"more-{i}-{'long' * 12}.jsonl" for i in range(20))]
    documents = [[(i % len(names), b"word " * (i + 1)) for i in range(60)], [(1, b"x" * 9000)]]
    bad = [
        {
            "source": names[1],
            "line": i,
            "byte": i,
            "reason": f"\x1b[2J at {i}",
            "sha256": "",
            "excerpt": "\x9b",
        }
        for i in range(3)
    ]
    return make_folder(
        tmp_path / "folder", documents, names=names, capacity=256, rejects=bad, command="tersely prepare x"
    )


def test_tables_and_page_say_what_json_says(folder, tmp_path):
    code, out, err = inspect(folder, "--html", tmp_path / "page.html")
    assert (code, err) == (0, "")
    tables = out[out.index("Tokens of documents") : out.index("The page is")]
    assert max(map(len, tables.splitlines())) <= 100
    code, plain, _ = inspect(folder, "--html", tmp_path / "again.html", "--json")
    assert code == 0
    result = json.loads(plain)
    page = (tmp_path / "page.html").read_text()
    assert page == (tmp_path / "again.html").read_text()
    assert_fetches_and_runs_nothing(page)
    assert {"format", "sources", "shards", "totals"} <= set(result)
    assert result == json.loads(json.dumps(result | inspect_folder(folder).to_dict()))
    assert result["totals"]["documents"] == result["all_sources"]["documents"] == 61
    largest = max(result["by_source"], key=lambda source: source["tokens"])
    for value in (f"{largest['tokens']:,}", f"{largest['padding']:.3%}", f"{result['bytes_per_token']:.3f}"):
        assert value in out
        assert value in page
    for choice in result["packing_choices"]["choices"]:
        assert f"{choice['padding']:.3%}" in out
        assert f"{choice['padding']:.3%}" in page
    assert f"tersely prepare x --out {folder}" in out
    assert "and 10 more, with fewer tokens" in out
    assert "<- best-fit" in out


def test_control_characters_of_the_data_do_not_reach_the_terminal(folder, tmp_path):
    code, out, _ = inspect(folder, "--html", tmp_path / "page.html")
    assert code == 0
    for text in (out, (tmp_path / "page.html").read_text()):
        assert not set(text) & set("\x1b\u202e\x9b")
    assert r"red\x1b[31m\u202e.jsonl" in out
    assert r"3  \x1b[2J at #" in out


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--by", "lang"], 2, "--by is of a comparison: name tokenizers with --compare"),
        (["--layers", "3", "--pack", "8192"], 2, "--pack, --layers are of a comparison"),
        (["--text-field", "text"], 2, "--text-field is of a comparison"),
        (["--html", "none/page.html"], 1, "there is no folder"),
        (["other"], 2, "use --compare"),
    ],
)
def test_errors_are_one_sentence_with_the_way_out(folder, tmp_path, arguments, code, words):
    got, out, err = inspect(folder, *arguments, cwd=tmp_path)
    assert (got, out) == (code, "")
    assert words in err


def files_of(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    "name",
    [
        "manifest.json",
        "dataset_info.json",
        "data-00000-00000.arrow",
        "data-00007-00000.arrow",
        "quarantine.jsonl",
        "tokenizer/page.html",
        "tokenizer/../manifest.json",
        "link.html",
    ],
)
def test_a_page_does_not_replace_a_file_of_its_folder(corpus, monkeypatch, tmp_path, name):
    (corpus / "link.html").symlink_to(corpus / "manifest.json")
    monkeypatch.chdir(corpus)
    before = files_of(corpus)
    for path in (name, corpus / name):
        result = CliRunner().invoke(cli, ["inspect", str(corpus), "--html", str(path)], standalone_mode=False)
        assert isinstance(result.exception, UsageError)
        assert f"name {corpus / 'page.html'}, or a file elsewhere" in str(result.exception)
    assert files_of(corpus) == before


def test_a_page_may_stand_in_its_folder_and_be_made_again(corpus):
    for _ in range(2):
        result = CliRunner().invoke(
            cli, ["inspect", str(corpus), "--html", str(corpus / "page.html")], standalone_mode=False
        )
        assert result.return_value == 0
    assert (corpus / "page.html").read_text().endswith("</html>\n")
    assert CliRunner().invoke(cli, ["verify", str(corpus)], standalone_mode=False).return_value == 0


def test_a_folder_without_documents_is_shown(tmp_path):
    code, out, err = inspect(make_folder(tmp_path / "empty", [[]]), "--html", tmp_path / "page.html")
    assert (code, err) == (0, "")
    assert "0 = 0 documents + 0 empty + 0 quarantined" in out


def test_inspecting_loads_neither_torch_nor_transformers(folder):
    code = "import sys; from tersely.cli.main import cli; "
    code += f"cli.main(['inspect', {str(folder)!r}, '--json'], standalone_mode=False); "
    code += "sys.exit('torch' if 'torch' in sys.modules else 0)"
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
