"""Spans: the parts of an input, read alone, give what the input gives, whatever its bytes are."""

import gzip
import os
import pickle
from dataclasses import asdict, astuple

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tersely.corpus import SampleSource, Span, find_sources
from tersely.errors import UsageError


def whole(source):
    """All records of a source: (line, byte, text, field values), the rejected ones, and the lines read."""
    return joined(source, [None])


def joined(source, spans):
    """The same, of spans one after another; lines are numbered on."""
    records, rejected, before, read = [], [], 0, 0
    for span in spans:
        for batch in source.batches(span):
            fields = zip(*batch.fields.values(), strict=True) if batch.fields else [()] * len(batch.texts)
            for line, byte, text, values in zip(
                batch.lines, batch.bytes_at, batch.texts, fields, strict=True
            ):
                records.append((line + before, byte, text, values))
            rejected += [(reject.line + before, *astuple(reject)[1:]) for reject in batch.rejected]
            assert not batch.fault
            assert batch.lines_read >= max([0, *batch.lines, *(reject.line for reject in batch.rejected)])
        before += batch.lines_read
        read += batch.bytes_read
    return records, rejected, before, read


LINES = [
    b'{"text": "a"}',
    b'{"text": "\xc3\xa9", "lang": "fr"}',
    b'{"text": "\\ud800"}',
    b'{"text": "\xff"}',
    b'{"text": 1}',
    b"{",
    b"",
    b" \r",
    b'{"text": "' + b"x" * 90 + b'"}',
    b"\xef\xbb\xbf",
]


@pytest.mark.parametrize("block", [3, 64])
@given(
    lines=st.lists(st.sampled_from(LINES), max_size=12),
    target=st.integers(1, 60),
    bom=st.booleans(),
    ended=st.booleans(),
    policy=st.sampled_from(["quarantine", "replace", "bytes"]),
)
def test_spans_of_json_lines_are_together_the_whole(
    tmp_path_factory, block, lines, target, bom, ended, policy
):
    path = tmp_path_factory.mktemp("spans") / "docs.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" * bom + b"\n".join(lines) + b"\n" * ended)
    (source,), _ = find_sources([path], fields=["lang"], on_invalid=policy, max_record_bytes=80)
    spans = source.spans(target)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tersely.corpus.files._BLOCK", block)
        patch.setattr("tersely.corpus.files._BEYOND", 2)
        parts = joined(source, spans)
    assert parts == whole(source)
    assert parts[3] == path.stat().st_size


FASTA_LINES = [
    b">",
    b">a b",
    b"ACGT",
    b"N",
    b"",
    b" ",
    b";c >x",
    b"A>C",
    b">\xe9",
    b"\xff",
    b">l\n" + b"A" * 60,
]


@pytest.mark.parametrize("block", [3, 64])
@given(
    lines=st.lists(st.sampled_from(FASTA_LINES), max_size=12),
    target=st.integers(1, 60),
    bom=st.booleans(),
    end=st.sampled_from([b"\n", b"\r\n"]),
    ended=st.booleans(),
)
def test_spans_of_fasta_are_together_the_whole(tmp_path_factory, block, lines, target, bom, end, ended):
    path = tmp_path_factory.mktemp("spans") / "seq.fa"
    path.write_bytes(b"\xef\xbb\xbf" * bom + end.join(lines) + end * ended)
    (source,), _ = find_sources([path], max_record_bytes=50)
    spans = source.spans(target)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tersely.corpus.files._BLOCK", block)
        patch.setattr("tersely.corpus.files._BEYOND", 2)
        parts = joined(source, spans)
    assert parts == whole(source)
    assert parts[3] == path.stat().st_size


@given(
    rows=st.lists(st.sampled_from([b"a", b"", None, b"\xff", b"x" * 30]), max_size=30),
    group=st.integers(1, 9),
    target=st.integers(1, 900),
)
def test_spans_of_parquet_are_row_groups_and_together_the_whole(tmp_path_factory, rows, group, target):
    path = tmp_path_factory.mktemp("spans") / "docs.parquet"
    table = pa.table({"text": pa.array(rows, pa.binary()), "n": range(len(rows))})
    pq.write_table(table, path, row_group_size=group)
    (source,), _ = find_sources([path], fields=["n"], max_record_bytes=20)
    spans = source.spans(target)
    parts = joined(source, spans)
    assert parts == whole(source)
    assert parts[2] == len(rows)
    assert parts[3] == path.stat().st_size
    assert len(source.spans(1)) == spans[-1].stop == max(1, -(-len(rows) // group))


def test_spans_depend_on_the_file_and_the_target_alone_and_cover_it(write_jsonl):
    path = write_jsonl([{"text": "x" * 100}] * 100)
    (source,), _ = find_sources([path])
    spans = source.spans(1000)
    assert spans == source.spans(1000)
    assert [spans[0].start, *(span.stop for span in spans)] == [
        *(span.start for span in spans),
        path.stat().st_size,
    ]
    assert source.spans(10**9) == [Span(0, path.stat().st_size)]
    with pytest.raises(UsageError, match="at least 1"):
        source.spans(0)


def test_a_line_longer_than_several_spans_is_in_the_span_it_begins_in(write_jsonl):
    path = write_jsonl([{"text": "a"}, {"text": "x" * 1000}, {"text": "b"}])
    (source,), _ = find_sources([path])
    found = [[text for batch in source.batches(span) for text in batch.texts] for span in source.spans(100)]
    assert found == [["a", "x" * 1000], *[[]] * 9, ["b"]]


def test_what_cannot_be_cut_is_one_span(tmp_path, write_jsonl):
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(b'{"text": "a"}\n'))
    (tmp_path / "a.txt").write_text("a")
    (tmp_path / "empty.jsonl").write_text("")
    (tmp_path / "broken.parquet").write_text("no")
    os.mkfifo(tmp_path / "pipe.jsonl")
    for name in ("a.jsonl.gz", "a.txt", "empty.jsonl", "broken.parquet", "pipe.jsonl"):
        assert find_sources([tmp_path / name])[0][0].spans(1) == [None]
    assert find_sources(["-"])[0][0].spans(1) == [None]
    assert SampleSource().spans(1) == [None]
    gone = find_sources([write_jsonl([{"text": "a"}])])[0][0]
    gone.path.unlink()
    assert gone.spans(1) == [None]


def test_sources_and_spans_can_be_sent_to_another_process(write_jsonl):
    (source,), _ = find_sources([write_jsonl([{"text": "a"}])], on_invalid="bytes", max_record_bytes=99)
    assert pickle.loads(pickle.dumps((source, source.spans(5)))) == (source, source.spans(5))


@pytest.mark.parametrize("size", [1, 30, 200, 10_000])
def test_where_batches_end_does_not_matter_to_what_is_read(tmp_path, size):
    path = tmp_path / "docs.jsonl"
    path.write_bytes(b"\n".join(LINES * 20))
    (source,), _ = find_sources([path], fields=["lang"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tersely.corpus.jsonl.BATCH_BYTES", size)
        patch.setattr("tersely.corpus.jsonl.BATCH_REJECTS", 3)
        assert size > 200 or len(list(source.batches())) > 15
        assert whole(source) == whole(find_sources([path], fields=["lang"])[0][0])


@given(st.lists(st.sampled_from(LINES), max_size=30), st.sampled_from(["quarantine", "replace", "bytes"]))
def test_adding_many_lines_at_once_gives_what_adding_each_gives(tmp_path_factory, lines, policy):
    path = tmp_path_factory.mktemp("plain") / "docs.jsonl"
    path.write_bytes(b"\n".join(lines))
    (source,), _ = find_sources([path], fields=["lang", "text"], on_invalid=policy)
    for at_once in (1, 4):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("tersely.corpus.lines._AT_ONCE", at_once)
            quick = [asdict(batch) for batch in source.batches()]
            patch.setattr("tersely.corpus.jsonl._add_plain", lambda *args: False)
            assert quick == [asdict(batch) for batch in source.batches()]


def test_a_file_that_became_shorter_has_a_fault_in_the_spans_that_lost_something(write_jsonl):
    path = write_jsonl([{"text": f"{number:05}"} for number in range(100)])
    (source,), _ = find_sources([path])
    spans = source.spans(500)
    os.truncate(path, 600)
    batches = [list(source.batches(span))[-1] for span in spans]
    assert [batch.complete for batch in batches] == [True] + [False] * (len(spans) - 1)
    assert batches[-1].fault == "the file ends after 600 bytes; it had 1800 when it was listed"
    assert not list(source.batches())[-1].complete


def test_what_is_appended_after_listing_is_in_no_span(write_jsonl):
    path = write_jsonl([{"text": "a"}])
    (source,), _ = find_sources([path])
    with path.open("a") as file:
        file.write('{"text": "b"}\n')
    assert [text for span in source.spans(5) for batch in source.batches(span) for text in batch.texts] == [
        "a"
    ]
