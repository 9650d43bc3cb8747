"""documents-*.arrow: a row of strings for each document, kept by prepare, checked by verify."""

import json

import pyarrow as pa
import pytest
from small import TEXTS

from tersely.corpus import find_sources, prepare
from tersely.errors import ShardError
from tersely.shards import ShardFolder, fields, verify
from tersely.shards.manifest import content_checksum
from tersely.shards.writer import file_checksum

NAME = "documents-00000-00000.arrow"


def run(inputs, out, tokenizer="bytes", names=(), **options):
    return prepare(find_sources(inputs, fields=names)[0], out, tokenizer, **options)


def faults(folder):
    return [fault for _, fault in verify(folder) if fault]


@pytest.fixture
def headed(tmp_path):
    """A prepared folder of three sequences with headers."""
    (tmp_path / "seq.fa").write_text(">one\nACGT\n>two\n>three and more\nNNNN\n>four\nA\n")
    run([tmp_path / "seq.fa"], tmp_path / "out")
    return tmp_path / "out"


def test_headers_are_those_of_the_documents_that_are_there(headed):
    opened = ShardFolder(headed)
    assert opened.document_fields.to_pydict() == {"header": ["one", "three and more", "four"]}
    assert opened.manifest.empty == 1
    assert faults(headed) == []


def test_fields_stay_with_their_documents(write_jsonl, tmp_path, monkeypatch):
    monkeypatch.setattr("tersely.corpus.jsonl.BATCH_BYTES", 1000)
    monkeypatch.setattr(fields, "_BATCH_ROWS", 7)
    records = [{"text": text, "lang": f"lang {i}", "n": i} for i, text in enumerate(TEXTS)]
    for i in (3, 50, 119):
        records.insert(i, {"text": "", "lang": "of an empty record"})
        records.insert(i, {"text": None, "lang": "of a bad record"})
    run([write_jsonl(records)], tmp_path / "out", names=["n", "lang"], capacity=64, shard_tokens=2000)
    opened = ShardFolder(tmp_path / "out")
    assert opened.document_fields.to_pydict() == {
        "n": [str(i) for i in range(len(TEXTS))],
        "lang": [f"lang {i}" for i in range(len(TEXTS))],
    }
    assert opened.document_fields.column("n").num_chunks > 10
    assert faults(tmp_path / "out") == []


def test_fields_of_documents_that_the_tokenizer_refuses_are_left_out(write_jsonl, tmp_path):
    import tokenizers

    from tersely.tokenize import SubwordTokenizer

    words = tokenizers.Tokenizer(tokenizers.models.WordLevel({"a": 0, "<pad>": 1}, unk_token="<none>"))
    path = write_jsonl([{"text": "ab"[i % 2], "n": i} for i in range(10)])
    run([path], tmp_path / "out", SubwordTokenizer(words.to_str()), ["n"])
    assert ShardFolder(tmp_path / "out").document_fields.to_pydict() == {"n": list("02468")}


def test_document_ids_lead_from_stored_documents_to_their_fields(write_jsonl, tmp_path):
    path = write_jsonl([{"text": "x" * length, "n": length} for length in (3, 50, 4, 60, 5)])
    manifest = run([path], tmp_path / "out", names=["n"], capacity=8, overflow="drop", eos=False)
    opened = ShardFolder(tmp_path / "out")
    assert manifest.dropped_documents == 2
    assert opened.document_ids.tolist() == [0, 2, 4]
    stored = opened.document_fields.column("n").take(opened.document_ids).to_pylist()
    assert stored == [str(length) for length in opened.document_lengths]
    assert faults(tmp_path / "out") == []


def test_sources_with_different_fields_share_the_table(write_jsonl, tmp_path):
    (tmp_path / "seq.fa").write_text(">one\nACGT\n")
    path = write_jsonl([{"text": "a", "lang": "en"}])
    run([tmp_path / "seq.fa", path], tmp_path / "out", names=["lang"])
    assert ShardFolder(tmp_path / "out").document_fields.to_pylist() == [
        {"header": "one", "lang": ""},
        {"header": "", "lang": "en"},
    ]


def test_a_folder_without_fields_has_no_such_file(corpus):
    assert not (corpus / NAME).exists()
    assert NAME not in ShardFolder(corpus).manifest.files
    assert ShardFolder(corpus).document_fields.num_columns == 0


def test_asked_fields_of_an_empty_corpus_are_an_empty_table(tmp_path):
    (tmp_path / "none.jsonl").write_text("")
    run([tmp_path / "none.jsonl"], tmp_path / "out", names=["lang"])
    assert ShardFolder(tmp_path / "out").document_fields.to_pydict() == {"lang": []}
    assert faults(tmp_path / "out") == []


def test_a_failed_job_leaves_no_torn_file(tmp_path):
    with pytest.raises(UnicodeEncodeError):
        fields.write_fields(tmp_path / NAME, {"lang": ["en", "\udc80"]})
    assert list(tmp_path.iterdir()) == []


def rewrite(folder, table):
    """Puts another table there, with a manifest that names its checksum."""
    path = folder / NAME
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    content = json.loads((folder / "manifest.json").read_text())
    content["files"][path.name] = file_checksum(path)
    content["checksum"] = content_checksum(content)
    (folder / "manifest.json").write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("table", "words"),
    [
        (pa.table({"header": ["one", "two"]}), "2 rows, the manifest says 3 documents"),
        (pa.table({"header": [1, 2, 3]}), "does not hold strings"),
    ],
)
def test_tables_that_do_not_fit_are_refused_and_found(headed, table, words):
    rewrite(headed, table)
    with pytest.raises(ShardError, match=words):
        _ = ShardFolder(headed).document_fields
    assert len(faults(headed)) == 1
    assert words in faults(headed)[0]


def test_strings_that_are_not_utf8_are_found(headed):
    broken = pa.array([b"\xff", b"", b""]).view(pa.string())
    rewrite(headed, pa.table({"header": broken}))
    assert len(faults(headed)) == 1
    assert "UTF8" in faults(headed)[0]


def test_a_missing_changed_or_stray_file_is_found(headed, corpus):
    path = headed / NAME
    content = path.read_bytes()
    path.write_bytes(content[:-20] + b"x" + content[-19:])
    assert "was changed" in faults(headed)[0]
    path.write_bytes(content[:40])
    with pytest.raises(ShardError, match="not readable"):
        _ = ShardFolder(headed).document_fields
    path.unlink()
    assert "is missing" in faults(headed)[0]
    with pytest.raises(ShardError, match="missing"):
        _ = ShardFolder(headed).document_fields
    (corpus / NAME).write_bytes(content)
    assert "not in the manifest" in faults(corpus)[0]
