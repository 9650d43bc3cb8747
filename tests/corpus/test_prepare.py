"""The main job: every record accounted for, every document decodable, every folder openable."""

import json

import datasets
import numpy as np
import pytest
import tokenizers
from small import TEXTS

from tersely import Ragged, load_tokenizer
from tersely.corpus import estimate, find_sources, prepare
from tersely.corpus.sample import SampleSource
from tersely.errors import CorpusError, TokenizeError, UsageError
from tersely.shards import ShardFolder, verify
from tersely.tokenize import ByteTokenizer, SubwordTokenizer


def run(path, out, tokenizer="bytes", **options):
    return prepare(find_sources([path])[0], out, tokenizer, **options)


def documents_of(folder):
    """The decoded documents of a prepared folder, in the order of the corpus."""
    opened = ShardFolder(folder)
    tok, kept = load_tokenizer(folder), opened.manifest.tokenizer
    found = []
    for document, length in enumerate(opened.document_lengths):
        row = tok.encode([]).from_rows([opened.tokens(document, 0, int(length))])
        found += tok.decode(row, bos=kept.bos, eos=kept.eos)
    return found


def faults(folder):
    return [fault for _, fault in verify(folder) if fault]


@pytest.mark.parametrize("strategy", ["best-fit", "first-fit", "next-fit", "concat", "mix"])
@pytest.mark.parametrize("tokenizer", ["bytes", "bytes:hnet", "bytes:evabyte", "bpe"])
def test_documents_come_back_byte_for_byte(write_jsonl, tmp_path, bpe_json, monkeypatch, strategy, tokenizer):
    monkeypatch.setattr("tersely.corpus.jsonl.BATCH_BYTES", 1000)
    path = write_jsonl([{"text": text} for text in TEXTS])
    tok = SubwordTokenizer(bpe_json, {"eos_token": "<|endoftext|>"}) if tokenizer == "bpe" else tokenizer
    manifest = run(path, tmp_path / "out", tok, capacity=50, strategy=strategy, shard_tokens=2000)
    assert documents_of(tmp_path / "out") == [text.encode() for text in TEXTS]
    assert faults(tmp_path / "out") == []
    assert len(manifest.shards) > 1
    assert (manifest.documents, manifest.records_in) == (len(TEXTS), len(TEXTS))
    assert manifest.bytes == sum(len(text.encode()) for text in TEXTS)


def test_the_tokenizer_may_be_a_path(write_jsonl, tmp_path, bpe_json):
    (tmp_path / "tokenizer.json").write_text(bpe_json)
    manifest = run(write_jsonl([{"text": "a"}]), tmp_path / "out", tmp_path / "tokenizer.json")
    assert manifest.tokenizer.spec == str(tmp_path / "tokenizer.json")


def test_datasets_opens_the_folder(corpus):
    opened = datasets.load_from_disk(str(corpus))
    manifest = ShardFolder(corpus).manifest
    assert len(opened) == manifest.rows
    assert opened.features["input_ids"].feature.dtype == "uint16"
    assert sum(len(row) for row in opened["input_ids"]) == manifest.tokens
    assert all(sum(row["seq_lengths"]) == len(row["input_ids"]) <= 256 for row in opened)
    torch_row = opened.with_format("torch")[0]["input_ids"]
    assert str(torch_row.dtype) == "torch.int64"


def test_records_are_documents_empty_or_quarantined(tmp_path):
    good, empty, bad = '{"text": "good"}', '{"text": ""}', '{"text": 7}'
    (tmp_path / "a.jsonl").write_text("\n".join([good, bad, empty, good, "", "{"]))
    (tmp_path / "b.jsonl").write_text("\n".join([good, good]))
    manifest = run(tmp_path, tmp_path / "out")
    counts = [(s.records_in, s.documents, s.empty, s.quarantined) for s in manifest.sources]
    assert counts == [(5, 2, 1, 2), (2, 2, 0, 0)]
    rejects = [json.loads(line) for line in (tmp_path / "out/quarantine.jsonl").read_text().splitlines()]
    assert [(r["source"], r["line"], r["byte"]) for r in rejects] == [
        (str(tmp_path / "a.jsonl"), 2, len(good) + 1),
        (str(tmp_path / "a.jsonl"), 6, len(f"{good}\n{bad}\n{empty}\n{good}\n\n")),
    ]
    assert faults(tmp_path / "out") == []


def test_a_document_that_panics_the_tokenizer_is_quarantined_alone(write_jsonl, tmp_path, bpe_json):
    content = json.loads(bpe_json)
    split = {"type": "Split", "pattern": {"Regex": "(a+)+b"}, "behavior": "Isolated", "invert": False}
    content["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [split, content["pre_tokenizer"]]}
    tok = SubwordTokenizer(json.dumps(content))
    path = write_jsonl([{"text": "fine"}, {"text": "a" * 400}, {"text": "also fine"}])
    manifest = run(path, tmp_path / "out", tok)
    assert (manifest.documents, manifest.quarantined) == (2, 1)
    assert documents_of(tmp_path / "out") == [b"fine", b"also fine"]
    reject = json.loads((tmp_path / "out/quarantine.jsonl").read_text())
    assert (reject["line"], reject["excerpt"]) == (2, "a" * 80)
    assert "Panic" in reject["reason"]


def test_a_document_of_no_tokens_counts_as_empty(write_jsonl, tmp_path, bpe_json):
    content = json.loads(bpe_json)
    content["normalizer"] = {"type": "Strip", "strip_left": True, "strip_right": True}
    path = write_jsonl([{"text": "   "}, {"text": "a"}])
    for eos in (True, False):
        tok = SubwordTokenizer(json.dumps(content), {"eos_token": "<|endoftext|>"})
        manifest = run(path, tmp_path / f"out{eos}", tok, eos=eos)
        assert (manifest.documents, manifest.empty, manifest.bytes) == (1, 1, 1)
        assert faults(tmp_path / f"out{eos}") == []


@pytest.mark.parametrize(
    ("overflow", "expected"),
    [("split", (1, 0, 0, 0, 20)), ("truncate", (0, 12, 0, 0, 8)), ("drop", (0, 0, 1, 20, 0))],
)
def test_overflow_is_counted(write_jsonl, tmp_path, overflow, expected):
    path = write_jsonl([{"text": "x" * 20}, {"text": "abc"}])
    manifest = run(path, tmp_path / "out", capacity=8, overflow=overflow, eos=False)
    split, truncated, dropped, dropped_tokens, kept = expected
    assert manifest.split_documents == split
    assert manifest.truncated_tokens == truncated
    assert (manifest.dropped_documents, manifest.dropped_tokens) == (dropped, dropped_tokens)
    assert manifest.tokens == kept + 3
    assert faults(tmp_path / "out") == []


def test_rows_may_be_documents(write_jsonl, tmp_path):
    manifest = run(write_jsonl([{"text": text} for text in TEXTS]), tmp_path / "out", capacity=0)
    assert manifest.rows == len(TEXTS)
    rows = datasets.load_from_disk(str(tmp_path / "out"))["input_ids"][:]
    assert rows == ByteTokenizer().encode(TEXTS, eos=True).to_list()


@pytest.mark.parametrize("content", ["", "\n\n", '{"text": ""}\n'])
@pytest.mark.parametrize("capacity", [0, 64])
def test_a_corpus_without_documents_is_valid_and_empty(tmp_path, content, capacity):
    (tmp_path / "none.jsonl").write_text(content)
    manifest = run(tmp_path / "none.jsonl", tmp_path / "out", capacity=capacity)
    assert (manifest.documents, manifest.rows, manifest.efficiency) == (0, 0, 1.0)
    assert len(datasets.load_from_disk(str(tmp_path / "out"))) == 0
    assert faults(tmp_path / "out") == []


def test_two_runs_write_the_same_bytes(write_jsonl, tmp_path, monkeypatch):
    monkeypatch.setattr("tersely.corpus.jsonl.BATCH_BYTES", 1000)
    path = write_jsonl([{"text": text} for text in TEXTS])
    for name in ("one", "two"):
        run(path, tmp_path / name, strategy="mix", capacity=64, shard_tokens=3000)
    files = sorted(p.relative_to(tmp_path / "one") for p in (tmp_path / "one").rglob("*") if p.is_file())
    assert len(files) > 6
    for file in files:
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes(), file


def test_a_failed_job_leaves_no_manifest_and_no_torn_file(write_jsonl, tmp_path, monkeypatch):
    calls = []

    def full(self, texts, **flags):
        calls.append(texts)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(ByteTokenizer, "encode", full)
    with pytest.raises(OSError, match="no room left"):
        run(write_jsonl([{"text": "a"}]), tmp_path / "out")
    assert calls
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [".work", "tokenizer"]


def test_an_out_folder_in_use_is_refused_and_left_alone(corpus, write_jsonl, tmp_path):
    before = {path: path.stat().st_mtime_ns for path in corpus.rglob("*")}
    with pytest.raises(CorpusError, match="a finished corpus"):
        run(write_jsonl([{"text": "a"}]), corpus)
    assert before == {path: path.stat().st_mtime_ns for path in corpus.rglob("*")}
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/file").write_text("keep")
    with pytest.raises(CorpusError, match="other files"):
        run(write_jsonl([{"text": "a"}]), tmp_path / "mine")
    with pytest.raises(CorpusError, match="cannot be made: File exists"):
        run(write_jsonl([{"text": "a"}]), tmp_path / "mine/file")


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        (dict(capacity=-1), UsageError, "negative"),
        (dict(strategy="tight"), UsageError, "'best-fit'"),
        (dict(overflow="wrap"), UsageError, "'split'"),
        (dict(bos=True), UsageError, "no bos id"),
        (dict(tokenizer="gpt9"), TokenizeError, "gpt9"),
    ],
)
def test_wrong_calls_are_refused_before_anything_is_written(write_jsonl, tmp_path, options, error, words):
    with pytest.raises(error, match=words):
        run(write_jsonl([{"text": "a"}]), tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_ids_that_do_not_fit_are_an_error_and_never_wrap(write_jsonl, tmp_path):
    class Lying(ByteTokenizer):
        """Says it has 100 ids, and gives more."""

        vocab_size = 100

    from tersely.errors import ShardError

    with pytest.raises(ShardError, match="does not fit a vocabulary of 100"):
        run(write_jsonl([{"text": "zzz"}]), tmp_path / "out", Lying())
    assert not (tmp_path / "out/manifest.json").exists()


def test_progress_ends_at_the_whole_input(write_jsonl, tmp_path):
    seen = []
    path = write_jsonl([{"text": text} for text in TEXTS])
    manifest = run(path, tmp_path / "out", on_progress=seen.append)
    assert seen[-1].bytes_read == seen[-1].bytes_total == path.stat().st_size
    assert (seen[-1].documents, seen[-1].tokens) == (len(TEXTS), manifest.tokens)


def test_an_estimate_of_a_small_corpus_is_exact(write_jsonl, tmp_path):
    path = write_jsonl([{"text": text} for text in TEXTS] + [{"no": "text"}])
    figures = estimate(find_sources([path])[0], ByteTokenizer(), capacity=256)
    manifest = run(path, tmp_path / "out", capacity=256)
    assert (figures.documents, figures.tokens, figures.rows) == (len(TEXTS), manifest.tokens, manifest.rows)
    assert figures.bad_share == pytest.approx(1 / (len(TEXTS) + 1))
    assert figures.dtype == "uint16"
    assert figures.output_bytes == pytest.approx(sum(shard.size for shard in manifest.shards), rel=0.3)


def test_an_estimate_of_a_large_corpus_is_close(tmp_path):
    rng = np.random.default_rng(0)
    with (tmp_path / "big.jsonl").open("w") as file:
        for _ in range(6000):
            file.write(json.dumps({"text": "word " * int(rng.integers(1, 2000))}) + "\n")
    figures = estimate(find_sources([tmp_path / "big.jsonl"])[0], ByteTokenizer(), capacity=8192)
    manifest = run(tmp_path / "big.jsonl", tmp_path / "out")
    assert figures.sampled_share < 0.9
    assert figures.tokens == pytest.approx(manifest.tokens, rel=0.05)
    assert figures.rows == pytest.approx(manifest.rows, rel=0.05)


def test_the_sample_can_be_prepared(tmp_path):
    manifest = prepare([SampleSource()], tmp_path / "out")
    assert manifest.documents > 3000
    assert manifest.efficiency > 0.99
    assert faults(tmp_path / "out") == []


def test_an_estimate_counts_what_the_tokenizer_refuses(write_jsonl, tmp_path):
    import tokenizers

    words = tokenizers.Tokenizer(tokenizers.models.WordLevel({"a": 0, "<pad>": 1}, unk_token="<none>"))
    tok = SubwordTokenizer(words.to_str())
    path = write_jsonl([{"text": "a"}] * 30 + [{"text": "b"}] * 10)
    figures = estimate(find_sources([path])[0], tok, capacity=64)
    manifest = run(path, tmp_path / "out", tok)
    assert (manifest.documents, manifest.quarantined) == (30, 10)
    assert (figures.documents, figures.bad_share) == (30, 0.25)


def test_many_refused_documents_cost_no_second_round_for_the_others(write_jsonl, tmp_path, monkeypatch):
    import tokenizers

    words = {"word": 0, "[END]": 1, "[UNK]": 2}
    stored = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="[UNK]"))
    stored.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    stored.add_special_tokens(["[END]"])
    tok, encoded = SubwordTokenizer(stored.to_str()), []
    plain = SubwordTokenizer.encode
    monkeypatch.setattr(
        SubwordTokenizer, "encode", lambda self, t, **f: encoded.extend(t) or plain(self, t, **f)
    )
    path = write_jsonl([{"text": f"word {i}" + " [END]" * (i % 3 == 0)} for i in range(90)])
    manifest = run(path, tmp_path / "out", tok)
    assert (manifest.documents, manifest.quarantined) == (60, 30)
    assert len([text for text in encoded if text.startswith("word")]) == 180
    assert "document 0" not in (tmp_path / "out/quarantine.jsonl").read_text()


def test_a_tokenizer_may_save_files_of_any_name(write_jsonl, tmp_path):
    class Named(ByteTokenizer):
        """Saves one file more."""

        def save(self, folder):
            super().save(folder)
            (folder / "my vocab.txt").write_text("x")

    run(write_jsonl([{"text": "a"}]), tmp_path / "out", Named())
    assert faults(tmp_path / "out") == []


def test_words_of_rows_are_a_column(write_jsonl, tmp_path):
    path = write_jsonl([{"text": text} for text in [*TEXTS[:40], "Ein Satz, zwei Worte!"]])
    manifest = run(path, tmp_path / "out", "words", capacity=64, words=True)
    assert manifest.columns == ["word_lengths"]
    assert faults(tmp_path / "out") == []
    opened, tok = ShardFolder(tmp_path / "out"), load_tokenizer("words")
    shard = opened.shards[0]
    ends = np.concatenate([[0], np.cumsum(shard.seq_lengths.values, dtype=np.int64)])
    for row, words in enumerate(shard.word_lengths):
        pieces = range(*shard.seq_lengths.offsets[row : row + 2])
        cut = [
            tok.words(Ragged(shard.input_ids.values[ends[p] : ends[p + 1]], [0, ends[p + 1] - ends[p]]))
            for p in pieces
        ]
        assert words.tolist() == [len(word) for piece in cut for word in piece[0]]
    with pytest.raises(UsageError, match="does not know words"):
        run(path, tmp_path / "no", "bytes", words=True)
    (tmp_path / "none.jsonl").write_text("")
    run(tmp_path / "none.jsonl", tmp_path / "empty", "words", words=True)
    assert faults(tmp_path / "empty") == []


def test_a_tokenizer_that_loses_text_is_noted(write_jsonl, tmp_path):
    path = write_jsonl([{"text": "some text"}])
    lower = tokenizers.Tokenizer(
        tokenizers.models.WordLevel({"some": 0, "text": 1, "[UNK]": 2}, unk_token="[UNK]")
    )
    lower.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    lossy = run(path, tmp_path / "lossy", SubwordTokenizer(lower.to_str()))
    assert not lossy.tokenizer.lossless
    for number, spec in enumerate(("bytes", "words", "kmer:3")):
        assert run(path, tmp_path / str(number), spec).tokenizer.lossless


def test_two_tokens_of_one_id_are_refused(bpe_json):
    content = json.loads(bpe_json)
    vocab = content["model"]["vocab"]
    vocab["zzdup"] = vocab["a"]
    with pytest.raises(TokenizeError, match="have the same id"):
        SubwordTokenizer(json.dumps(content))
