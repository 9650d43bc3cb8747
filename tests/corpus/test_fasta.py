"""FASTA: every record a document with its header, or rejected with its place."""

import bz2
import gzip
import hashlib

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tersely.corpus import InputFormat, fasta, find_sources
from tersely.errors import UsageError


def zstd(content):
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(content)
    return sink.getvalue().to_pybytes()


PACKERS = {"": bytes, ".gz": gzip.compress, ".zst": zstd, ".bz2": bz2.compress}


def read(path, **options):
    """The sequences, headers, places and rejected records of one file, and its batches."""
    batches = [batch for source in find_sources([path], **options)[0] for batch in source.batches()]
    texts = [text for batch in batches for text in batch.texts]
    headers = [header for batch in batches for header in batch.fields["header"]]
    places = [place for batch in batches for place in zip(batch.lines, batch.bytes_at, strict=True)]
    return texts, headers, places, [r for batch in batches for r in batch.rejected], batches


def write(folder, content, name="seq.fa"):
    (folder / name).write_bytes(content)
    return folder / name


def plain_fasta(content):
    """What a reading line by line makes of FASTA: (header, sequence, line, byte), and whether text comes first."""
    records, stray, at = [], False, 0
    for number, line in enumerate(content.split(b"\n"), 1):
        if line.startswith(b">"):
            records.append([line[1:].decode().strip(), "", number, at])
        elif not line.startswith(b";"):
            letters = "".join(line.decode().split(None))
            if records:
                records[-1][1] += letters
            else:
                stray = stray or bool(letters)
        at += len(line) + 1
    return records, stray


@pytest.mark.parametrize("ending", PACKERS)
@pytest.mark.parametrize("name", ["fa", "fasta", "FNA", "ffn", "faa", "frn"])
def test_a_record_is_a_document_with_its_header(tmp_path, name, ending):
    path = write(tmp_path, PACKERS[ending](b">one first\nACGT\nNNacgt\n>two\nMK*\n"), f"seq.{name}{ending}")
    texts, headers, places, rejected, batches = read(path)
    assert texts == ["ACGTNNacgt", "MK*"]
    assert headers == ["one first", "two"]
    assert places == [(1, 0), (4, 23)]
    assert not rejected
    assert batches[-1].bytes_read == path.stat().st_size


@pytest.mark.parametrize("block", [1, 2, 3, 7, 64])
@given(
    st.lists(
        st.sampled_from(
            [
                b">",
                b">a b",
                b"> \xc3\xa9 ",
                b"ACGT",
                b"N",
                b"",
                b" ",
                b"AC GT\t",
                b";c >x",
                b"A;>",
                b"A>C",
                b">x>y",
            ]
        ),
        max_size=12,
    ),
    st.sampled_from([b"\n", b"\r\n"]),
    st.booleans(),
)
def test_any_lines_in_any_blocks_are_read_as_line_by_line(tmp_path_factory, block, lines, end, ended):
    content = end.join(lines) + end * ended
    path = write(tmp_path_factory.mktemp("fasta"), content)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tersely.corpus.files._BLOCK", block)
        patch.setattr(fasta, "BATCH_BYTES", 5)
        texts, headers, places, rejected, batches = read(path)
    records, stray = plain_fasta(content)
    got = zip(headers, texts, places, strict=True)
    assert [[header, text, *place] for header, text, place in got] == records
    assert [(r.line, r.byte) for r in rejected] == [(1, 0)] * stray
    assert batches[-1].bytes_read == len(content)


def test_records_without_sequence_are_empty_documents(tmp_path):
    texts, headers, _, rejected, _ = read(write(tmp_path, b">a\n>b\n\n>c\nA\n>"))
    assert (texts, headers, rejected) == (["", "", "A", ""], ["a", "b", "c", ""], [])


@pytest.mark.parametrize("content", [b"", b"\n", b" \r\n\n", b"; only\n; comments", b"\xef\xbb\xbf"])
def test_nothing_is_no_record(tmp_path, content):
    assert read(write(tmp_path, content))[:4] == ([], [], [], [])


def test_comments_of_the_old_format_and_a_byte_order_mark_are_left_out(tmp_path):
    content = b"\xef\xbb\xbf; made by hand\n>a\n; about a\nAC\n;\nGT\n"
    texts, headers, places, rejected, _ = read(write(tmp_path, content))
    assert (texts, headers, rejected) == (["ACGT"], ["a"], [])
    assert places == [(2, content.index(b">"))]


def test_text_before_the_first_header_is_rejected(tmp_path):
    texts, _, _, rejected, _ = read(write(tmp_path, b"\nLOCUS\nACGT\n>a\nA\n"))
    assert texts == ["A"]
    assert (rejected[0].line, rejected[0].byte) == (1, 0)
    assert "before the first header" in rejected[0].reason
    assert rejected[0].sha256 == hashlib.sha256(b"\nLOCUS\nACGT").hexdigest()


BAD = {
    "letter": (b">bad\nAC\nG\xff\n", "letter 4 of the sequence is byte 0xff, not ASCII"),
    "header": (b">b\xe9d\nACGT\n", "invalid UTF-8 at byte 2 of the header"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_record_that_is_not_ascii_is_rejected_alone_with_its_place(tmp_path, name):
    record, reason = BAD[name]
    good = b">good\nACGT\n"
    path = write(tmp_path, good * 5 + record + good * 5)
    texts, headers, _, rejected, _ = read(path)
    assert (texts, headers) == (["ACGT"] * 10, ["good"] * 10)
    assert [(r.line, r.byte, r.reason) for r in rejected] == [(11, 5 * len(good), reason)]
    assert rejected[0].sha256 == hashlib.sha256(record[:-1]).hexdigest()


@pytest.mark.parametrize(
    "content",
    [
        b">one\rACGT\r>two\rTTTT\r",
        b"\r>one\rACGT\r",
        b"; a comment\r>one\rACGT\r",
        b"\xef\xbb\xbf>one\rACGT",
    ],
)
def test_a_file_of_lines_that_end_in_carriage_returns_alone_is_rejected_by_name(tmp_path, content):
    texts, _, _, rejected, _ = read(write(tmp_path, content))
    assert texts == []
    assert [reject.line for reject in rejected] == [1]
    assert "its lines end in carriage returns alone" in rejected[0].reason


def test_a_carriage_return_inside_a_header_costs_that_record_alone(tmp_path):
    content = b">one\r\nACGT\r\n>two\r>x\r\nA\r\n>three\r\r\nC\rG\r\n>four\r\nT"
    texts, headers, _, rejected, _ = read(write(tmp_path, content))
    assert texts == ["ACGT", "CG", "T"]
    assert headers == ["one", "three", "four"]
    assert [(reject.line, reject.byte) for reject in rejected] == [(3, 12)]
    assert "carriage returns" in rejected[0].reason


def test_headers_may_be_utf8(tmp_path):
    assert read(write(tmp_path, ">\u03b2-lactamase\nMK\n".encode()))[:2] == (["MK"], ["\u03b2-lactamase"])


@pytest.mark.parametrize("line", [60, 10**6])
def test_a_record_above_the_limit_is_rejected_in_bounded_memory(tmp_path, monkeypatch, line):
    monkeypatch.setattr("tersely.corpus.files._BLOCK", 256)
    kept = []
    plain = fasta._Record.take
    monkeypatch.setattr(
        fasta._Record,
        "take",
        lambda self, part, limit: (plain(self, part, limit), kept.append(sum(map(len, self.parts)))),
    )
    long = b">long\n" + b"\n".join([b"A" * line] * max(1, 50_000 // line)) + b"\n"
    path = write(tmp_path, b">a\nA\n" + long + b">b\nC\n" + long)
    texts, headers, _, rejected, _ = read(path, max_record_bytes=1000)
    assert (texts, headers) == (["A", "C"], ["a", "b"])
    assert [r.byte for r in rejected] == [5, 5 + len(long) + 5]
    assert path.read_bytes().split(b"\n")[rejected[1].line - 1] == b">long"
    assert f"{len(long) - 2} bytes" in rejected[0].reason
    assert max(kept) < 2000


@pytest.mark.parametrize("ending", [".gz", ".zst"])
def test_a_truncated_archive_keeps_whole_records(tmp_path, ending):
    letters = np.frombuffer(b"ACGT", np.uint8)
    rng = np.random.default_rng(0)
    sequences = [letters[rng.integers(0, 4, 997)].tobytes().decode() for _ in range(2000)]
    whole = PACKERS[ending]("".join(f">{i}\n{text}\n" for i, text in enumerate(sequences)).encode())
    path = write(tmp_path, whole[: len(whole) // 2], f"seq.fa{ending}")
    texts, headers, _, rejected, batches = read(path)
    assert 200 < len(texts) < 1500
    assert texts == sequences[: len(texts)]
    assert headers == [str(i) for i in range(len(texts))]
    assert not rejected
    assert "breaks off" in batches[-1].fault
    assert batches[-1].lines_read == 2 * len(texts)


def test_an_archive_without_a_readable_byte_is_a_fault(tmp_path):
    path = write(tmp_path, gzip.compress(b">a\nACGT\n")[:12], "seq.fa.gz")
    texts, _, _, rejected, batches = read(path)
    assert (texts, rejected, batches[-1].complete) == ([], [], False)


def test_fields_other_than_the_header_are_empty(tmp_path):
    sources, _ = find_sources([write(tmp_path, b">a\nA\n")], fields=["lang", "header"])
    assert sources[0].fields == ("header", "lang")
    assert next(sources[0].batches()).fields == {"header": ["a"], "lang": [""]}


def test_fasta_may_come_from_standard_input(monkeypatch):
    import io
    import sys

    class Stdin:
        buffer = io.BytesIO(b">a\nACGT\n")

    monkeypatch.setattr(sys, "stdin", Stdin)
    assert read("-", input_format="fasta")[:2] == (["ACGT"], ["a"])


def test_the_endings_are_named_where_a_file_has_none(tmp_path):
    with pytest.raises(UsageError, match=r"\.fasta"):
        find_sources([write(tmp_path, b">a\nA\n", "genome")])
    assert InputFormat("fasta") is InputFormat.FASTA


@pytest.mark.shared_data
def test_genomes_are_read_as_line_by_line(shared):
    for file in sorted((shared / "dna").glob("*.fa.zst")):
        texts, headers, _, rejected, _ = read(file)
        records, _ = plain_fasta(pa.input_stream(str(file)).read())
        assert [[h, t] for h, t in zip(headers, texts, strict=True)] == [record[:2] for record in records]
        assert len(texts) == 7
        assert not rejected
