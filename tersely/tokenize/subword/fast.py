"""gigatoken as the engine (the extra ``fast``), for as long as its ids are those of the vocabulary's own library.

It is compared when a vocabulary is loaded, on texts that engines trip over, and again on the first megabytes of every
job. Where it differs the job goes on with the vocabulary's own library, from the batch in hand, and a warning says so.
"""

from __future__ import annotations

import importlib
import json
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tersely.errors import TokenizeError
from tersely.ragged import Ragged
from tersely.tokenize.batch import encode_in_threads
from tersely.tokenize.subword.huggingface import HuggingFaceModel
from tersely.tokenize.subword.model import SubwordModel, guarded
from tersely.tokenize.subword.tiktoken_ranks import TiktokenModel

CHECKED_CHARACTERS = 2_000_000
"""So much of every job goes through both engines."""

PROBES = [
    "", " ", "  ", "\n", "\n\n", " \n \t\r\n", "a", " a", "a ", "  a  b   c", "it's we'll I'VE they'd 's 'x",
    "The quick brown fox jumps over the lazy dog.", "x" * 300, " " * 300, "=" * 300, "ab" * 150, "\n" * 40,
    "0 12 345 6789 1234567 3.14 1,000", "def f(x):\n\treturn {'a': x[0]}  # !=\n", "http://a.b/c?d=e&f=%20#g",
    "\x00\x01\x7f\x80\xa0\xad\u200b\u200d\ufeff\ufffd\uffff", "na\u00efve caf\u00e9 e\u0301 \u017f'\u017f \u0130I\u0131",
    "\u4e2d\u6587\u6d4b\u8bd5\u3002\u3000\u65e5\u672c\u8a9e\u30c6\u30b9\u30c8 \ud55c\uad6d\uc5b4 \u1112\u1161\u11ab",
    "\u0627\u0644\u0639\u0631\u0628\u064a\u0629 \u05e2\u05d1\u05e8\u05d9\u05ea \u0939\u093f\u0928\u094d\u0926\u0940 \u0e44\u0e17\u0e22",
    "\U0001f600\U0001f468\u200d\U0001f469\u200d\U0001f467 \U0001f1e9\U0001f1ea \u2764\ufe0f", "\u00bd\u00b2\u2460\u2167\u0664\u0967",
    "<s>a</s> <|endoftext|> <unk> [SEP] <pad>", "\u2581a \u2581\u2581 b\u2581", "A" + "\u0301" * 50, "\ue000\U000e0001\U0010fffe",
]  # fmt: skip
_PATTERNS = {"r50k_base": "r50k", "p50k_base": "r50k", "cl100k_base": "cl100k", "o200k_base": "o200k"}


class FastEncoder:
    """``encode`` of a model, by gigatoken while that is right.

    Args:
        model: the vocabulary with its own library.
        threads: how many encode at a time.

    Raises:
        TokenizeError: gigatoken cannot stand in for this vocabulary; the message says why.
    """

    def __init__(self, model: SubwordModel, threads: int) -> None:
        self._fast: Any = _gigatoken(model)
        self._model, self._threads, self._unchecked = model, threads, CHECKED_CHARACTERS
        probes = [*PROBES, *_around(model.added if isinstance(model, HuggingFaceModel) else [])]
        if not model.encode(probes).equals(self._encode(probes)):
            raise TokenizeError("gigatoken gives other ids for this vocabulary than its own library")

    @property
    def in_use(self) -> bool:
        """Whether it has been right so far."""
        return self._fast is not None

    def new_job(self) -> None:
        """Makes the first megabytes be compared again."""
        self._unchecked = CHECKED_CHARACTERS

    def encode(self, texts: list[str]) -> Ragged:
        """The ids of each text, uint32."""
        if self._fast is None:
            return self._model.encode(texts)
        if self._unchecked > 0 and not self._agrees(texts):
            self._fast = None
            warnings.warn(
                "gigatoken gives other ids than the vocabulary's own library for a document of this job: it goes on "
                "without gigatoken, more slowly and with the right ids",
                stacklevel=2,
            )
            return self._model.encode(texts)
        return encode_in_threads(self._encode, texts, self._threads)

    def _agrees(self, texts: list[str]) -> bool:
        """Compares both on as much of the texts as is still to be compared; of a long one on its beginning."""
        checked: list[str] = []
        for text in texts:
            if self._unchecked <= 0:
                break
            checked.append(text[: self._unchecked])
            self._unchecked -= len(checked[-1]) + 1
        return self._model.encode(checked).equals(encode_in_threads(self._encode, checked, self._threads))

    def _encode(self, texts: list[str]) -> Ragged:
        if self._fast is None:  # another thread has just seen it fail
            return self._model.encode(texts)
        fast = self._fast
        rows = guarded(lambda: fast.encode_batch(texts, parallel=False), "gigatoken failed").layout
        offsets = np.asarray(rows.offsets.data).astype(np.int64)
        values = np.asarray(rows.content.data)[offsets[0] : offsets[-1]]
        return Ragged(values, offsets - offsets[0])


def fast_encoder(model: SubwordModel, threads: int) -> FastEncoder | None:
    """Gigatoken for this model, if it is installed and right; a warning says so where it should be and is not."""
    known = isinstance(model, TiktokenModel) and model.name in _PATTERNS and not model.allowed
    if not known and not (isinstance(model, HuggingFaceModel) and model.kind == "BPE"):
        return None  # kinds that it does not know
    try:
        importlib.import_module("gigatoken")
    except ImportError:
        return None
    try:
        return FastEncoder(model, threads)
    except TokenizeError as error:
        reason = str(error).splitlines()[0][:120]
        warnings.warn(f"this vocabulary is encoded without gigatoken, more slowly: {reason}", stacklevel=4)
        return None


def _around(added: list[dict[str, Any]]) -> list[str]:
    """Texts that spell the added tokens, beside letters, spaces and each other."""
    tokens = [token["content"] for token in added]
    around = [f"a{token}b {token} 1{token}{token}\n{token}  {token}\u00e9" for token in tokens]
    return [*around, "".join(tokens), " ".join(tokens)] if tokens else []


def _gigatoken(model: SubwordModel) -> Any:
    gigatoken: Any = importlib.import_module("gigatoken")
    if isinstance(model, HuggingFaceModel) and any(
        token.get(flag) for token in model.added for flag in ("single_word", "lstrip", "rstrip")
    ):
        raise TokenizeError("it has added tokens with conditions on their neighbours")
    make: Callable[[], Any]
    if isinstance(model, HuggingFaceModel):
        content = json.dumps(model.plain_content)
        make = lambda: gigatoken.Tokenizer.from_json(content)  # noqa: E731
    else:
        assert isinstance(model, TiktokenModel)
        ranks, pattern = model.ranks, _PATTERNS[model.name]

        def make() -> Any:
            with tempfile.TemporaryDirectory() as folder:  # it reads from paths only
                file = Path(folder) / "ranks.tiktoken"
                file.write_bytes(ranks)
                return gigatoken.Tokenizer.from_tiktoken(file, pretokenizer=pattern, special_tokens={})

    return guarded(make, "gigatoken cannot load it")
