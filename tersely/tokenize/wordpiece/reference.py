"""The plain search that the automaton must equal: at each place of a word the longest piece, tried longest first."""

from __future__ import annotations

from collections.abc import Mapping

from tersely.tokenize.wordpiece.rules import WordPieceRules


def greedy_pieces(word: str, pieces: Mapping[str, int], rules: WordPieceRules) -> list[int]:
    """The ids of one normalised word. Costs up to the square of its length, as in the original BERT code."""
    unknown = [pieces[rules.unknown]]
    if len(word) > rules.max_word_characters:
        return unknown
    ids: list[int] = []
    start = 0
    while start < len(word):
        prefix = rules.prefix if start else ""
        stops = range(len(word), start, -1)
        stop = next((stop for stop in stops if prefix + word[start:stop] in pieces), None)
        if stop is None:
            return unknown
        ids.append(pieces[prefix + word[start:stop]])
        start = stop
    return ids
