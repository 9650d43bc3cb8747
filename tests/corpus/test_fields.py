"""Fields: named strings beside each text, one for each, whatever records hold."""

import json
import sys
from datetime import date

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tersely.corpus import Batch, SampleSource, find_sources
from tersely.errors import UsageError


def fields_of(path, *names, **options):
    """All texts of one input, and all values of each field."""
    source = find_sources([path], fields=names, **options)[0][0]
    assert source.fields == names
    texts, fields = [], {name: [] for name in names}
    for batch in source.batches():
        texts += batch.texts
        assert list(batch.fields) == list(names)
        for name, values in batch.fields.items():
            assert len(values) == len(batch.texts)
            fields[name] += values
    return texts, fields


def test_json_values_become_strings(write_jsonl):
    values = ["en", 5, 0.5, True, False, None, ["a", 1], {"x": "\u00e9"}, ""]
    path = write_jsonl([{"text": str(i), "lang": value} for i, value in enumerate(values)] + [{"text": "9"}])
    texts, fields = fields_of(path, "lang", "source")
    assert texts == list("0123456789")
    assert fields["lang"] == ["en", "5", "0.5", "true", "false", "", '["a", 1]', '{"x": "\u00e9"}', "", ""]
    assert fields["source"] == [""] * 10


def test_a_value_nested_too_deep_to_be_spelled_is_no_value(tmp_path):
    path = tmp_path / "docs.jsonl"
    path.write_text('{"text": "a", "deep": %s}\n{"text": "b", "deep": 1}\n' % ("[" * 1015 + "]" * 1015))
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(1000)  # hypothesis and others raise it
    try:
        assert fields_of(path, "deep") == (["a", "b"], {"deep": ["", "1"]})
    finally:
        sys.setrecursionlimit(limit)


@given(st.lists(st.fixed_dictionaries({"text": st.text(max_size=5)}, optional={"lang": st.text(max_size=5)})))
def test_every_text_has_its_own_value(tmp_path_factory, records):
    path = tmp_path_factory.mktemp("fields") / "docs.jsonl"
    path.write_text("".join(json.dumps(record) + "\n{bad\n" for record in records))
    texts, fields = fields_of(path, "lang")
    assert texts == [record["text"] for record in records]
    assert fields["lang"] == [record.get("lang", "") for record in records]


def test_values_stay_with_their_texts_across_batches_and_rejected_lines(write_jsonl, monkeypatch):
    monkeypatch.setattr("tersely.corpus.jsonl.BATCH_BYTES", 50)
    path = write_jsonl([{"text": i if i % 3 == 0 else str(i), "n": i} for i in range(100)])
    texts, fields = fields_of(path, "n")
    assert texts == fields["n"] == [str(i) for i in range(100) if i % 3]


def test_lone_surrogates_of_a_field_are_replaced(tmp_path):
    path = tmp_path / "docs.jsonl"
    path.write_bytes(b'{"text": "a", "lang": "x\\ud800", "more": ["\\ud800"]}\n')
    assert fields_of(path, "lang", "more")[1] == {"lang": ["x\ufffd"], "more": ['["\ufffd"]']}


def test_parquet_columns_become_strings(tmp_path):
    table = {
        "text": ["a", None, "c"],
        "lang": pa.array(["en", "fr", None]).dictionary_encode(),
        "n": [1, 2, 3],
        "day": [date(2024, 1, 2)] * 3,
        "tags": [["x"], None, []],
        "raw": [b"\xff", b"b", b"c"],
    }
    pq.write_table(pa.table(table), tmp_path / "docs.parquet")
    texts, fields = fields_of(tmp_path / "docs.parquet", "lang", "n", "day", "tags", "raw", "gone", "text")
    assert texts == ["a", "c"]
    assert fields == {
        "lang": ["en", ""],
        "n": ["1", "3"],
        "day": ["2024-01-02"] * 2,
        "tags": ['["x"]', "[]"],
        "raw": ["\ufffd", "c"],
        "gone": ["", ""],
        "text": ["a", "c"],
    }


def test_text_files_and_the_sample_have_no_values(tmp_path):
    (tmp_path / "a.txt").write_text("whole")
    assert fields_of(tmp_path / "a.txt", "lang") == (["whole"], {"lang": [""]})
    assert next(SampleSource().batches()).fields == {}


def test_a_text_without_its_values_is_a_mistake_of_the_reader():
    with pytest.raises(ValueError, match="zip"):
        Batch.carrying(["lang"]).add("text", 1, 0)


def test_one_string_is_not_a_list_of_names(write_jsonl):
    with pytest.raises(UsageError, match="list of names"):
        find_sources([write_jsonl([{"text": "a"}])], fields="lang")


@pytest.mark.parametrize(
    ("kind", "near", "spelled", "far", "words"),
    [
        (pa.timestamp("us"), 0, "1970-01-01 00:00:00", 2**62, str(2**62)),
        (pa.timestamp("us", "Europe/Berlin"), 0, "1970-01-01 01:00:00+01:00", 2**59, "20237-04-25"),
        (pa.timestamp("s"), 0, "1970-01-01 00:00:00", 2**45, str(2**45)),
        (pa.date32(), 1, "1970-01-02", 2**30, str(2**30)),
        (pa.duration("s"), 60, "0:01:00", 2**62, str(2**62)),
        (pa.list_(pa.timestamp("us")), [0], '["1970-01-01 00:00:00"]', [2**62], ""),
    ],
    ids=str,
)
def test_a_value_that_python_cannot_spell_costs_neither_a_document_nor_another_value(
    tmp_path, kind, near, spelled, far, words
):
    column = pa.array([near, far, None], kind)
    pq.write_table(pa.table({"text": ["a", "b", "c"], "when": column}), tmp_path / "docs.parquet")
    texts, fields = fields_of(tmp_path / "docs.parquet", "when")
    assert texts == ["a", "b", "c"]
    assert fields["when"][::2] == [spelled, ""]
    assert words in fields["when"][1]
    assert bool(words) == bool(fields["when"][1])


def test_times_in_a_zone_that_nobody_knows_are_fields_without_a_value(tmp_path):
    column = pa.array([0, 1], pa.timestamp("us", "Mars/Phobos"))
    pq.write_table(pa.table({"text": ["a", "b"], "when": column}), tmp_path / "docs.parquet")
    source = find_sources([tmp_path / "docs.parquet"], fields=["when"])[0][0]
    (batch,) = source.batches()
    assert (batch.texts, batch.rejected, batch.complete) == (["a", "b"], [], True)
    assert batch.fields == {"when": ["", ""]}
