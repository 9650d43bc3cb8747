"""Engines that stand in for a vocabulary's own library, for as long as their ids are those of the library.

gigatoken is one (the extra ``fast``), the other splits into words itself (``word_engine.py``). Each is compared when a
vocabulary is loaded, on texts that engines trip over, and again on the first part of every job. Where it differs the job
goes on with the vocabulary's own library, from the batch in hand, and a warning says so.
"""

from __future__ import annotations

import warnings
from typing import Any, Protocol

from tersely.errors import TokenizeError
from tersely.ragged import Ragged
from tersely.tokenize.batch import encode_in_threads
from tersely.tokenize.subword.gigatoken_engine import GigatokenEngine
from tersely.tokenize.subword.huggingface import HuggingFaceModel
from tersely.tokenize.subword.model import SubwordModel
from tersely.tokenize.subword.tiktoken_ranks import TiktokenModel

PROBES = [
    "", " ", "  ", "\n", "\n\n", " \n \t\r\n", "a", " a", "a ", "  a  b   c", "it's we'll I'VE they'd 's 'x",
    "The quick brown fox jumps over the lazy dog.", "x" * 300, " " * 300, "=" * 300, "ab" * 150, "\n" * 40,
    "0 12 345 6789 1234567 3.14 1,000", "def f(x):\n\treturn {'a': x[0]}  # !=\n", "http://a.b/c?d=e&f=%20#g",
    "\x00\x01\x7f\x80\xa0\xad\u200b\u200d\ufeff\ufffd\uffff", "na\u00efve caf\u00e9 e\u0301 \u017f'\u017f \u0130I\u0131",
    "\u4e2d\u6587\u6d4b\u8bd5\u3002\u3000\u65e5\u672c\u8a9e\u30c6\u30b9\u30c8 \ud55c\uad6d\uc5b4 \u1112\u1161\u11ab",
    "\u0627\u0644\u0639\u0631\u0628\u064a\u0629 \u05e2\u05d1\u05e8\u05d9\u05ea \u0939\u093f\u0928\u094d\u0926\u0940 \u0e44\u0e17\u0e22",
    "\U0001f600\U0001f468\u200d\U0001f469\u200d\U0001f467 \U0001f1e9\U0001f1ea \u2764\ufe0f", "\u00bd\u00b2\u2460\u2167\u0664\u0967",
    "<s>a</s> <|endoftext|> <unk> [SEP] <pad>", "\u2581a \u2581\u2581 b\u2581", "A" + "\u0301" * 50, "\ue000\U000e0001\U0010fffe",
    "a\n  ", "a \n\t", "a\r\n \r", "I'Ma 'LLa 'sa 'REs x's,'d", "a  1 b   \t2", "\u00a0a\u2003 b\u3000\u3000c", "!\n\n a?\r\n", "12345'67",
]  # fmt: skip


class Engine(Protocol):
    """What can stand in for a library.

    Attributes:
        name: what warnings call it.
        checked_characters: so much of every job goes through the library, too.
    """

    name: str
    checked_characters: int

    def encode(self, texts: list[str]) -> Ragged:
        """The ids of each text, uint32; runs in several threads at a time."""
        ...


class FastEncoder:
    """``encode`` of a model, by an engine while that is right.

    Args:
        model: the vocabulary with its own library.
        engine: what stands in for it.
        threads: how many encode at a time.

    Raises:
        TokenizeError: the engine gives other ids for ``PROBES``.
    """

    def __init__(self, model: SubwordModel, engine: Engine, threads: int) -> None:
        self._engine: Engine | None = engine
        self._model, self._threads, self._unchecked = model, threads, engine.checked_characters
        probes = [*PROBES, *_around(model.added if isinstance(model, HuggingFaceModel) else [])]
        if not model.encode(probes).equals(engine.encode(probes)):
            raise TokenizeError(f"{engine.name} gives other ids for this vocabulary than its own library")

    @property
    def engine(self) -> str | None:
        """The name of the engine, None once it was wrong."""
        return None if self._engine is None else self._engine.name

    def new_job(self) -> None:
        """Makes the first part be compared again."""
        self._unchecked = self._engine.checked_characters if self._engine is not None else 0

    def encode(self, texts: list[str]) -> Ragged:
        """The ids of each text, uint32."""
        engine = self._engine
        if engine is None:
            return self._model.encode(texts)
        if self._unchecked > 0 and not self._agrees(engine, texts):
            self._engine = None
            warnings.warn(
                f"{engine.name} gives other ids than the vocabulary's own library for a document of this job: it goes on "
                f"without {engine.name}, more slowly and with the right ids",
                stacklevel=2,
            )
            return self._model.encode(texts)
        return encode_in_threads(engine.encode, texts, self._threads)

    def _agrees(self, engine: Engine, texts: list[str]) -> bool:
        """Compares both on as much of the texts as is still to be compared; of a long one on its beginning."""
        checked: list[str] = []
        for text in texts:
            if self._unchecked <= 0:
                break
            checked.append(text[: self._unchecked])
            self._unchecked -= len(checked[-1]) + 1
        return self._model.encode(checked).equals(encode_in_threads(engine.encode, checked, self._threads))


def fast_encoder(model: SubwordModel, threads: int) -> FastEncoder | None:
    """The first engine that takes this model and is right; a warning says so where one should be and is not."""
    if not isinstance(model, HuggingFaceModel | TiktokenModel):
        return None  # kinds that none of them knows
    from tersely.tokenize.subword.word_engine import WordEngine  # late: it loads numba

    for kind in (GigatokenEngine, WordEngine):
        try:
            engine = kind.of(model)
            if engine is not None:
                return FastEncoder(model, engine, threads)
        except TokenizeError as error:
            reason = str(error).splitlines()[0][:120]
            warnings.warn(
                f"this vocabulary is encoded without {kind.name}, more slowly: {reason}", stacklevel=4
            )
    return None


def _around(added: list[dict[str, Any]]) -> list[str]:
    """Texts that spell the added tokens, beside letters, spaces and each other."""
    tokens = [token["content"] for token in added]
    around = [f"a{token}b {token} 1{token}{token}\n{token}  {token}\u00e9" for token in tokens]
    return [*around, "".join(tokens), " ".join(tokens)] if tokens else []
