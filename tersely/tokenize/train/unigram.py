"""Unigram vocabularies from word counts (Kudo 2018, arXiv 1804.10959, section 3.2), trained by ``sentencepiece``.

Words go there as lines with counts, their bytes spelled as ByteLevel characters, so the result stands on 256 symbols:
nothing is unknown to it, and any text round trips, also one with the sign that sentencepiece uses for blanks.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence

import tokenizers
from tokenizers import decoders, models, pre_tokenizers

from tersely.errors import TokenizeError, UsageError
from tersely.tokenize.bytelevel import byte_characters
from tersely.tokenize.train.bpe import merges_in
from tersely.tokenize.train.count import Price, WordCounts

PRICE = Price(40, 200)
"""What training costs."""

LONGEST_PIECE = 32
"""A token has at most so many bytes."""

_THREADS = 4  # a constant: sums of floating point numbers depend on how they are parted
_NEVER_SEEN = 10.0
"""How much less likely (natural logarithm) a byte that does not occur is than the least likely token."""


def train_unigram(
    words: WordCounts, vocab_size: int, *, specials: Sequence[str] = ("<|endoftext|>",)
) -> tokenizers.Tokenizer:
    """A tokenizer with at most ``vocab_size`` ids, the last of which are the special tokens.

    Args:
        words: counted with ``Split.GPT2``.
        vocab_size: fewer ids are made from too small a corpus.
        specials: get the last ids.

    Raises:
        UsageError: the vocabulary has no room for 256 bytes and the special tokens, or one of these is spelled like a
            learned token.
        TokenizeError: sentencepiece fails.
    """
    room = merges_in(vocab_size, specials)
    pieces = _pieces(words, room)
    lowest = min((score for _, score in pieces), default=0.0)
    known = {piece for piece, _ in pieces}
    pieces += [(name, lowest - _NEVER_SEEN) for name in sorted(byte_characters()) if name not in known]
    for name in specials:
        if name in {piece for piece, _ in pieces}:
            raise UsageError(f"the special token {name!r} is also a learned token: spell it in another way")
    tokenizer = tokenizers.Tokenizer(models.Unigram(pieces, None, False))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(specials))
    return tokenizer


def _pieces(words: WordCounts, room: int) -> list[tuple[str, float]]:
    """Pieces and their log probabilities: the bytes that occur, and at most ``room`` longer ones."""
    import sentencepiece

    occurring = set(words.words.values.tolist())
    if not occurring:
        return []
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=_lines(words),
            model_writer=model,
            input_format="tsv",
            model_type="unigram",
            vocab_size=1 + len(occurring) + room,  # 1 for the unknown token, which is left out below
            hard_vocab_limit=False,
            character_coverage=1.0,
            max_sentencepiece_length=LONGEST_PIECE,
            max_sentence_length=1 << 20,
            num_threads=_THREADS,
            normalization_rule_name="identity",
            add_dummy_prefix=False,
            remove_extra_whitespaces=False,
            split_by_unicode_script=False,
            split_by_number=False,
            split_by_whitespace=False,
            bos_id=-1,
            eos_id=-1,
            minloglevel=2,
        )
    except (RuntimeError, OSError) as error:
        if "no pieces are loaded" in str(error):
            return []  # too few words to prune pieces of: the bytes are left
        raise TokenizeError(f"sentencepiece could not train on these words ({error})") from error
    processor = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    pieces = [
        (processor.id_to_piece(token), float(processor.get_score(token)))
        for token in range(len(processor))
        if not processor.is_unknown(token)
    ]
    return pieces[: len(occurring) + room]


def _lines(words: WordCounts) -> Iterator[str]:
    spelled = dict(enumerate(byte_characters()))
    for word, count in zip(words.words, words.counts.tolist(), strict=True):
        yield f"{bytes(word).decode('latin-1').translate(spelled)}\t{count}"
