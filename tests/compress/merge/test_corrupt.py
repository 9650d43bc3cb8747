"""Span corruption: put together again it is the text, and its counts are those of T5."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tersely import Ragged
from tersely.compress.merge.t5 import corrupt
from tersely.errors import UsageError


def bytes_of(texts):
    return Ragged.from_rows([np.frombuffer(text, np.uint8) for text in texts], dtype=np.uint8)


def together(source, target):
    """The text of a source and its target, by reading the one and looking up the other."""
    spans, now = {}, None
    for one in target[:-1]:
        if one > 248:
            spans[one] = now = []
        else:
            now.append(one - 3)
    assert source[-1] == target[-1] == 1
    return bytes(x for one in source[:-1] for x in (spans.pop(one) if one > 248 else [one - 3]))


@given(
    st.lists(st.text().map(str.encode).filter(lambda text: len(text) < 1200), max_size=6), st.integers(0, 9)
)
def test_sources_and_targets_together_are_the_text(texts, seed):
    sources, targets = corrupt(bytes_of(texts), seed)
    assert [together(*pair) for pair in zip(sources.to_list(), targets.to_list(), strict=True)] == texts


def test_counts_are_those_of_the_paper_and_the_seed_decides():
    text = bytes_of([bytes(range(97, 123)) * 40] * 50)  # 1,040 bytes: 156 hidden in 8 spans
    sources, targets = corrupt(text, 3)
    assert set(sources.lengths) == {1040 - 156 + 8 + 1}
    assert set(targets.lengths) == {156 + 8 + 1}
    for row in sources.to_list():
        assert [one for one in row if one > 200] == [258 - i for i in range(8)]
    again, other = corrupt(text, 3), corrupt(text, 4)
    assert sources.to_list() == again.sources.to_list()
    assert sources.to_list() != other.sources.to_list()
    where = np.array([row.index(258) for row in sources.to_list()])
    assert len(set(where)) > 25
    assert where.min() >= 1


def test_what_cannot_be_hidden_is_refused():
    with pytest.raises(UsageError, match="100"):
        corrupt(bytes_of([b"a" * 40_000]), 0)
    with pytest.raises(UsageError, match="density"):
        corrupt(bytes_of([b"abc"]), 0, density=1.5)
