"""Whether a tokenizer gives texts back as they were: odd ones, encoded and decoded."""

from __future__ import annotations

from tersely.errors import TokenizeError
from tersely.tokenize import KmerTokenizer, Tokenizer

_TEXTS = (
    "Hello  world\n\tA \u00e9 e\u0301 \u4e2d\u6587 \U0001f600 \u0430\u0431",
    " leading and trailing ",
    "\u00a0\u2028x\u0000y\r\n",
    "ALL CAPS, `code`, 12,345.678 <b>",
)
_SEQUENCES = ("ACGTN" * 7, "acgtn" * 7)


def is_lossless(tok: Tokenizer) -> bool:
    """Whether a handful of texts come back byte for byte; of k-mers, sequences. It finds loss, it proves nothing."""
    texts = _SEQUENCES if isinstance(tok, KmerTokenizer) else _TEXTS
    try:
        return all(tok.decode(tok.encode([text])) == [text.encode()] for text in texts)
    except TokenizeError:
        return False
