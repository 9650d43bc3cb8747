"""Documents that are not UTF-8: quarantined, repaired or kept as bytes, and nothing else is touched."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tersely.corpus import OnInvalid, find_sources
from tersely.errors import UsageError


def read(path, on_invalid, **options):
    """The texts, the reasons of rejected records, and how many texts were repaired."""
    (source,), _ = find_sources([path], on_invalid=on_invalid, **options)
    batches = list(source.batches())
    reasons = [reject.reason for batch in batches for reject in batch.rejected]
    return [text for b in batches for text in b.texts], reasons, sum(b.repaired for b in batches)


@pytest.fixture(params=["jsonl", "txt", "parquet", "fa"])
def invalid(request, tmp_path):
    r"""A file of each format that holds the document ``A\xffB``."""
    path = tmp_path / f"docs.{request.param}"
    if request.param == "parquet":
        pq.write_table(pa.table({"text": pa.array([b"A\xffB"])}), path)
    else:
        contents = {"jsonl": b'{"text": "A\xffB"}\n', "txt": b"A\xffB", "fa": b">x\nA\xff\nB\n"}
        path.write_bytes(contents[request.param])
    return path


def test_every_format_knows_the_three_policies(invalid):
    texts, reasons, repaired = read(invalid, "quarantine")
    assert (texts, len(reasons), repaired) == ([], 1, 0)
    assert read(invalid, "replace") == (["A\ufffdB"], [], 1)
    assert read(invalid, OnInvalid.BYTES) == ([b"A\xffB"], [], 0)


@pytest.mark.parametrize("policy", list(OnInvalid))
def test_valid_documents_are_the_same_strings_under_each_policy(write_jsonl, policy):
    path = write_jsonl([{"text": "\u00e9"}, {"text": "a"}, {"text": "\x00"}])
    assert read(path, policy) == (["\u00e9", "a", "\x00"], [], 0)


@given(st.binary(max_size=12))
def test_bytes_between_escapes_come_back_as_they_are(tmp_path_factory, content):
    content = content.translate(None, bytes(range(32)) + b'"\\')
    path = tmp_path_factory.mktemp("raw") / "docs.jsonl"
    path.write_bytes(b'{"text": "' + content + b"\\n\\u00e9\\ud83d\\ude00" + content + b'"}\n')
    expected = content + "\n\u00e9\U0001f600".encode() + content
    (text,), reasons, _ = read(path, "bytes")
    assert (text if isinstance(text, bytes) else text.encode(), reasons) == (expected, [])
    assert (
        isinstance(text, bytes) == ("\ufffd" in expected.decode("utf-8", "replace"))
        or b"\xef\xbf\xbd" in content
    )
    assert read(path, "replace")[0] == [expected.decode("utf-8", "replace")]


def test_a_line_that_would_be_ambiguous_is_quarantined(tmp_path):
    path = tmp_path / "docs.jsonl"
    path.write_bytes(b'{"text": "\xff\\udcff"}\n{"text": "\\udcff"}\n{"text": "a\\ud800", "id": "\xff"}\n')
    texts, reasons, repaired = read(path, "bytes")
    assert (texts, repaired) == (["\ufffd", "a\ufffd"], 2)
    assert reasons == ["the text has both invalid UTF-8 and an escaped lone surrogate"]
    assert read(path, "replace")[0] == ["\ufffd\ufffd", "\ufffd", "a\ufffd"]


def test_surrogates_written_as_utf8_are_invalid_and_kept_as_bytes(tmp_path):
    path = tmp_path / "docs.jsonl"
    path.write_bytes(b'{"text": "\xed\xa0\xbd\xed\xb8\x80"}\n')
    assert read(path, "bytes")[0] == [b"\xed\xa0\xbd\xed\xb8\x80"]
    assert read(path, "quarantine")[1] == ["invalid UTF-8 at byte 10 of the line"]


@pytest.mark.parametrize("policy", ["replace", "bytes"])
def test_fields_are_strings_and_their_invalid_bytes_are_replaced(tmp_path, policy):
    path = tmp_path / "docs.jsonl"
    path.write_bytes(b'{"text": "a", "lang": "x\xff"}\n')
    (source,), _ = find_sources([path], fields=["lang"], on_invalid=policy)
    (batch,) = source.batches()
    assert (batch.texts, batch.fields) == (["a"], {"lang": ["x\ufffd"]})


@pytest.mark.parametrize("policy", ["replace", "bytes"])
def test_invalid_bytes_make_no_document_of_what_is_none(tmp_path, policy):
    path = tmp_path / "docs.jsonl"
    path.write_bytes(b'{"text": \xff}\n{"te\xffxt": "a"}\n[\xff]\n{"text": "a"}\n')
    texts, reasons, _ = read(path, policy)
    assert (texts, len(reasons)) == (["a"], 3)


def test_strings_of_a_batch_have_replacement_characters_for_bytes(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"a\xff")
    (batch,) = find_sources([tmp_path / "a.txt"], on_invalid="bytes")[0][0].batches()
    assert (batch.texts, batch.strings) == ([b"a\xff"], ["a\ufffd"])


def test_letters_of_fasta_that_are_utf8_but_not_ascii_are_no_sequence_under_any_policy(tmp_path):
    (tmp_path / "a.fa").write_bytes(b">x\nA\xc3\xa9\n")
    for policy in OnInvalid:
        assert read(tmp_path / "a.fa", policy)[:2] == (
            [],
            ["letter 2 of the sequence is byte 0xc3, not ASCII"],
        )


def test_an_invalid_header_of_fasta_is_replaced(tmp_path):
    (tmp_path / "a.fa").write_bytes(b">x\xff\nA\n")
    (batch,) = find_sources([tmp_path / "a.fa"], on_invalid="replace")[0][0].batches()
    assert (batch.texts, batch.fields["header"]) == (["A"], ["x\ufffd"])


def test_utf16_is_named(tmp_path):
    (tmp_path / "a.txt").write_bytes("text".encode("utf-16"))
    (tmp_path / "a.jsonl").write_bytes(json.dumps({"text": "a"}).encode("utf-16"))
    for name in ("a.txt", "a.jsonl"):
        assert "begins like UTF-16" in read(tmp_path / name, "quarantine")[1][0]


def test_a_policy_that_does_not_exist_is_a_wrong_call(write_jsonl):
    with pytest.raises(UsageError, match="'quarantine', 'replace', 'bytes'"):
        find_sources([write_jsonl([])], on_invalid="ignore")
    with pytest.raises(UsageError, match="max_record_bytes"):
        find_sources([write_jsonl([])], max_record_bytes=0)
