"""Finding documents in shards: whole, in order, and without holding every shard."""

import os
import pickle
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from folders import PER_DOCUMENT, some_lengths, write_folder
from hypothesis import given
from hypothesis import strategies as st

from tersely.errors import ShardError
from tersely.ragged import Ragged
from tersely.shards import Manifest, Shard, ShardEntry, ShardFolder, finish_folder
from tersely.shards.index import index_pieces


def stored_documents(folder):
    lengths = folder.document_lengths
    return [folder.tokens(document, 0, int(length)).tolist() for document, length in enumerate(lengths)]


def test_every_document_is_found_whole_though_it_is_cut_and_shuffled(tmp_path):
    shards = [some_lengths(40), [], some_lengths(25, seed=1), [500]]
    folder = ShardFolder(write_folder(tmp_path / "out", shards))
    lengths = [length for shard in shards for length in shard]
    assert folder.document_lengths.tolist() == lengths
    assert stored_documents(folder) == [
        list(range(d * PER_DOCUMENT, d * PER_DOCUMENT + length)) for d, length in enumerate(lengths)
    ]
    assert folder.document_ids.tolist() == list(range(len(lengths)))


def shard_of(document, start):
    """A shard with a row, of one token, for each piece."""
    count = np.arange(len(document) + 1)
    names = ("input_ids", "seq_lengths", "document_ids", "document_starts", "source_ids")
    columns = (0 * count[:-1], 0 * count[:-1] + 1, document, start, 0 * count[:-1])
    return Shard(**{n: Ragged(np.array(c, np.int64), count) for n, c in zip(names, columns, strict=True)})


def entry_of(pieces, documents):
    return ShardEntry(
        name="s", rows=pieces, pieces=pieces, tokens=pieces, documents=documents, size=0, xxh3_128=""
    )


@given(shards=st.lists(st.lists(st.integers(0, 4), max_size=6), max_size=4), seed=st.integers(0, 99))
def test_pieces_are_in_the_order_of_documents_and_of_their_starts(shards, seed):
    rng = np.random.default_rng(seed)
    parts, entries, expected = [], [], []
    for number, pieces_of in enumerate(shards):
        pieces = [(d, s) for d, count in enumerate(pieces_of) for s in range(count)]
        rng.shuffle(pieces)
        parts.append(shard_of([d for d, _ in pieces], [s for _, s in pieces]))
        entries.append(entry_of(len(pieces), len(pieces_of)))
        order = sorted(range(len(pieces)), key=pieces.__getitem__)
        stored = [[(number, i) for i in order if pieces[i][0] == d] for d in range(len(pieces_of))]
        expected += [places for places in stored if places]
    found = index_pieces(parts, entries)
    places = list(zip(found.shard.tolist(), found.offset.tolist(), strict=True))
    assert [places[i:j] for i, j in zip(found.first[:-1], found.first[1:], strict=True)] == expected


def test_a_document_that_the_shard_does_not_have_is_refused():
    with pytest.raises(ShardError, match="outside the 2"):
        index_pieces([shard_of([0, 2], [0, 0])], [entry_of(2, 2)])


def many_shards(path, count):
    """A folder of ``count`` equal shards."""
    write_folder(path, [[3, 70]])
    manifest = Manifest.load(path)
    entry = manifest.shards[0]
    names = [f"data-{i:05d}-00000.arrow" for i in range(count)]
    for name in names[1:]:
        shutil.copy(path / entry.name, path / name)
    source = replace(manifest.sources[0], records_in=2 * count, documents=2 * count)
    shards = [replace(entry, name=name) for name in names]
    finish_folder(path, replace(manifest, sources=[source], shards=shards))
    return path


def test_shards_are_mapped_when_they_are_read_and_hold_no_descriptor(tmp_path):
    opened = ShardFolder(many_shards(tmp_path / "out", 300))
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    assert len(opened.document_lengths) == 600
    assert len(mapped(tmp_path)) == 0
    assert opened.tokens(599, 68, 70).tolist() == [1068, 1069]
    assert stored_documents(opened)[:2] == stored_documents(opened)[598:]
    if before:
        assert len(os.listdir("/proc/self/fd")) == before
        assert 0 < len(mapped(tmp_path)) <= 300


def mapped(path):
    try:
        with open("/proc/self/maps") as lines:
            return {line.split()[-1] for line in lines if str(path) in line}
    except OSError:
        return set()


def test_rows_are_found_in_the_shard_that_has_them(tmp_path):
    opened = ShardFolder(write_folder(tmp_path / "out", [[3, 70], [], [5]]))
    rows = [opened.row(row) for row in range(opened.manifest.rows)]
    stored = [shard.input_ids[row] for shard in opened.shards for row in range(len(shard.input_ids))]
    assert [row.input_ids.values.tolist() for row in rows] == [row.tolist() for row in stored]
    assert {place.document for row in rows for place in row.places} == {0, 1, 2}
    with pytest.raises(IndexError, match="row 4 of 4"):
        opened.row(opened.manifest.rows)


def test_it_is_sent_to_other_processes_as_its_path(tmp_path):
    opened = ShardFolder(write_folder(tmp_path / "out", [some_lengths(30)]))
    expected = stored_documents(opened)
    sent = pickle.dumps(opened)
    assert len(sent) < 500
    assert stored_documents(pickle.loads(sent)) == expected


def test_a_shard_that_shrinks_after_opening_is_noticed_before_it_is_mapped(tmp_path):
    opened = ShardFolder(write_folder(tmp_path / "out", [[3], [5]]))
    os.truncate(tmp_path / "out" / "data-00000-00001.arrow", 10)
    assert opened.values(0).tolist() == [0, 1, 2]
    with pytest.raises(ShardError, match="has 10 bytes"):
        opened.values(1)


def test_reading_shards_does_not_load_pandas(tmp_path):
    write_folder(tmp_path / "out", [[3]])
    code = "import sys; from tersely.shards import ShardFolder; folder = ShardFolder(sys.argv[1]); "
    code += "folder.tokens(0, 0, 3); folder.row(0); sys.exit('pandas' in sys.modules)"
    done = subprocess.run([sys.executable, "-P", "-c", code, tmp_path / "out"], check=False)
    assert done.returncode == 0


def test_labels_are_read_like_ids(tmp_path):
    opened = ShardFolder(write_folder(tmp_path / "out", [[100, 7]], labels=True))
    ids = opened.tokens(0, 60, 70)
    labels = opened.tokens(0, 60, 70, "labels")
    assert labels.dtype == np.int32
    assert labels.tolist() == [i if i % 2 == 0 else -100 for i in ids.tolist()]
