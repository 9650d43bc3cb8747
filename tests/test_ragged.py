"""Ragged: every layout agrees with plain lists of rows."""

import pickle

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tersely import Ragged, gather
from tersely.errors import RaggedError

ROWS = st.lists(st.lists(st.integers(0, 60_000), max_size=9), max_size=12)
NESTED = st.lists(ROWS, max_size=6)


def ragged(rows):
    return Ragged.from_rows([np.array(row, np.uint16) for row in rows], np.uint16)


def nested(documents):
    words = ragged([word for document in documents for word in document])
    return Ragged(words, np.cumsum([0, *(len(document) for document in documents)]))


@given(ROWS)
def test_rows_come_back(rows):
    made = ragged(rows)
    assert made.to_list() == rows
    assert len(made) == len(rows)
    assert [row.tolist() for row in made] == rows
    assert made.lengths.tolist() == [len(row) for row in rows]
    assert made.max_seqlen == max(map(len, rows), default=0)
    assert made.values.dtype == np.uint16


@given(ROWS)
def test_segment_ids_and_positions_name_every_value(rows):
    made = ragged(rows)
    expected = [(row, place) for row, items in enumerate(rows) for place in range(len(items))]
    assert list(zip(made.segment_ids.tolist(), made.positions.tolist(), strict=True)) == expected
    tensors = made.to_torch(dtype=torch.int64)
    assert torch.equal(tensors.segment_ids, torch.from_numpy(made.segment_ids.copy()))
    assert torch.equal(tensors.positions, torch.from_numpy(made.positions.copy()))


@given(ROWS, st.slices(12))
def test_slices_are_those_of_a_list(rows, index):
    assert ragged(rows)[index].to_list() == rows[index]
    assert ragged(rows).to_torch(dtype=torch.int64)[index].to_list() == rows[index]


@given(ROWS, st.data())
def test_take_picks_rows_in_any_order_and_number(rows, data):
    chosen = data.draw(st.lists(st.integers(0, len(rows) - 1), max_size=9)) if rows else []
    expected = [rows[i] for i in chosen]
    assert ragged(rows).take(chosen).to_list() == expected
    assert ragged(rows).to_torch(dtype=torch.int64).take(chosen).to_list() == expected


@given(NESTED, st.data())
def test_nested_rows_slice_take_and_concat(documents, data):
    made = nested(documents)
    assert made.to_list() == documents
    start = data.draw(st.integers(0, len(documents)))
    assert made[start:].to_list() == documents[start:]
    chosen = data.draw(st.lists(st.integers(0, len(documents) - 1), max_size=6)) if documents else []
    assert made.take(chosen).to_list() == [documents[i] for i in chosen]
    assert Ragged.concat([made, made]).to_list() == documents + documents
    assert made.to_torch(dtype=torch.int64).take(chosen).to_list() == [documents[i] for i in chosen]


@given(st.lists(ROWS, min_size=1, max_size=4))
def test_concat_appends_rows(parts):
    expected = [row for part in parts for row in part]
    assert Ragged.concat([ragged(part) for part in parts]).to_list() == expected
    tensors = [ragged(part).to_torch(dtype=torch.int64) for part in parts]
    assert Ragged.concat(tensors).to_list() == expected


@given(ROWS)
def test_arrow_round_trip(rows):
    made = ragged(rows)
    for large in (True, False):
        assert Ragged.from_arrow(made.to_arrow(large)).equals(made)


@given(NESTED)
def test_nested_arrow_round_trip(documents):
    assert Ragged.from_arrow(nested(documents).to_arrow()).to_list() == documents


@given(ROWS, st.integers(0, 12), st.integers(0, 12))
def test_sliced_arrow_arrays_keep_only_their_rows(rows, start, length):
    array = pa.array(rows, pa.list_(pa.uint16())).slice(start, length)
    assert Ragged.from_arrow(array).to_list() == rows[start : start + length]


@given(st.lists(st.text(max_size=9), max_size=9), st.integers(0, 9))
def test_strings_become_utf8_bytes(texts, start):
    for kind in (pa.string(), pa.large_string()):
        rows = Ragged.from_arrow(pa.array(texts, kind).slice(start))
        assert [bytes(row) for row in rows] == [text.encode() for text in texts[start:]]


@given(ROWS, st.integers(0, 9))
def test_padded_round_trip(rows, fill):
    made = ragged(rows)
    padded = made.to_padded(fill)
    width = max(map(len, rows), default=0)
    assert padded.tolist() == [row + [fill] * (width - len(row)) for row in rows]
    assert Ragged.from_padded(padded, made.lengths).equals(made)


def test_nested_tensor_has_the_same_rows():
    made = Ragged.from_rows([[1, 2, 3], [], [4]])
    assert [row.tolist() for row in made.to_nested().unbind()] == [[1, 2, 3], [], [4]]


def test_arrow_values_are_not_copied():
    array = pa.array([[1, 2], [3]], pa.large_list(pa.uint16()))
    made = Ragged.from_arrow(array)
    assert made.values.ctypes.data == array.values.buffers()[1].address
    assert made.offsets.ctypes.data == array.buffers()[1].address
    back = made.to_arrow()
    assert back.values.buffers()[1].address == made.values.ctypes.data
    assert back.buffers()[1].address == made.offsets.ctypes.data


def test_slices_and_text_columns_are_not_copied():
    made = Ragged.from_rows([[1, 2], [3], [4, 5]])
    assert made[1:].values.ctypes.data == made.values.ctypes.data + 2 * made.values.itemsize
    array = pa.array(["ab", "cd"], pa.large_string())
    assert Ragged.from_arrow(array).values.ctypes.data == array.buffers()[2].address


def test_items_may_be_vectors():
    spans = Ragged(np.arange(10).reshape(5, 2), [0, 2, 2, 5])
    assert spans.take([2, 0]).to_list() == [[[4, 5], [6, 7], [8, 9]], [[0, 1], [2, 3]]]
    assert spans.to_padded(-1).shape == (3, 3, 2)
    assert Ragged.from_arrow(spans.to_arrow()).equals(spans)


def test_an_empty_batch_works_everywhere():
    empty = Ragged(np.empty(0, np.uint16), [0])
    assert len(empty) == 0
    assert empty.max_seqlen == 0
    assert empty.cu_seqlens.tolist() == [0]
    assert empty.take([]).to_list() == []
    assert empty[0:5].to_list() == []
    assert empty.to_padded().shape == (0, 0)
    assert Ragged.from_arrow(empty.to_arrow()).equals(empty)
    assert len(empty.to_torch()) == 0
    assert Ragged.from_rows([]).to_list() == []
    assert Ragged.from_rows([[], []]).to_list() == [[], []]


@pytest.mark.parametrize(
    ("offsets", "words"),
    [
        ([], "empty"),
        ([1, 3], "not 0"),
        ([0, 2, 1, 3], "row 1"),
        ([0, 2], "3 values"),
        ([0.0, 3.0], "integers"),
    ],
)
def test_wrong_offsets_are_refused_with_the_place(offsets, words):
    with pytest.raises(RaggedError, match=words):
        Ragged(np.arange(3), offsets)


def test_wrong_tensor_offsets_are_refused():
    with pytest.raises(RaggedError, match="row 1"):
        Ragged(torch.arange(3), [0, 2, 1, 3])


def test_rows_that_do_not_exist_are_refused():
    made = Ragged.from_rows([[1], [2]])
    for rows in ([2], [-1], [0, 7]):
        with pytest.raises(IndexError):
            made.take(rows)
    with pytest.raises(IndexError):
        made[2]
    assert made[-1].tolist() == [2]


def test_it_cannot_be_changed():
    made = Ragged.from_rows([[1, 2]])
    with pytest.raises(AttributeError, match="immutable"):
        made.values = np.arange(2)
    with pytest.raises(ValueError, match="read-only"):
        made.values[0] = 5
    with pytest.raises(ValueError, match="read-only"):
        made.offsets[0] = 5


def test_it_can_be_pickled():
    made = nested([[[1], []], [[2, 3]]])
    assert pickle.loads(pickle.dumps(made)).to_list() == made.to_list()


def test_arrow_arrays_with_nulls_are_refused():
    with pytest.raises(RaggedError, match="null"):
        Ragged.from_arrow(pa.array([[1], None]))
    with pytest.raises(RaggedError, match="null"):
        Ragged.from_arrow(pa.array([[1, None]]))


def test_cu_seqlens_refuses_more_values_than_int32_counts():
    class Huge:
        def __len__(self):
            return 2**31

    with pytest.raises(RaggedError, match="int32"):
        _ = Ragged(Huge(), [0, 2**31]).cu_seqlens


@pytest.mark.parametrize("few", [0, gather._FEW], ids=["compiled", "numpy"])
@given(
    ranges=st.lists(st.tuples(st.integers(0, 50), st.integers(0, 30)), max_size=20),
    kind=st.sampled_from("Bhdq"),
)
def test_gather_rows_equals_slicing(few, ranges, kind):
    values = np.arange(80).astype(kind)
    starts = np.array([start for start, _ in ranges], np.int64)
    offsets = np.cumsum([0, *(length for _, length in ranges)])
    expected = np.concatenate([values[:0], *(values[start : start + n] for start, n in ranges)])
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(gather, "_FEW", few)
        assert np.array_equal(gather.gather_rows(values, starts, offsets), expected)


@pytest.mark.parametrize(
    "dtype", [torch.uint8, torch.uint16, torch.uint32, torch.int64, torch.bfloat16, torch.bool]
)
def test_tensors_of_any_dtype_pad_slice_take_and_come_back(dtype):
    values = torch.tensor([1, 0, 1, 1, 0, 1]).to(dtype)
    made = Ragged(values, [0, 2, 2, 6])
    assert made.to_padded(0).to(torch.int64).tolist() == [[1, 0, 0, 0], [0, 0, 0, 0], [1, 1, 0, 1]]
    assert Ragged.from_padded(made.to_padded(), made.lengths).equals(made)
    assert [[int(v) for v in row] for row in made.take([2, 0]).to_list()] == [[1, 1, 0, 1], [1, 0]]
    assert made.to_numpy().equals(made)
    inner = Ragged(made, [0, 1, 3])
    assert inner.to_torch().equals(inner)


def test_masks_are_no_rows():
    for values in (np.arange(6), torch.arange(6)):
        with pytest.raises(RaggedError, match="integers"):
            Ragged(values, [0, 2, 3, 6]).take(np.array([True, False, True]))


def test_nulls_outside_a_slice_do_not_matter():
    array = pa.array([[1, 2], [None], [3]])
    assert Ragged.from_arrow(array.slice(2)).to_list() == [[3]]
    with pytest.raises(RaggedError, match="null"):
        Ragged.from_arrow(array.slice(1))


FIXED = pa.list_(pa.list_(pa.list_(pa.int8()), 2))


@pytest.mark.parametrize("array", [pa.array([[True]]), pa.array([5]), pa.array([[[[1], [2]]]], FIXED)])
def test_arrow_layouts_without_rows_of_values_are_refused(array):
    with pytest.raises(RaggedError, match="Arrow"):
        Ragged.from_arrow(array)
