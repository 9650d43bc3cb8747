"""Online windows: any bytes come back, codes of any size, the same as a plain twin gives."""

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tersely import Ragged
from tersely.compress.equal_info import plain_windows
from tersely.compress.equal_info.stream import LONGEST_WINDOW, WindowCoder
from tersely.errors import TokenizeError, UsageError

TEXT = b"the cat sat on the mat and the dog sat on the cat, and that was that. " * 6


class Counted:
    """The next byte after the last few, as it was in a text; the least that is allowed for all else."""

    def __init__(self, context=2, text=TEXT, certain=False):
        self.context, self.known, self.certain = context, {}, certain
        for at in range(len(text)):
            for longest in range(context + 1):
                before = text[max(0, at - longest) : at]
                counts = self.known.setdefault(int.from_bytes(b"\1" + before), np.zeros(256, np.int64))
                counts[text[at]] += 1

    def cdf(self, contexts):
        rows = []
        for context in contexts.tolist():
            counts = self.known.get(context, np.zeros(256, np.int64))
            share = 65536 - 256
            parts = 1 + counts * share // max(1, counts.sum())
            parts[int(counts.argmax())] += 65536 - parts.sum()
            rows.append(np.concatenate([[0], np.cumsum(parts)]))
        return np.array(rows, np.int32).reshape(-1, 257)


MODELS = [Counted(0), Counted(2), Counted(7)]
BITS = [9, 10, 16, 24, 32, 47, 48]


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("carry", [0, 1, None])
def test_texts_come_back_and_are_coded_as_the_plain_twin_does(bits, carry):
    model = MODELS[1]
    noise = random.Random(bits)
    texts = [TEXT[:150], b"", b"\xff", noise.randbytes(40), bytes(300), TEXT[3:60] + b"\x80\x00" + TEXT[:20]]
    coder = WindowCoder(model, bits, carry=carry)
    codes = coder.encode(texts)
    assert coder.decode(codes) == texts
    kept = model.context if carry is None else carry
    for text, row in zip(texts, codes, strict=True):
        plain = plain_windows.encode(model, bits, kept, text)
        assert row.tolist() == plain
        assert plain_windows.decode(model, bits, kept, plain) == text


@given(
    st.lists(st.binary(max_size=60) | st.text("aet hno").map(str.encode), max_size=5),
    st.sampled_from(BITS),
    st.sampled_from(MODELS),
    st.sampled_from([0, None]),
)
@settings(max_examples=60)
def test_any_bytes_come_back_with_at_most_a_code_a_byte(texts, bits, model, carry):
    coder = WindowCoder(model, bits, carry=carry)
    codes = coder.encode(texts)
    assert coder.decode(codes) == texts
    assert all(count <= len(text) for count, text in zip(codes.lengths, texts, strict=True))
    assert not len(codes.values) or 0 < int(codes.values.min()) <= int(codes.values.max()) < 1 << bits


def test_more_bits_hold_more_bytes_and_carried_bytes_help():
    text = [TEXT[:400]]
    sizes = [len(WindowCoder(MODELS[1], bits).encode(text).values) for bits in BITS]
    assert sizes == sorted(sizes, reverse=True)
    alone, carried = (len(WindowCoder(MODELS[1], 16, carry=carry).encode(text).values) for carry in (0, 2))
    assert carried < alone


def test_codes_are_in_the_order_of_their_texts():
    coder = WindowCoder(MODELS[1], 32)
    words = sorted(TEXT.split())
    codes = coder.encode(words)
    first = [int(row[0]) for row in codes]
    assert first == sorted(first)


def test_a_window_has_an_end():
    certain = Counted(0, b"a" * 10)
    codes = WindowCoder(certain, 48).encode([b"a" * 1000])
    assert len(codes.values) == -(-1000 // LONGEST_WINDOW)
    assert WindowCoder(certain, 48).decode(codes) == [b"a" * 1000]


@pytest.mark.parametrize("code", [0, 1 << 20, 1 << 63])
def test_codes_that_stand_for_nothing_are_refused_by_document(code):
    coder = WindowCoder(MODELS[1], 16)
    good = coder.encode([b"the cat"]).values
    rows = Ragged.from_rows([good, np.array([code], np.uint64)])
    with pytest.raises(TokenizeError, match="document 1 has the code") as raised:
        coder.decode(rows)
    assert raised.value.document == 1


@pytest.mark.parametrize(("bits", "carry"), [(8, 0), (49, 0), (16, 3), (16, -1)])
def test_impossible_settings_are_refused(bits, carry):
    with pytest.raises(UsageError, match="choose"):
        WindowCoder(MODELS[1], bits, carry=carry)
