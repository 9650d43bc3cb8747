"""The training job: one file for one corpus, honest figures, nothing half written."""

import json
import subprocess
import sys

import pytest
from small import TEXTS

from tersely import load_tokenizer
from tersely.corpus import Settings, find_sources, train
from tersely.corpus.blocks import BlockSample
from tersely.errors import CorpusError, UsageError

DOCS = [f"{text} the end of the day, at the end of number {i}" for i, text in enumerate(TEXTS * 4)]


@pytest.fixture
def sources(write_jsonl):
    records = [{"text": text, "lang": "ab"[i % 2]} for i, text in enumerate(DOCS)]
    return find_sources([write_jsonl(records)], fields=["lang"])[0]


KINDS = [{"kind": "bpe"}, {"kind": "bpe", "superwords": True}, {"kind": "wordpiece"}, {"kind": "unigram"}]


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_figures_are_those_of_encoding_the_corpus(sources, tmp_path, kind):
    report = train(sources, tmp_path / "t.json", Settings(vocab_size=300, **kind), by="lang")
    tok = load_tokenizer(tmp_path / "t.json")
    assert tok.vocab_size == report.vocab_size <= 300
    size = sum(len(text.encode()) for text in DOCS)
    assert report.documents == report.records == len(DOCS)
    assert report.measures.bytes == report.measures.sampled_bytes == size
    ids = tok.encode(DOCS)
    assert report.measures.bytes_per_token == pytest.approx(size / len(ids.values))
    assert report.measures.used_tokens == len(set(ids.values.tolist()))
    for share in report.measures.values:
        docs = DOCS["ab".index(share.name) :: 2]
        size = sum(len(text.encode()) for text in docs)
        assert share.bytes == size
        assert share.bytes_per_token == pytest.approx(size / len(tok.encode(docs).values))
    assert [share.name for share in report.measures.sources] == [sources[0].name]
    if kind["kind"] != "wordpiece":
        assert tok.decode(ids) == [text.encode() for text in DOCS]


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_the_file_does_not_depend_on_files_or_order(write_jsonl, sources, tmp_path, kind):
    settings = Settings(vocab_size=300, **kind)
    train(sources, tmp_path / "one.json", settings)
    backwards = [{"text": text} for text in reversed(DOCS)]
    for name, part in (("a.jsonl", backwards[:100]), ("b.jsonl", backwards[100:])):
        write_jsonl(part, name)
    parts = find_sources([tmp_path / "b.jsonl", tmp_path / "a.jsonl"])[0]
    train(parts, tmp_path / "two.json", settings)
    assert (tmp_path / "one.json").read_bytes() == (tmp_path / "two.json").read_bytes()


def test_the_file_does_not_depend_on_memory_or_the_hash_seed(sources, tmp_path, monkeypatch):
    train(sources, tmp_path / "one.json", Settings(kind="bpe", vocab_size=300))
    from tersely.tokenize.train import count

    monkeypatch.setattr(count, "empty_table", lambda memory, make=count.empty_table: make(1))
    report = train(sources, tmp_path / "two.json", Settings(kind="bpe", vocab_size=300))
    assert report.spilled
    code = "import sys; from tersely.corpus import *; "
    code += "train(find_sources(sys.argv[1:2])[0], sys.argv[2], Settings(kind='bpe', vocab_size=300))"
    command = [sys.executable, "-P", "-c", code, sources[0].name, str(tmp_path / "three.json")]
    subprocess.run(command, check=True, env={"PYTHONHASHSEED": "7", "PYTHONPATH": ":".join(sys.path)})
    one, two, three = ((tmp_path / f"{name}.json").read_bytes() for name in ("one", "two", "three"))
    assert one == two == three


def test_records_that_are_no_documents_are_counted_and_named(write_jsonl, tmp_path):
    path = write_jsonl([{"text": "good words"}] * 9 + [{"text": None}])
    report = train(find_sources([path])[0], tmp_path / "t.json", Settings(kind="bpe", vocab_size=300))
    assert (report.documents, report.records, report.rejected) == (9, 10, 1)
    assert report.reasons == [f"{path}:10: the field 'text' is null, not a string"]


def test_an_existing_file_is_kept(sources, tmp_path):
    (tmp_path / "t.json").write_text("mine")
    with pytest.raises(CorpusError, match="exists"):
        train(sources, tmp_path / "t.json", Settings(kind="bpe", vocab_size=300))
    assert (tmp_path / "t.json").read_text() == "mine"


def test_an_interrupted_job_leaves_nothing(sources, tmp_path):
    def interrupt(progress):
        if progress.stage == "merging":
            raise KeyboardInterrupt

    (tmp_path / "out").mkdir()
    with pytest.raises(KeyboardInterrupt):
        train(sources, tmp_path / "out/t.json", Settings(kind="bpe", vocab_size=300), on_progress=interrupt)
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"kind": "bpe", "vocab_size": 100}, "too small"),
        ({"kind": "bpe", "vocab_size": 1 << 24}, "below"),
        ({"kind": "bpe", "vocab_size": 300, "memory": 1000}, "too little"),
        ({"kind": "unigram", "vocab_size": 300, "superwords": True}, "superwords"),
        ({"kind": "word", "vocab_size": 300}, "'wordpiece'"),
    ],
)
def test_settings_that_cannot_be_are_refused(options, words):
    with pytest.raises(UsageError, match=words):
        Settings(**options)


def test_a_sample_does_not_depend_on_order_and_keeps_its_bound():
    texts = [f"{i} " * (i % 50) for i in range(2000)]
    samples = []
    for order in (texts, texts[::-1]):
        sample = BlockSample(10_000)
        for text in order:
            sample.add(text)
        samples.append([text for batch in sample.texts() for text in batch])
        assert sample.bytes == sum(map(len, texts))
    assert samples[0] == samples[1]
    assert 2_500 < sum(map(len, samples[0])) <= 10_000


def test_many_languages_share_the_sample(write_jsonl, tmp_path):
    records = [{"text": f"words of {i} " * 40, "lang": f"l{i % 700}"} for i in range(1400)]
    sources = find_sources([write_jsonl(records)], fields=["lang"])[0]
    settings = Settings(kind="bpe", vocab_size=300, memory=1 << 24)
    report = train(sources, tmp_path / "t.json", settings, by="lang")
    assert "(others)" in {share.name for share in report.measures.values}
    assert report.measures.bytes == sum(len(record["text"]) for record in records)
    assert json.loads((tmp_path / "t.json").read_text())["model"]["type"] == "BPE"
