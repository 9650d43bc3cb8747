"""The on-disk format: golden bytes, refusals, and a verify that finds what is broken."""

import json
import os

import numpy as np
import pytest

from tersely import Ragged
from tersely.corpus import find_sources, prepare
from tersely.errors import ShardError
from tersely.shards import Manifest, Shard, ShardFolder, verify, write_shard
from tersely.shards.atomic import replace_file, whole_file
from tersely.shards.manifest import content_checksum
from tersely.shards.writer import file_checksum


def write_one(folder, rows=((1, 2, 3), (4,)), dtype=np.uint16, vocab_size=384, **changes):
    ids = Ragged.from_rows([np.array(row) for row in rows], np.int64)
    each = np.arange(len(rows) + 1)
    columns = dict(
        input_ids=ids,
        seq_lengths=Ragged(ids.lengths, each),
        document_ids=Ragged(each[:-1], each),
        document_starts=Ragged(0 * each[:-1], each),
        source_ids=Ragged(0 * each[:-1], each),
    )
    shard = Shard(**columns | changes)
    path = folder / "data-00000-00000.arrow"
    return write_shard(path, shard, dtype=np.dtype(dtype), vocab_size=vocab_size, documents=len(rows))


def test_golden_bytes(tmp_path):
    """Any change of these bytes is a new version of the format."""
    entry = write_one(tmp_path)
    assert (entry.name, entry.rows, entry.pieces, entry.tokens) == ("data-00000-00000.arrow", 2, 2, 4)
    raw = (tmp_path / entry.name).read_bytes()
    assert raw.startswith(b"\xff\xff\xff\xff")  # an Arrow IPC stream
    assert np.array([1, 2, 3, 4], "<u2").tobytes() in raw
    assert entry.size == len(raw)
    assert entry.xxh3_128 == file_checksum(tmp_path / entry.name)


@pytest.mark.parametrize(
    ("rows", "dtype", "vocab_size", "words"),
    [
        ([[70_000]], np.uint16, 100_000, "id 70000 does not fit"),
        ([[300]], np.uint8, 300, "does not fit"),
        ([[384]], np.uint16, 384, "vocabulary of 384"),
        ([[-1]], np.uint16, 384, "does not fit"),
    ],
)
def test_ids_that_do_not_fit_are_refused_and_nothing_is_written(tmp_path, rows, dtype, vocab_size, words):
    with pytest.raises(ShardError, match=words):
        write_one(tmp_path, rows, dtype, vocab_size)
    assert list(tmp_path.iterdir()) == []


def test_pieces_that_do_not_sum_to_their_row_are_refused(tmp_path):
    with pytest.raises(ShardError, match="do not sum"):
        write_one(tmp_path, seq_lengths=Ragged([3, 2], [0, 1, 2]))


def test_a_file_is_there_whole_or_not_at_all(tmp_path):
    path = tmp_path / "file"
    replace_file(path, b"first")
    with pytest.raises(RuntimeError), whole_file(path) as temporary:
        temporary.write_bytes(b"torn")
        raise RuntimeError
    assert path.read_bytes() == b"first"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def change(folder, **fields):
    path = folder / "manifest.json"
    content = json.loads(path.read_text())
    content.update(fields)
    content["checksum"] = content_checksum(content)
    path.write_text(json.dumps(content))


def change_shard(folder, **fields):
    content = json.loads((folder / "manifest.json").read_text())
    change(folder, shards=[content["shards"][0] | fields, *content["shards"][1:]])


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"format": "other"}, "not a tersely manifest"),
        ({"version": 3}, "version 3"),
        ({"tokenizer": None}, "wrong type"),
        ({"shards": [{"name": "x"}]}, "lacks a field"),
        ({"packing": {}}, "lacks a field"),
        ({"packing": {"capacity": "256", "strategy": "mix", "overflow": "split", "seed": 0}}, "wrong type"),
        ({"dtype": 5}, "wrong type"),
        ({"truncated_tokens": True}, "wrong type"),
        ({"files": {"../x": ""}}, "within the folder"),
        ({"columns": ["labels", "pickles"]}, "does not know"),
    ],
)
def test_manifests_that_are_not_ours_are_refused(corpus, fields, words):
    change(corpus, **fields)
    with pytest.raises(ShardError, match=words):
        ShardFolder(corpus)


@pytest.mark.parametrize("name", ["../evil.arrow", "/etc/passwd", "a/b.arrow", "", ".hidden", "..", "a\x00b"])
def test_shard_names_that_lead_elsewhere_are_refused_before_anything_is_opened(corpus, name):
    change_shard(corpus, name=name)
    with pytest.raises(ShardError, match="only plain file names"):
        ShardFolder(corpus)


def test_symlinks_duplicates_and_negative_counts_are_refused(corpus):
    entry = json.loads((corpus / "manifest.json").read_text())["shards"][0]
    change(corpus, shards=[entry, entry])
    with pytest.raises(ShardError, match="twice"):
        ShardFolder(corpus)
    change(corpus, shards=[entry | {"rows": -1}])
    with pytest.raises(ShardError, match="a count that cannot be"):
        ShardFolder(corpus)
    change(corpus, shards=[entry])
    (corpus / entry["name"]).rename(corpus.parent / "elsewhere")
    os.symlink(corpus.parent / "elsewhere", corpus / entry["name"])
    with pytest.raises(ShardError, match="symbolic link"):
        ShardFolder(corpus)
    assert "symbolic link" in faults(corpus)[0]


def test_a_manifest_that_nobody_resealed_is_refused(corpus):
    path = corpus / "manifest.json"
    path.write_text(path.read_text().replace('"eos": true', '"eos": false'))
    with pytest.raises(ShardError, match="was changed"):
        ShardFolder(corpus)
    path.write_text("[" * 100_000)
    with pytest.raises(ShardError, match="cannot be read"):
        ShardFolder(corpus)


@pytest.mark.parametrize(
    "name", ["quarantine.jsonl", "state.json", "dataset_info.json", "tokenizer/tersely_tokenizer.json"]
)
def test_every_file_of_the_folder_is_checked(corpus, name):
    (corpus / name).write_text("x")
    assert f"{name} is missing or was changed" in faults(corpus)[0]
    (corpus / name).unlink()
    assert f"{name} is missing or was changed" in faults(corpus)[0]


def test_unknown_fields_are_ignored(corpus):
    change(corpus, later="field")
    assert ShardFolder(corpus).manifest.documents == 120


def test_counts_that_do_not_add_up_are_refused(corpus):
    content = json.loads((corpus / "manifest.json").read_text())
    change(corpus, sources=[content["sources"][0] | {"records_in": 121}])
    with pytest.raises(ShardError, match="121 records were read, but 120 documents"):
        Manifest.load(corpus)


def faults(folder):
    return [fault for _, fault in verify(folder) if fault]


def test_a_sound_folder_has_no_faults(corpus):
    assert faults(corpus) == []
    names = [name for name, _ in verify(corpus)]
    assert names[:3] == ["manifest.json", "data-00000-00000.arrow", "documents"]
    assert {"state.json", "dataset_info.json", "quarantine.jsonl"} < set(names)


def test_any_flipped_bit_is_found(corpus):
    path = corpus / "data-00000-00000.arrow"
    raw = path.read_bytes()
    rng = np.random.default_rng(0)
    for place in rng.integers(0, len(raw), 20).tolist():
        path.write_bytes(raw[:place] + bytes([raw[place] ^ 1 << int(rng.integers(8))]) + raw[place + 1 :])
        assert "checksum" in faults(corpus)[0]


def test_truncated_and_missing_shards_are_found(corpus):
    path = corpus / "data-00000-00000.arrow"
    path.write_bytes(path.read_bytes()[:-8])
    assert "the manifest says" in faults(corpus)[0]
    path.unlink()
    assert "missing" in faults(corpus)[0]


def reseal(folder, **changes):
    """Rewrites the shard with other columns, and a manifest that agrees with its bytes."""
    shard = ShardFolder(folder).shards[0]
    path = folder / "data-00000-00000.arrow"
    shard = Shard(**shard.columns | changes)
    entry = write_shard(path, shard, dtype=np.dtype(np.uint16), vocab_size=65_536, documents=120)
    change_shard(folder, size=entry.size, xxh3_128=entry.xxh3_128, tokens=entry.tokens, pieces=entry.pieces)


def test_wrong_content_under_right_checksums_is_found(corpus):
    shard = ShardFolder(corpus).shards[0]
    ids = shard.input_ids.values.copy()
    ids[5] = 60_000
    reseal(corpus, input_ids=Ragged(ids, shard.input_ids.offsets))
    assert "id 60000, outside the vocabulary" in faults(corpus)[0]
    reseal(corpus, input_ids=shard.input_ids)
    starts = shard.document_starts.values.copy()
    starts[3] += 1
    reseal(corpus, document_starts=Ragged(starts, shard.document_starts.offsets))
    assert "where 0 comes next" in faults(corpus)[0]
    documents = shard.document_ids.values.copy()
    documents[documents == 7] = 8
    wrong = Ragged(documents, shard.document_ids.offsets)
    reseal(corpus, document_ids=wrong, document_starts=shard.document_starts)
    assert "document 8 has a piece at token 0" in faults(corpus)[0]
    reseal(corpus, document_ids=shard.document_ids)
    assert faults(corpus) == []


def test_rows_above_capacity_and_documents_too_few_are_found(corpus):
    content = json.loads((corpus / "manifest.json").read_text())
    change(corpus, packing=content["packing"] | {"capacity": 100})
    assert "above 100" in faults(corpus)[0]
    change(corpus, packing=content["packing"])
    change(corpus, sources=[content["sources"][0] | {"records_in": 121, "documents": 121}])
    assert "hold 120 documents, sources gave 121" in faults(corpus)[0]
    change_shard(corpus, documents=121)
    assert "120 documents are stored, the manifest says 121" in faults(corpus)[0]


def test_files_of_another_run_are_found(corpus):
    (corpus / "data-00009.arrow").write_bytes(b"")
    (corpus / ".tmp-123").write_bytes(b"")
    assert len(faults(corpus)) == 2


def test_a_folder_without_manifest_is_unfinished(tmp_path):
    assert "unfinished" in faults(tmp_path)[0]


def test_tokens_are_views_of_the_file_where_a_document_is_in_one_piece(corpus):
    folder = ShardFolder(corpus)
    document = next(d for d in range(120) if folder.pieces.first[d + 1] - folder.pieces.first[d] == 1)
    assert np.shares_memory(folder.tokens(document, 0, 5), folder.values(0))
    assert folder.tokens(document, 3, 3).size == 0


def test_caches_that_datasets_puts_into_the_folder_are_no_fault(corpus):
    import datasets

    datasets.load_from_disk(str(corpus)).map(lambda row: {"n": len(row["input_ids"])})
    assert len(list(corpus.glob("*.arrow"))) == 2
    assert faults(corpus) == []


def test_files_of_a_tokenizer_that_the_manifest_does_not_list_are_reported(corpus):
    assert [fault for _, fault in verify(corpus) if fault] == []
    (corpus / "tokenizer" / "more").mkdir()
    (corpus / "tokenizer" / "more" / "vocab.txt").write_text("a")
    (corpus / "tokenizer" / "tokenizer.json").write_text("{}")
    (corpus / "tokenizer" / "link").symlink_to(corpus)
    faults = [(name, fault) for name, fault in verify(corpus) if fault]
    assert [name for name, _ in faults] == [
        "tokenizer/link",
        "tokenizer/more/vocab.txt",
        "tokenizer/tokenizer.json",
    ]
    assert all("is not in the manifest" in fault for _, fault in faults)


def shard_of(folder):
    return ShardFolder(folder).shards[0]


def test_documents_of_no_or_of_two_sources_are_found(corpus):
    shard = shard_of(corpus)
    sources = shard.source_ids.values.copy()
    sources[3] = 1
    reseal(corpus, source_ids=Ragged(sources, shard.source_ids.offsets))
    assert "names a source outside the 1" in faults(corpus)[0]
    long = json.loads((corpus / "manifest.json").read_text())["sources"][0]
    change(corpus, sources=[long, long | {"name": "b", "records_in": 0, "documents": 0}])
    assert faults(corpus) == ["1 documents of b are stored, it gave 0"]


def test_a_document_of_two_sources_is_found(tmp_path):
    """One document in two pieces, each of another source."""
    (tmp_path / "two.jsonl").write_text(json.dumps({"text": "x" * 90}) + "\n")
    prepare(find_sources([tmp_path / "two.jsonl"])[0], tmp_path / "out", capacity=64)
    source = json.loads((tmp_path / "out/manifest.json").read_text())["sources"][0]
    change(tmp_path / "out", sources=[source, source | {"name": "b", "records_in": 0, "documents": 0}])
    reseal(tmp_path / "out", source_ids=Ragged(np.array([1, 0]), [0, 1, 2]))
    assert "a document of two sources" in faults(tmp_path / "out")[0]


def test_wrong_labels_and_words_are_found(corpus):
    shard = shard_of(corpus)
    labels = shard.input_ids.values.astype(np.int32)
    labels[::3] = -100
    right = Ragged(labels, shard.input_ids.offsets)
    words = Ragged(np.ones(len(labels), np.int32), shard.input_ids.offsets)
    reseal(corpus, labels=right, word_lengths=words)
    change(corpus, columns=["labels", "word_lengths"])
    assert faults(corpus) == []
    assert ShardFolder(corpus).tokens(0, 0, 5, "labels").tolist() == _labels_of(corpus, 5)
    wrong = labels.copy()
    wrong[1] += 1
    reseal(corpus, labels=Ragged(wrong, shard.input_ids.offsets), word_lengths=words)
    assert "a label that is neither its id nor -100" in faults(corpus)[0]
    with pytest.raises(ShardError, match="word_lengths do not sum"):
        reseal(corpus, word_lengths=Ragged(words.values + 1, words.offsets))
    with pytest.raises(ShardError, match="one label for each id"):
        reseal(corpus, labels=Ragged([1], [0, 1]), word_lengths=words)


def _labels_of(folder, count):
    """The first labels of document 0, found the slow way."""
    shard = shard_of(folder)
    for row in range(len(shard.input_ids)):
        for piece, document in enumerate(shard.document_ids[row]):
            if document == 0 and shard.document_starts[row][piece] == 0:
                start = int(shard.seq_lengths[row][:piece].sum())
                return shard.labels[row][start : start + count].tolist()
    raise AssertionError
