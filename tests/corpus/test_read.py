"""Readers: every record becomes a document or is rejected with its place, whatever is wrong with it."""

import bz2
import gzip
import io
import json
import re
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tersely.corpus import find_sources
from tersely.corpus.files import ByteStream
from tersely.corpus.sample import SampleSource
from tersely.errors import CorpusError, UsageError


def zstd(content):
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(content)
    return sink.getvalue().to_pybytes()


PACKERS = {"": bytes, ".gz": gzip.compress, ".zst": zstd, ".bz2": bz2.compress}


def read(path, **options):
    """All texts, and all rejected records, of one input."""
    batches = [batch for source in find_sources([path], **options)[0] for batch in source.batches()]
    return [text for b in batches for text in b.texts], [r for b in batches for r in b.rejected], batches


def lines(*records):
    return b"".join(
        record if isinstance(record, bytes) else json.dumps(record).encode() for record in records
    )


@pytest.mark.parametrize("ending", PACKERS)
def test_jsonl_plain_and_compressed(tmp_path, ending):
    path = tmp_path / f"docs.jsonl{ending}"
    texts = [f"text {i} \u00e9" for i in range(1000)]
    path.write_bytes(PACKERS[ending](b"".join(json.dumps({"text": t}).encode() + b"\n" for t in texts)))
    got, rejected, batches = read(path)
    assert got == texts
    assert not rejected
    assert batches[-1].bytes_read == path.stat().st_size


BAD = {
    "malformed": (b'{"text": "a"', "not JSON"),
    "missing": (b'{"id": 1, "body": "x"}', "no field 'text' (fields: 'id', 'body')"),
    "null": (b'{"text": null}', "is null"),
    "number": (b'{"text": 5}', "is number"),
    "array": (b"[1, 2]", "JSON array"),
    "string": (b'"alone"', "JSON string"),
    "invalid UTF-8": (b'{"text": "a\xffb"}', "invalid UTF-8 at byte 11"),
    "too deep": (b"[" * 100_000, "not JSON"),
}


@pytest.mark.parametrize("name", BAD)
def test_one_bad_line_is_rejected_alone_with_its_place(tmp_path, name):
    record, reason = BAD[name]
    good = b'{"text": "good"}\n'
    path = tmp_path / "docs.jsonl"
    path.write_bytes(good * 500 + record + b"\n" + good * 499)
    texts, rejected, _ = read(path)
    assert texts == ["good"] * 999
    assert len(rejected) == 1
    assert (rejected[0].line, rejected[0].byte) == (501, 500 * len(good))
    assert reason in rejected[0].reason
    assert len(rejected[0].sha256) == 64
    assert path.read_bytes()[rejected[0].byte :].startswith(record)


@given(
    st.lists(st.one_of(st.text(max_size=20), st.sampled_from([None, b"{", b"", b"  ", b"\xff"])), max_size=30)
)
def test_every_line_is_a_document_or_rejected_in_any_blocks(tmp_path_factory, items):
    raw = b"".join(
        (item if isinstance(item, bytes) else json.dumps({"text": item}).encode()) + b"\n" for item in items
    )
    path = tmp_path_factory.mktemp("lines") / "docs.jsonl"
    path.write_bytes(raw)
    texts, rejected, _ = read(path)
    assert texts == [item for item in items if isinstance(item, str)]
    assert len(rejected) == sum(item is None or item in (b"{", b"\xff") for item in items)


def test_a_last_line_without_newline_counts(tmp_path):
    path = tmp_path / "docs.jsonl"
    path.write_bytes(b'{"text": "a"}\n{"text": "b"}')
    assert read(path)[0] == ["a", "b"]


def test_lines_longer_than_a_block_are_whole(tmp_path, monkeypatch):
    monkeypatch.setattr("tersely.corpus.files._BLOCK", 64)
    path = tmp_path / "docs.jsonl"
    texts = ["x" * n for n in (1, 500, 40, 64, 63, 65, 3)]
    path.write_text("".join(json.dumps({"text": t}) + "\n" for t in texts))
    assert read(path)[0] == texts


def test_blank_lines_a_byte_order_mark_and_windows_ends_are_no_faults(tmp_path):
    path = tmp_path / "docs.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"text": "a"}\r\n\r\n   \n{"text": "b"}\r\n')
    assert read(path)[:2] == (["a", "b"], [])


def test_lone_surrogates_are_replaced_and_counted_and_nul_is_kept(tmp_path):
    path = tmp_path / "docs.jsonl"
    path.write_bytes(
        b'{"text": "a\\ud83d b"}\n{"text": "\\ud83d\\ude00"}\n{"text": "\\u0000"}\n{"text": "n", "x": NaN}\n'
    )
    texts, rejected, batches = read(path)
    assert texts == ["a\ufffd b", "\U0001f600", "\x00", "n"]
    assert not rejected
    assert sum(batch.repaired for batch in batches) == 1


def test_a_line_above_the_limit_is_rejected_in_bounded_memory(tmp_path, monkeypatch):
    monkeypatch.setattr("tersely.corpus.files._BLOCK", 256)
    path = tmp_path / "docs.jsonl"
    long = json.dumps({"text": "x" * 5000})
    path.write_text('{"text": "a"}\n' + long + '\n{"text": "b"}\n' + long)
    texts, rejected, _ = read(path, max_record_bytes=1000)
    assert texts == ["a", "b"]
    assert [(r.line, r.byte) for r in rejected] == [(2, 14), (4, 14 + len(long) + 1 + 14)]
    assert f"{len(long)} bytes" in rejected[0].reason


def records(n):
    return b"".join(json.dumps({"text": f"{i * 7919 % 104729} text {i}"}).encode() + b"\n" for i in range(n))


@pytest.mark.parametrize("ending", [".gz", ".zst", ".bz2"])
@pytest.mark.parametrize("kept", [0.01, 0.5, 0.99, -1])
def test_a_truncated_archive_says_so_and_keeps_what_came_before(tmp_path, ending, kept):
    whole = PACKERS[ending](records(20_000))
    path = tmp_path / f"docs.jsonl{ending}"
    path.write_bytes(whole[: int(len(whole) * kept) if kept > 0 else kept])
    texts, rejected, batches = read(path)
    assert texts == [f"{i * 7919 % 104729} text {i}" for i in range(len(texts))]
    assert len(texts) > {".gz": 20_000 * kept - 2000, ".zst": 20_000 * kept - 8000, ".bz2": -1}[ending]
    assert not rejected
    assert "breaks off" in batches[-1].fault
    assert batches[-1].lines_read == len(texts)
    assert not batches[-1].complete


@pytest.mark.parametrize("ending", [".gz", ".zst"])
@pytest.mark.parametrize("tail", [b"\n", b"\0" * 512, b"garbage"])
def test_what_follows_an_archive_costs_no_record_before_it(tmp_path, ending, tail):
    path = tmp_path / f"docs.jsonl{ending}"
    archive = PACKERS[ending](records(3000))
    path.write_bytes(archive + tail)
    texts, rejected, batches = read(path)
    assert (len(texts), rejected) == (3000, [])
    place = int(re.search(r"at its byte (\d+)", batches[-1].fault)[1])
    assert (
        len(archive) < place <= len(archive) + 5
    )  # it is noticed within the few bytes that an archive begins with


def test_text_that_begins_like_an_archive_is_text(tmp_path):
    (tmp_path / "a.txt").write_text("BZhang Wei wrote this.")
    (tmp_path / "b.txt").write_text("")
    assert read(tmp_path)[0] == ["BZhang Wei wrote this.", ""]


def test_a_zstd_archive_may_begin_with_a_skippable_frame(tmp_path):
    frame = b"\x50\x2a\x4d\x18" + (4).to_bytes(4, "little") + b"meta"
    (tmp_path / "docs.jsonl.zst").write_bytes(frame + zstd(records(10)))
    assert len(read(tmp_path / "docs.jsonl.zst")[0]) == 10


@pytest.mark.parametrize("ending", [".gz", ".zst"])
def test_archives_of_several_members_are_read_to_the_end(tmp_path, ending):
    path = tmp_path / f"docs.jsonl{ending}"
    path.write_bytes(b"".join(PACKERS[ending](b'{"text": "%d"}\n' % i) for i in range(5)))
    assert read(path)[0] == list("01234")


def test_compression_is_told_by_content_and_not_by_name(tmp_path):
    path = tmp_path / "docs.jsonl"
    path.write_bytes(gzip.compress(b'{"text": "a"}\n'))
    assert read(path)[0] == ["a"]


def test_a_text_file_is_one_document(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfline 1\nline 2\n")
    (tmp_path / "b.txt.gz").write_bytes(gzip.compress(b"zipped"))
    (tmp_path / "c.txt").write_bytes(b"bad \xff")
    (tmp_path / "d.txt").write_bytes(b"")
    texts, rejected, _ = read(tmp_path)
    assert texts == ["line 1\nline 2\n", "zipped", ""]
    assert [r.reason for r in rejected] == ["invalid UTF-8 at byte 4"]


@pytest.mark.parametrize(
    "kind", [pa.string(), pa.large_string(), pa.binary(), pa.dictionary(pa.int32(), pa.string())]
)
def test_a_parquet_row_is_a_document(tmp_path, kind):
    values = ["one", None, "", "\u00e9"] * 700
    column = pa.array(values, pa.string()).cast(kind)
    pq.write_table(pa.table({"id": range(len(values)), "text": column}), tmp_path / "docs.parquet")
    texts, rejected, _ = read(tmp_path / "docs.parquet")
    assert texts == [value for value in values if value is not None]
    assert [r.line for r in rejected] == [i + 1 for i, value in enumerate(values) if value is None]


def test_a_parquet_value_that_is_not_utf8_is_rejected_alone(tmp_path):
    pq.write_table(pa.table({"text": pa.array([b"ok", b"\xff"])}), tmp_path / "docs.parquet")
    texts, rejected, _ = read(tmp_path / "docs.parquet")
    assert texts == ["ok"]
    assert rejected[0].reason == "invalid UTF-8 at byte 0"


def test_a_broken_parquet_file_is_a_fault(tmp_path):
    (tmp_path / "docs.parquet").write_bytes(b"PAR1 nonsense PAR1")
    texts, rejected, batches = read(tmp_path / "docs.parquet")
    assert texts == []
    assert not rejected
    assert "cannot be read as Parquet" in batches[-1].fault


def test_a_missing_parquet_column_is_a_wrong_call(tmp_path):
    pq.write_table(pa.table({"body": ["a"], "n": [1]}), tmp_path / "docs.parquet")
    with pytest.raises(UsageError, match=r"columns: body, n\): use --text-field"):
        read(tmp_path / "docs.parquet")
    with pytest.raises(UsageError, match="int64, not text"):
        read(tmp_path / "docs.parquet", text_field="n")
    assert read(tmp_path / "docs.parquet", text_field="body")[0] == ["a"]


def test_folders_are_read_in_order_and_other_files_reported(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / ".hidden").mkdir()
    for name in ("b.jsonl", "sub/a.ndjson", ".hidden/c.jsonl"):
        (tmp_path / name).write_text(json.dumps({"text": name}) + "\n")
    (tmp_path / "notes.md").write_text("other")
    sources, passed_over = find_sources([tmp_path])
    assert [text for source in sources for batch in source.batches() for text in batch.texts] == [
        "b.jsonl",
        "sub/a.ndjson",
    ]
    assert passed_over == [tmp_path / ".hidden/c.jsonl", tmp_path / "notes.md"]
    every, none = find_sources([tmp_path], input_format="text")
    assert (len(every), none) == (3, [tmp_path / ".hidden/c.jsonl"])


def test_standard_input_is_json_lines_also_compressed(monkeypatch):
    class Stdin:
        buffer = io.BytesIO(gzip.compress(b'{"text": "piped"}\n'))

    monkeypatch.setattr(sys, "stdin", Stdin)
    assert read("-")[0] == ["piped"]


@pytest.mark.parametrize(
    ("inputs", "error", "words"),
    [
        (["missing.jsonl"], CorpusError, "does not exist"),
        (["notes.md"], UsageError, "use --input-format"),
        (["empty"], CorpusError, "holds no file"),
        (["a.jsonl", "a.jsonl"], UsageError, "given twice"),
        ([], UsageError, "no input"),
    ],
)
def test_inputs_that_cannot_be_meant_are_refused(tmp_path, monkeypatch, inputs, error, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes.md").write_text("x")
    (tmp_path / "a.jsonl").write_text("")
    (tmp_path / "empty").mkdir()
    with pytest.raises(error, match=words):
        find_sources(inputs)


def test_parquet_is_not_taken_from_standard_input():
    with pytest.raises(UsageError, match="standard input"):
        find_sources(["-"], input_format="parquet")


def test_a_file_that_cannot_be_opened_is_named(tmp_path):
    with pytest.raises(CorpusError, match=r"gone\.jsonl"):
        ByteStream(tmp_path / "gone.jsonl")


def test_the_sample_is_the_standard_library():
    source = SampleSource()
    batches = list(source.batches())
    texts = [text for batch in batches for text in batch.texts]
    assert len(texts) > 3000
    assert any(text.startswith('"""Random variable generators') for text in texts)  # random.py itself
    assert any(text.startswith("Random variable generators") for text in texts)  # and its docstring
    assert batches[-1].bytes_read == source.size


def test_a_file_that_cannot_be_read_does_not_cost_the_others(tmp_path, monkeypatch):
    for name in "abc":
        (tmp_path / f"{name}.jsonl").write_text(json.dumps({"text": name}) + "\n")
    sources, _ = find_sources([tmp_path])
    (tmp_path / "b.jsonl").unlink()
    batches = [batch for source in sources for batch in source.batches()]
    assert [text for batch in batches for text in batch.texts] == ["a", "c"]
    assert [batch.fault for batch in batches if batch.fault] == [
        f"{tmp_path / 'b.jsonl'} cannot be read: No such file or directory"
    ]


def test_parquet_columns_are_checked_before_anything_is_read(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "a"}\n')
    pq.write_table(pa.table({"text": pa.array([{"x": 1}])}), tmp_path / "b.parquet")
    with pytest.raises(UsageError, match="struct"):
        find_sources([tmp_path])
    pq.write_table(pa.Table.from_arrays([pa.array(["a"])] * 2, ["text", "text"]), tmp_path / "b.parquet")
    with pytest.raises(UsageError, match="several columns"):
        find_sources([tmp_path])


def test_a_parquet_column_of_nulls_is_rejected_row_by_row(tmp_path):
    pq.write_table(pa.table({"text": pa.nulls(3)}), tmp_path / "docs.parquet")
    texts, rejected, _ = read(tmp_path / "docs.parquet")
    assert (texts, len(rejected)) == ([], 3)


def test_a_parquet_value_above_the_limit_is_rejected(tmp_path):
    pq.write_table(pa.table({"text": ["short", "x" * 11]}), tmp_path / "docs.parquet")
    texts, rejected, _ = read(tmp_path / "docs.parquet", max_record_bytes=10)
    assert (texts, rejected[0].line) == (["short"], 2)


def test_closed_standard_input_is_named(monkeypatch):
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(CorpusError, match="standard input cannot be read: it is closed"):
        ByteStream(None)


def test_links_are_reported_and_not_followed(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/a.jsonl").write_text('{"text": "a"}\n')
    (tmp_path / "link").symlink_to(tmp_path / "sub")
    (tmp_path / "gone.jsonl").symlink_to(tmp_path / "nowhere")
    sources, passed_over = find_sources([tmp_path])
    assert [source.name for source in sources] == [str(tmp_path / "sub/a.jsonl")]
    assert passed_over == [tmp_path / "gone.jsonl", tmp_path / "link"]


def test_a_pipe_that_starts_slowly_is_still_told_by_its_first_bytes(tmp_path):
    import os
    import threading

    fifo = tmp_path / "slow.jsonl"
    os.mkfifo(fifo)
    packed = gzip.compress(records(50))

    def feed():
        with fifo.open("wb", buffering=0) as pipe:
            for part in (packed[:1], packed[1:9], packed[9:]):
                pipe.write(part)
                threading.Event().wait(0.1)

    thread = threading.Thread(target=feed)
    thread.start()
    blocks = b"".join(ByteStream(fifo).blocks())
    thread.join()
    assert blocks == records(50)
