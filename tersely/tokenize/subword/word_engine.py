r"""An engine of our own for byte-level BPE: split into words, look each up, merge only those that were never met.

    documents -> words -> hash table -> ids
                              \-> merges, once for each new word

A corpus repeats its words (Zipf's law), and the vectorised splitter is two orders of magnitude faster than a pattern, so
this is many times faster than a library that merges, or looks up, behind a pattern. It is for vocabularies whose rules
are known to split exactly as ours do; what is beyond them (characters newer than some library, added tokens in the text)
is left to the library, a document at a time.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from typing import Any

import numpy as np

from tersely.ragged import Ragged
from tersely.tokenize.batch import one_buffer
from tersely.tokenize.bytelevel import byte_characters, bytes_of
from tersely.tokenize.subword.huggingface import HuggingFaceModel
from tersely.tokenize.subword.known_words import (
    KnownWords,
    empty_words,
    encode_words,
    with_room,
    words_of_one_id,
)
from tersely.tokenize.subword.merges import Merges, merge_table
from tersely.tokenize.subword.model import SubwordModel
from tersely.tokenize.subword.steady import doubtful_characters
from tersely.tokenize.subword.tiktoken_ranks import ENCODINGS, TiktokenModel
from tersely.tokenize.words.segmentation import WordRule, word_starts
from tersely.tokenize.words.tables import ClassTable

CHECKED_CHARACTERS = 100_000
_BLOCK = 1 << 20
"""Bytes whose ids are made at a time."""

_ADDED = 32
"""More added tokens than that would take longer to look for than the rest."""

_GPT2 = {r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"}
_CL100K = {
    f"{contraction}|{rest}"
    for contraction in ("(?i:'s|'t|'re|'ve|'m|'ll|'d)", "'(?i:[sdmt]|ll|ve|re)")
    for rest in (
        r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        r"[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+",
    )
}
"""The published patterns of GPT-2 and of cl100k and Llama 3."""

_RULES = {"r50k_base": WordRule.GPT2, "p50k_base": WordRule.GPT2, "cl100k_base": WordRule.CL100K}


@dataclass(frozen=True)
class WordVocabulary:
    """What decides the ids of words.

    Attributes:
        rule: where words start.
        merges: what is joined.
        whole: tokens that a word spelled like it becomes, whatever the merges say.
        doubtful: characters with which a document is left to the library.
        added: tokens that are found in text before it is split.
        composed: whether text that is not in Unicode's form NFC is changed first.
        ends_in_newline: whether white space at the end of a document is cut after its last newline.
    """

    rule: WordRule
    merges: Merges
    whole: KnownWords
    doubtful: ClassTable
    added: tuple[str, ...] = ()
    composed: bool = False
    ends_in_newline: bool = False


class WordEngine:
    """``encode`` of a model, word by word. Several threads may call it: each has a table of words of its own."""

    name = "the engine for words"

    def __init__(self, model: SubwordModel, vocabulary: WordVocabulary) -> None:
        self.checked_characters = CHECKED_CHARACTERS
        self._model, self._vocabulary = model, vocabulary
        self._tables: list[KnownWords] = []

    @staticmethod
    def of(model: SubwordModel) -> WordEngine | None:
        """The engine, if the rules of the model are among those that are known."""
        vocabulary = word_vocabulary(model)
        return None if vocabulary is None else WordEngine(model, vocabulary)

    def encode(self, texts: list[str]) -> Ragged:
        """The ids of each text, uint32."""
        rows = one_buffer(texts)
        starts = word_starts(rows.values, rows.offsets, self._vocabulary.rule)
        words = np.searchsorted(starts, rows.offsets)
        left = np.array([self._is_beyond(text) for text in texts], np.bool_)
        ids, made, odd = self._encode_words(rows.values, starts)
        left[np.searchsorted(words, np.flatnonzero(odd), "right") - 1] = True
        known = Ragged(ids, made[words])
        if not left.any():
            return known
        slow = np.flatnonzero(left)
        order = np.arange(len(texts))
        order[slow] = len(texts) + np.arange(len(slow))
        others = self._model.encode([texts[document] for document in slow])
        return Ragged.concat([known, others]).take(order)

    def _is_beyond(self, text: str) -> bool:
        """Whether the text is to be left to the library for a reason other than its characters."""
        vocabulary = self._vocabulary
        if vocabulary.composed and not unicodedata.is_normalized("NFC", text):
            return True
        if vocabulary.ends_in_newline and text[-1:].isspace():
            space = text[len(text.rstrip()) :]
            if space[-1] not in "\r\n" and ("\r" in space or "\n" in space):
                return True
        return any(token in text for token in vocabulary.added)

    def _encode_words(
        self, data: np.ndarray[Any, Any], starts: np.ndarray[Any, Any]
    ) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        """The ids of all words, where those of each begin, and which are left to the library."""
        data = np.ascontiguousarray(data).view()
        data.flags.writeable = False  # compiled code is compiled once, for arrays that cannot be written
        made, odd = np.zeros(len(starts), np.int64), np.zeros(len(starts) - 1, np.bool_)
        vocabulary = self._vocabulary
        try:
            table = self._tables.pop()
        except IndexError:  # all are in use by other threads
            table = empty_words()
        parts: list[np.ndarray[Any, Any]] = [np.empty(0, np.uint32)]
        first, done = 0, 0
        while first < len(starts) - 1:
            last = max(first + 1, int(np.searchsorted(starts, starts[first] + _BLOCK, "right")) - 1)
            out = np.empty(int(starts[last] - starts[first]), np.uint32)
            block = starts[first : last + 1], made[first : last + 1], odd[first:last]
            block[1][0] = place = 0
            while (
                place := encode_words(
                    data,
                    block[0],
                    place,
                    table,
                    vocabulary.whole,
                    vocabulary.merges,
                    vocabulary.doubtful,
                    out,
                    *block[1:],
                )
            ) < last - first:
                table = with_room(table)
            size = int(block[1][-1])
            parts.append(out[:size].copy())
            block[1][:] += done
            first, done = last, done + size
        self._tables.append(table)
        return np.concatenate(parts), made, odd


def word_vocabulary(model: SubwordModel) -> WordVocabulary | None:
    """What decides the ids of words, if the model splits text into words by a rule of ours."""
    if isinstance(model, HuggingFaceModel):
        return _of_json(model)
    return _of_ranks(model) if isinstance(model, TiktokenModel) else None


def _of_json(model: HuggingFaceModel) -> WordVocabulary | None:
    content = model.plain_content
    bpe = content.get("model") or {}
    rule = _rule(content.get("pre_tokenizer"))
    vocab: dict[str, int] = bpe.get("vocab") or {}
    composed = content.get("normalizer") is not None
    characters = byte_characters()
    if (
        rule is None
        or model.kind != "BPE"
        or bpe.get("continuing_subword_prefix")
        or bpe.get("end_of_word_suffix")
        or content.get("normalizer") not in (None, {"type": "NFC"})
        or len(model.added) > _ADDED
        or not vocab.keys() >= set(characters)
    ):
        return None
    pairs = [merge.split(" ") if isinstance(merge, str) else merge for merge in bpe["merges"]]
    merges = [
        (vocab[left], vocab[right], rank, vocab[left + right]) for rank, (left, right) in enumerate(pairs)
    ]
    whole = {bytes_of(token): number for token, number in vocab.items()} if bpe.get("ignore_merges") else {}
    return WordVocabulary(
        rule=rule,
        merges=merge_table(merges, [vocab[character] for character in characters]),
        whole=words_of_one_id(whole),
        doubtful=doubtful_characters(model.splits, composed),
        added=tuple(token["content"] for token in model.added),
        composed=composed,
        ends_in_newline=rule is WordRule.CL100K,
    )


def _rule(splitter: Any) -> WordRule | None:
    """The rule that splits as the pre-tokeniser does, None if none is known to."""
    parts = splitter.get("pretokenizers", [splitter]) if isinstance(splitter, dict) else []
    if not parts or parts[-1].get("type") != "ByteLevel" or parts[-1].get("add_prefix_space", True):
        return None
    if parts[-1].get("use_regex", True):
        return WordRule.GPT2 if len(parts) == 1 else None
    if len(parts) != 2 or parts[0].get("type") != "Split":
        return None
    if parts[0].get("behavior") != "Isolated" or parts[0].get("invert"):
        return None
    pattern = (parts[0].get("pattern") or {}).get("Regex")
    return WordRule.GPT2 if pattern in _GPT2 else WordRule.CL100K if pattern in _CL100K else None


def _of_ranks(model: TiktokenModel) -> WordVocabulary | None:
    """A rank file joins any two tokens that make a third, whose rank is that of the merge."""
    rule = _RULES.get(model.name)
    if rule is None or model.encoding != ENCODINGS[model.name]:
        return None
    ranks = model.tokens
    merges = [
        (left, right, rank, rank)
        for token, rank in ranks.items()
        for place in range(1, len(token))
        if (left := ranks.get(token[:place])) is not None and (right := ranks.get(token[place:])) is not None
    ]
    return WordVocabulary(
        rule=rule,
        merges=merge_table(merges, [ranks[bytes([byte])] for byte in range(256)]),
        whole=words_of_one_id(ranks),
        doubtful=doubtful_characters(None),
        added=tuple(model.allowed),
    )
