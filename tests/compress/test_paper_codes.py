"""The paper's codes, to compare with: the greedy one is ambiguous, its Delay variant is not, and both are shorter."""

import numpy as np
import pytest
from codes import TEXTS, code, model

from tersely.compress.equal_info.code import delay, greedy

BITS = 12


@pytest.fixture(scope="module")
def paper():
    return greedy.greedy_code(model(), BITS)


def nodes(paper, text, shortest=None):
    raw = np.frombuffer(text, np.uint8)
    if shortest is None:
        return greedy.encode(paper.firsts, paper.labels, raw)
    return delay.encode(paper.firsts, paper.labels, paper.parents, shortest, raw)


def test_windows_are_the_text(paper):
    for text in TEXTS[:9]:
        found, left_out = nodes(paper, text.encode())
        windows = [paper.string(node) for node in found.tolist()]
        assert left_out < 0.01 * len(text)  # bytes so rare that they take more than a window
        assert sum(map(len, windows)) + left_out == len(text.encode())
        assert left_out or b"".join(windows).decode() == text


def test_greedy_filling_gives_two_texts_the_same_ids(paper):
    """What is wrong with it: the decoder takes the longest text of an id, and the encoder may have meant another."""
    for text in TEXTS:
        raw = text.encode()
        found, _ = nodes(paper, raw)
        taken = greedy.decode(paper, paper.codes[found])
        for wrong in np.flatnonzero(taken != found).tolist():
            strings = [paper.string(node) for node in found.tolist()]
            strings[wrong] = paper.string(int(taken[wrong]))
            other = b"".join(strings)
            again, _ = nodes(paper, other)
            if paper.codes[again].tolist() == paper.codes[found].tolist():
                assert other != raw
                assert code(BITS).encode([raw]).to_list() != code(BITS).encode([other]).to_list()
                return
    pytest.fail("no two texts with the same ids were found")


def test_delay_is_one_to_one(paper):
    shortest = delay.shortest_nodes(paper)
    for text in TEXTS[:20]:
        found, _ = nodes(paper, text.encode(), shortest)
        assert (delay.decode(paper, paper.codes[found]) == found).all()


def test_cell_splitting_takes_fewer_ids_than_delay(paper):
    shortest = delay.shortest_nodes(paper)
    texts = [text.encode() for text in TEXTS]
    delayed = sum(len(nodes(paper, text, shortest)[0]) for text in texts)
    assert len(code(BITS).encode(texts).values) * 1.1 < delayed


def test_an_id_is_a_fraction_within_the_interval_of_its_text(paper):
    """The interval of a text lies within that of the text before it, so ids of the same start are of one line."""
    assert paper.codes.min() >= 0
    assert paper.codes.max() < 1 << BITS
    for number in np.unique(paper.codes)[::40]:
        strings = [paper.string(node) for node in np.flatnonzero(paper.codes == number).tolist()]
        assert all(strings[-1].startswith(string) for string in strings)
