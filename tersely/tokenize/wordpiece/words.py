"""Words to ids, compiled: the automaton run over normalised text, and where each piece came from."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from tersely.tokenize.trie import BASE, LABEL, ROOT
from tersely.tokenize.wordpiece.automaton import NOWHERE
from tersely.tokenize.wordpiece.normal import decode_at, normalize
from tersely.tokenize.wordpiece.table import BREAK, GROWTH


@numba.njit(cache=True, nogil=True)
def encode_documents(
    table: Any, automaton: Any, text: Any, offsets: Any, options: Any, ids: Any, spans: Any
) -> Any:
    """Fills ``ids`` with the pieces of all documents, one after another.

    Args:
        table: the arrays of a ``Table`` that knows every character of ``text``, as a plain tuple (the name of a class
            would go into numba's files of compiled code, and make them unreadable once it moves).
        automaton: the fields of an ``Automaton``, likewise.
        text: shape ``(total,)``, uint8, well-formed UTF-8.
        offsets: shape ``(documents + 1,)``, int64, of the documents in ``text``.
        options: a tuple of the id that opens each document and the one that closes it (-1 for none), the id of
            unknown words, and the most characters that a word may have.
        ids: shape at least ``(total + 2 * documents,)``, uint32; written.
        spans: of that length, twice, int64: written with the half-open range in ``text`` of each id. Or ``(0, 2)``.

    Returns:
        How many ids each document has, shape ``(documents,)``, int64; -1 for a document left to the library.
    """
    bos, eos, unknown, limit = options
    longest = 0
    for document in range(offsets.size - 1):
        longest = max(longest, offsets[document + 1] - offsets[document])
    words = np.empty(GROWTH * longest + 1, np.uint8)
    source = np.empty(GROWTH * longest if spans.size else 0, np.int64)
    lengths = np.zeros(offsets.size - 1, np.int64)
    count = 0
    for document in range(offsets.size - 1):
        start, stop = offsets[document], offsets[document + 1]
        size = normalize(table, text, start, stop, words, source)
        if size < 0:
            lengths[document] = -1
            continue
        words[size] = BREAK
        before = count
        if bos >= 0:
            count = _special(bos, start, ids, spans, count)
        if spans.size:
            first = count
            missing = automaton[4].size  # no piece's id, so that an unknown word is told from the piece
            count = match(automaton, words[: size + 1], limit, missing, ids, count)
            _locate(automaton, text, words, source, unknown, ids[first:count], spans[first:count])
        else:
            count = match(automaton, words[: size + 1], limit, unknown, ids, count)
        if eos >= 0:
            count = _special(eos, stop, ids, spans, count)
        lengths[document] = count - before
    return lengths


@numba.njit(cache=True, nogil=True)
def match(automaton: Any, words: Any, limit: Any, unknown: Any, ids: Any, count: Any) -> Any:
    """Writes the pieces of all words from ``ids[count]`` on, and returns the new count.

    ``words`` ends with 0xFF. Algorithm 1 of the paper: every byte is read once, and each failure gives up pieces that
    cover bytes already read.
    """
    cells, links, pops, inside, _, _ = automaton
    place = 0
    while place < words.size:
        if words[place] == BREAK:
            place += 1
            continue
        first, start = count, place
        state = np.int64(ROOT)
        base = cells[state] >> BASE
        byte = np.int64(words[place])
        while byte != BREAK:
            cell = cells[base + byte]
            if cell & LABEL == byte:
                state = base + byte
                base = cell >> BASE
                place += 1
                byte = np.int64(words[place])
            else:
                count = _give_up(links, pops, state, ids, count)
                state = links[state, 0]
                if state == NOWHERE:
                    break
                base = cells[state] >> BASE
        # Not one loop with the end as a byte that never matches, which halves the speed: here the processor goes on
        # with the next word before the walk of this one is done.
        while state != inside and state != NOWHERE:
            count = _give_up(links, pops, state, ids, count)
            state = links[state, 0]
        if state == NOWHERE:
            while words[place] != BREAK:
                place += 1
        if state == NOWHERE or (place - start > limit and _characters(words[start:place]) > limit):
            ids[first] = unknown
            count = first + 1
    return count


@numba.njit(cache=True, nogil=True, inline="always")
def _give_up(links: Any, pops: Any, state: Any, ids: Any, count: Any) -> Any:
    """Writes the pops of ``state``, and returns the new count."""
    many = links[state, 1]
    if many == 1:
        ids[count] = links[state, 2]
        return count + 1  # not "+ many", for which the processor would have to wait
    for i in range(many):
        ids[count + i] = pops[links[state, 2] + i]
    return count + many


@numba.njit(cache=True, nogil=True)
def _characters(word: Any) -> Any:
    count = 0
    for byte in word:
        count += byte & 0xC0 != 0x80
    return count


@numba.njit(cache=True, nogil=True)
def _special(special: Any, place: Any, ids: Any, spans: Any, count: Any) -> Any:
    """Writes a special id, whose range is empty."""
    ids[count] = special
    if spans.size:
        spans[count, 0] = place
        spans[count, 1] = place
    return count + 1


@numba.njit(cache=True, nogil=True)
def _locate(automaton: Any, text: Any, words: Any, source: Any, unknown: Any, ids: Any, spans: Any) -> Any:
    """Writes the ranges of the pieces of one document: from its first character's first byte to its last one's last.

    An unknown word comes with the id ``lengths.size``, and has all of the word.
    """
    _, _, _, _, lengths, prefix = automaton
    start = 0
    for i in range(ids.size):
        begins = start == 0 or words[start - 1] == BREAK or words[start] == BREAK
        while words[start] == BREAK:
            start += 1
        stop = start
        if ids[i] < lengths.size:
            stop += lengths[ids[i]] - (0 if begins else prefix)
        else:
            ids[i] = unknown
            while words[stop] != BREAK:
                stop += 1
        last = source[stop - 1]
        spans[i, 0] = source[start]
        spans[i, 1] = last + decode_at(text, last, text.size)[1]
        start = stop
