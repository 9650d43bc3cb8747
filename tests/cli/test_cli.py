"""The command line as a user meets it: output, exit codes, one-sentence errors."""

import gzip
import json
import os
import pty
import signal
import subprocess
import sys
import time

import datasets
import pytest
from small import TEXTS

COMMAND = [sys.executable, "-P", "-c", "from tersely.cli.main import main; main()"]


def tersely(*arguments, stdin=None, **more):
    """Runs the command; its exit code, standard output and standard error."""
    done = subprocess.run(
        [*COMMAND, *map(str, arguments)],
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        **more,
    )
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def docs(write_jsonl):
    return write_jsonl([{"text": text} for text in TEXTS])


def test_prepare_ends_with_a_table(docs, tmp_path):
    code, out, err = tersely("prepare", docs, "--pack", 256, "--out", tmp_path / "out")
    assert (code, err) == (0, "")
    named = dict(line.strip().split("  ", 1) for line in out.splitlines()[1:])
    for name in ("bytes", "bytes per token", "rows", "packing efficiency", "truncated tokens", "MB/s"):
        assert name in named, out
    assert named["documents"].strip() == str(len(TEXTS))
    assert named["quarantined records"].strip() == "0"
    assert len(datasets.load_from_disk(str(tmp_path / "out"))) == int(named["rows"])


def test_prepare_prints_json(docs, tmp_path, bpe_json):
    (tmp_path / "tokenizer.json").write_text(bpe_json)
    code, out, _ = tersely(
        "prepare", docs, "--tokenizer", tmp_path / "tokenizer.json", "--out", tmp_path / "out", "--json"
    )
    result = json.loads(out)
    assert code == 0
    assert result["totals"]["documents"] == len(TEXTS)
    assert result["totals"]["bytes"] == sum(len(text.encode()) for text in TEXTS)
    assert result["tokenizer"]["eos"] is True
    assert result["megabytes_per_second"] > 0


def test_prepare_reads_standard_input(tmp_path):
    stdin = "".join(json.dumps({"body": text}) + "\n" for text in TEXTS)
    code, out, _ = tersely(
        "prepare", "-", "--text-field", "body", "--out", tmp_path / "out", "--json", stdin=stdin
    )
    assert code == 0
    assert json.loads(out)["totals"]["documents"] == len(TEXTS)


def test_too_many_bad_records_exit_with_3_and_the_job_is_done(write_jsonl, tmp_path):
    path = write_jsonl([{"text": "good"}] * 99 + [{"text": None}])
    code, _, err = tersely("prepare", path, "--out", tmp_path / "out")
    assert code == 3
    assert "1 records were quarantined" in err
    assert "quarantine.jsonl" in err
    assert tersely("verify", tmp_path / "out")[0] == 0
    assert tersely("prepare", path, "--out", tmp_path / "lenient", "--max-bad", 0.01)[0] == 0


def test_an_input_that_broke_off_is_a_failure_unless_it_is_salvaged(tmp_path):
    whole = gzip.compress(b'{"text": "a"}\n' * 100_000)
    path = tmp_path / "cut.jsonl.gz"
    path.write_bytes(whole[:-50])
    code, out, err = tersely("prepare", path, "--out", tmp_path / "out", "--max-bad", 1, "--json")
    assert code == 1
    assert "cut.jsonl.gz broke off" in err
    assert "--salvage" in err
    assert json.loads(out)["totals"]["documents"] == 0
    code, out, err = tersely(
        "prepare", path, "--out", tmp_path / "kept", "--max-bad", 1, "--salvage", "--json"
    )
    assert code == 0
    assert "only what came before" in err
    assert json.loads(out)["totals"]["documents"] > 10_000


def test_invalid_bytes_are_quarantined_replaced_or_kept_as_asked(tmp_path):
    path = tmp_path / "docs.jsonl"
    path.write_bytes(b'{"text": "a\xffb"}\n{"text": "c"}\n')
    options = ("prepare", path, "--max-bad", 1, "--json")
    counts = {}
    for policy in ("quarantine", "replace", "bytes"):
        code, out, _ = tersely(*options, "--on-invalid", policy, "--out", tmp_path / policy)
        assert code == 0
        source = json.loads(out)["sources"][0]
        counts[policy] = (source["documents"], source["quarantined"], source["repaired"], source["bytes"])
    assert counts == {"quarantine": (1, 1, 0, 1), "replace": (2, 0, 1, 6), "bytes": (2, 0, 0, 4)}


def test_documents_above_the_limit_are_quarantined(tmp_path):
    path = tmp_path / "docs.jsonl"
    path.write_text('{"text": "short"}\n' + json.dumps({"text": "x" * 3000}) + "\n")
    code, out, _ = tersely("prepare", path, "--max-doc-bytes", "2kB", "--out", tmp_path / "out", "--json")
    assert code == 3
    assert json.loads(out)["totals"]["quarantined"] == 1


def test_an_empty_corpus_is_valid_unless_it_must_not_be(tmp_path):
    (tmp_path / "none.jsonl").write_text("")
    code, _, err = tersely("prepare", tmp_path / "none.jsonl", "--out", tmp_path / "out")
    assert code == 0
    assert "there were no documents" in err
    assert len(datasets.load_from_disk(str(tmp_path / "out"))) == 0
    assert tersely("verify", tmp_path / "out")[0] == 0
    assert tersely("prepare", tmp_path / "none.jsonl", "--out", tmp_path / "out", "--fail-empty")[0] == 3


def test_a_dry_run_estimates_and_writes_nothing(docs, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    code, out, _ = tersely("prepare", docs, "--dry-run")
    assert code == 0
    for name in ("tokens", "size on disk", "seconds", "dtype", "bad records", "free on disk"):
        assert name in out
    code, out, _ = tersely("prepare", docs, "--dry-run", "--out", tmp_path / "out", "--json")
    assert json.loads(out)["documents"] == len(TEXTS)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["prepare", "missing.jsonl", "--out", "o"], 1, "missing.jsonl does not exist"),
        (["prepare", "--out", "o"], 2, "no input"),
        (["prepare", "docs.jsonl"], 2, "--out is missing"),
        (["prepare", "docs.jsonl", "--sample", "--out", "o"], 2, "exclude each other"),
        (["prepare", "docs.jsonl", "--out", "o", "--tokenizer", "gpt9"], 1, "no tokenizer 'gpt9'"),
        (["prepare", "docs.jsonl", "--out", "o", "--bos"], 2, "no bos id"),
        (["prepare", "docs.jsonl", "--out", "o", "--pack", "-1"], 2, "--pack"),
        (["prepare", "docs.jsonl", "--out", "o", "--pack", "999999999999"], 2, "capacity"),
        (["prepare", "docs.jsonl", "--out", "docs.jsonl"], 1, "cannot be made"),
        (["prepare", "docs.jsonl", "--out", "/proc/none/o"], 1, "cannot be made"),
        (["inspect", "missing"], 4, "no such folder"),
        (["nothing"], 2, "nothing"),
    ],
)
def test_errors_are_one_sentence_with_the_way_out(docs, arguments, code, words):
    got, out, err = tersely(*arguments, cwd=docs.parent)
    assert got == code
    assert out == ""
    assert words in err
    assert len([line for line in err.splitlines() if line.startswith("Error")]) == 1
    assert not (docs.parent / "o").exists()


def test_inspect_shows_what_is_there(corpus):
    code, out, _ = tersely("inspect", corpus)
    assert code == 0
    for words in ("documents", "120", "best-fit into rows of 256 tokens, split", "docs.jsonl", "64  #"):
        assert words in out
    code, out, _ = tersely("inspect", corpus, "--json")
    result = json.loads(out)
    assert sum(documents for _, _, documents, _ in result["document_tokens"]["histogram"]) == 120


def test_verify_finds_a_flipped_bit_and_a_wrong_tokenizer(corpus):
    assert tersely("verify", corpus)[0] == 0
    config = corpus / "tokenizer/tersely_tokenizer.json"
    config.write_text(config.read_text().replace("byt5", "blt"))
    code, out, _ = tersely("verify", corpus)
    assert code == 4
    assert "is not the tokenizer of the manifest" in out
    path = corpus / "data-00000-00000.arrow"
    raw = path.read_bytes()
    path.write_bytes(raw[:-100] + bytes([raw[-100] ^ 1]) + raw[-99:])
    code, out, _ = tersely("verify", corpus, "--json")
    assert code == 4
    assert len(json.loads(out)["faults"]) == 3  # the shard, the tokenizer's file, and the tokenizer it makes


def test_doctor_says_what_works():
    code, out, _ = tersely("doctor", "--json")
    report = json.loads(out)
    assert code == 0
    assert report["ok"] is True
    assert report["packages"]["torch"]
    named = {check["name"]: check for check in report["checks"]}
    assert named["sdpa attention"]["detail"] == "keeps documents apart"
    assert "million documents a second" in named["planner"]["detail"]


def test_help_and_version():
    code, out, _ = tersely("--help")
    assert code == 0
    for name in ("prepare", "inspect", "verify", "doctor"):
        assert name in out
        assert tersely(name, "--help")[0] == 0
    assert tersely("--version")[1].startswith("tersely, version ")


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_signals_stop_cleanly(tmp_path, sent, code):
    process = subprocess.Popen(
        [*COMMAND, "prepare", "-", "--out", str(tmp_path / "out")],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 60
    while not (tmp_path / "out/.work/plan.json").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    time.sleep(0.2)
    process.send_signal(sent)
    process.stdin.close()
    process.stdin = None
    _, err = process.communicate(timeout=60)
    assert process.returncode == code
    assert "Stopped by" in err
    assert "To go on: " in err
    assert "Traceback" not in err
    assert not list(tmp_path.glob("out/.tmp-*"))
    assert not (tmp_path / "out/manifest.json").exists()


def test_a_terminal_sees_progress_and_a_pipe_does_not(docs, tmp_path):
    leader, follower = pty.openpty()
    done = subprocess.run(
        [*COMMAND, "prepare", str(docs), "--out", str(tmp_path / "out")],
        stdout=subprocess.PIPE,
        stderr=follower,
        check=True,
        env=os.environ | {"TERM": "xterm-256color", "COLUMNS": "100"},
    )
    os.close(follower)
    shown = os.read(leader, 100_000).decode(errors="replace")
    os.close(leader)
    assert "preparing" in shown
    assert b"preparing" not in done.stdout


def test_a_terminal_shows_names_as_they_are(docs, tmp_path):
    leader, follower = pty.openpty()
    subprocess.run(
        [*COMMAND, "prepare", str(docs), "--out", str(tmp_path / "x[bold]y[")], stdout=follower, check=True
    )
    os.close(follower)
    shown = os.read(leader, 100_000).decode(errors="replace")
    os.close(leader)
    assert "x[bold]y[" in shown.replace("\r\n", "")


def test_a_reader_that_goes_away_is_no_traceback(corpus):
    process = subprocess.Popen(
        [*COMMAND, "inspect", str(corpus)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    process.stdout.close()
    assert b"Traceback" not in process.stderr.read()
    process.wait()
    process.stderr.close()


def test_preparing_bytes_loads_neither_torch_nor_transformers(docs, tmp_path):
    code = "import sys; from tersely.cli.main import cli; "
    code += f"cli.main(['prepare', {str(docs)!r}, '--out', {str(tmp_path / 'o')!r}], standalone_mode=False); "
    code += "sys.exit(str({'torch', 'transformers', 'datasets'} & set(sys.modules)) if 'torch' in sys.modules else 0)"
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_prepare_keeps_headers_and_asked_fields(write_jsonl, tmp_path):
    from tersely.shards import ShardFolder

    (tmp_path / "genome.fa").write_text(">chr1 first\nACGTACGT\nNNacgt\n>chr2\nGATTACA\n")
    path = write_jsonl([{"text": "ACGT", "lang": "dna", "n": 1}])
    code, _, err = tersely(
        "prepare", tmp_path / "genome.fa", path, "--tokenizer", "kmer:6", "--field", "lang", "--field", "n",
        "--out", tmp_path / "out",
    )  # fmt: skip
    assert (code, err) == (0, "")
    assert ShardFolder(tmp_path / "out").document_fields.to_pydict() == {
        "header": ["chr1 first", "chr2", ""],
        "lang": ["", "", "dna"],
        "n": ["", "", "1"],
    }
    assert tersely("verify", tmp_path / "out")[0] == 0
    assert "header, lang, n" in tersely("inspect", tmp_path / "out")[1]
