"""``tersely inspect --compare`` as a user meets it."""

import json
import subprocess
import sys

import pytest
from small import TEXTS

COMMAND = [sys.executable, "-P", "-c", "from tersely.cli.main import main; main()", "inspect"]


def inspect(*arguments, **more):
    """Runs the command; its exit code, standard output and standard error."""
    done = subprocess.run(
        [*COMMAND, *map(str, arguments)], capture_output=True, text=True, check=False, timeout=120, **more
    )
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def docs(write_jsonl, bpe_json, tmp_path):
    for name in ("first", "second with a name that is longer than a column"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "tokenizer.json").write_text(bpe_json)
    records = [{"text": text, "lang": f"lang{i % 3}"} for i, text in enumerate(TEXTS)]
    write_jsonl(records[:50], "one.jsonl")
    return write_jsonl(records[50:], "two.jsonl")


def test_tables_and_page_say_what_json_says(docs):
    specs = "bytes,first/tokenizer.json,second with a name that is longer than a column/tokenizer.json"
    arguments = [
        "one.jsonl",
        docs.name,
        "--compare",
        specs,
        "--by",
        "lang",
        "--pack",
        64,
        "--html",
        "page.html",
    ]
    code, out, err = inspect(*arguments, cwd=docs.parent)
    assert (code, err) == (0, "")
    code, plain, _ = inspect(*arguments, "--layers", 2, "--hidden", 64, "--json", cwd=docs.parent)
    assert code == 0
    result = json.loads(plain)
    assert result["model"]["parameters"] == 12 * 2 * 64**2
    assert result["documents"] == len(TEXTS)
    page = (docs.parent / "page.html").read_text()
    for made in result["tokenizers"]:
        for figures in (made["overall"], *made["groups"].values(), *made["files"].values()):
            for value in (figures["bytes_per_token"], figures["tokens_per_word"]):
                assert f"{value:.3f}" in out
                assert f"{value:.3f}" in page
    for words in ("bytes per token by lang", "tokens per word by input", "lang2", "two.jsonl", "rows of 64"):
        assert words in out
    assert max(map(len, out.splitlines())) <= 100
    assert "tersely inspect one.jsonl two.jsonl --compare" in page


def test_many_tokenizers_stand_in_several_tables_of_100_columns(docs, tmp_path, bpe_json):
    specs = [f"tokenizer-number-{i}/tokenizer.json" for i in range(9)]
    for spec in specs:
        (tmp_path / spec).parent.mkdir()
        (tmp_path / spec).write_text(bpe_json)
    code, out, _ = inspect(docs, "--compare", ", ".join(specs), "--by", "lang", cwd=tmp_path)
    assert code == 0
    assert max(map(len, out.splitlines())) <= 100
    assert out.count("bytes per token by lang") == 3
    assert all(out.count(f"tokenizer-number-{i}") == 3 for i in range(9))


def test_control_characters_of_the_data_do_not_reach_the_terminal(write_jsonl):
    path = write_jsonl([{"text": "one two", "lang": "\x1b[31m\u202e\x9b"}], "red\x1b[31m.jsonl")
    write_jsonl([{"text": "one two", "lang": "plain"}])
    code, out, err = inspect(path, "docs.jsonl", "--compare", "bytes", "--by", "lang", cwd=path.parent)
    assert (code, err) == (0, "")
    assert not set(out) & set("\x1b\u202e\x9b")
    assert r"\x1b[31m\u202e\x9b" in out
    assert r"red\x1b[31m.jsonl" in out


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["two.jsonl", "--compare", "gpt9"], 1, "no tokenizer 'gpt9'"),
        (["two.jsonl", "--compare", ","], 2, "at least one"),
        (["two.jsonl", "--compare", "bytes", "--by", "language"], 2, "no document has the field 'language'"),
        (["two.jsonl", "--compare", "bytes", "--sample-bytes", "much"], 2, "write 500kB, 16MB or 1GB"),
        (["two.jsonl", "--compare", "bytes", "--html", "none/page.html"], 1, "there is no folder"),
        (["one.jsonl", "two.jsonl"], 2, "use --compare"),
        (["two.jsonl", "--html", "page.html"], 4, "no such folder"),
        (["two.jsonl", "--compare", "bytes", "--html", "two.jsonl"], 2, "would replace what it is made of"),
        (["two.jsonl", "--compare", "first", "--html", "first/tokenizer.json"], 2, "name another file"),
        ([], 2, "INPUTS"),
    ],
)
def test_errors_are_one_sentence_with_the_way_out(docs, arguments, code, words):
    before = {path: path.read_bytes() for path in docs.parent.rglob("*") if path.is_file()}
    got, out, err = inspect(*arguments, cwd=docs.parent)
    assert got == code
    assert out == ""
    assert words in err
    assert all(path.read_bytes() == raw for path, raw in before.items())
    assert not (docs.parent / "page.html").exists()


def test_comparing_loads_neither_torch_nor_transformers(docs):
    code = "import sys; from tersely.cli.main import cli; "
    code += f"cli.main(['inspect', {str(docs)!r}, '--compare', 'bytes', '--json'], standalone_mode=False); "
    code += "sys.exit(str({'torch', 'transformers', 'matplotlib'} & set(sys.modules)) if 'torch' in sys.modules else 0)"
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
