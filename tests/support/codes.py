"""Small texts and equal-info codes, each built once a session."""

import functools
from pydoc_data.topics import topics

import numpy as np

from tersely.compress import EqualInfoTokenizer
from tersely.compress.equal_info.models import NgramModel

TEXTS = [text[:4000] for _, text in sorted(topics.items())[:40]] + ["\u00e9\u4e2d\U0001f600 th\u00e9 " * 9]
"""English prose that comes with Python, about 100 kB of it, and a little that is not."""


@functools.cache
def model():
    """Counted from the small corpus."""
    return NgramModel.train(TEXTS)


@functools.cache
def code(bits=12, carry=0):
    """Built from the small corpus."""
    return EqualInfoTokenizer.train(TEXTS, bits=bits, carry=carry, model=model(), threads=1)


class Certain:
    """A model that is nearly sure of one byte, whatever came before: its windows would never end."""

    context = 0
    fingerprint = "0" * 64

    def __init__(self, byte=0):
        parts = np.ones(256, np.int64)
        parts[byte] = 65536 - 255
        self._sums = np.concatenate([[0], np.cumsum(parts)]).astype(np.int32)

    def known(self, contexts):
        return contexts

    def cdf(self, contexts):
        return np.tile(self._sums, (len(contexts), 1))

    def save(self, file):
        raise NotImplementedError


class Even(Certain):
    """A model to which all bytes are alike."""

    def __init__(self):
        self._sums = np.arange(257, dtype=np.int32) * 256
