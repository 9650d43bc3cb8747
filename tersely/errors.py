"""The errors tersely raises: one root, and a class for each kind of thing a caller can act on.

A message is one sentence that names the place (file, line, byte, document or argument) and the way out.
``exit_code`` is what the command line returns for it.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import TypeVar

_Choice = TypeVar("_Choice", bound=StrEnum)


class TerselyError(Exception):
    """The root of all errors raised on purpose by tersely."""

    exit_code = 1


class RaggedError(TerselyError, ValueError):
    """Offsets and values do not describe rows."""


class UsageError(TerselyError, ValueError):
    """An argument is outside what the function can do; the message says what is allowed."""

    exit_code = 2


class TokenizeError(TerselyError, ValueError):
    """A document cannot be turned into ids, or ids cannot be turned back.

    Args:
        message: what happened and the way out.
        document: index, within the call, of the document that caused it; ``None`` if no single one did.
    """

    def __init__(self, message: str, document: int | None = None) -> None:
        super().__init__(message)
        self.document = document


class PackError(TerselyError, ValueError):
    """A plan, batch or loader state does not fit the data it is used with."""


class EmbeddingError(TerselyError, ValueError):
    """The rows of a model's vocabulary cannot be exchanged as asked."""


class KernelError(TerselyError, ValueError):
    """Tensors given to a kernel do not fit each other, or no implementation supports the call on this device."""


class FingerprintError(TerselyError, ValueError):
    """Two things that must have been made with the same tokenizer or plan were not."""


class CorpusError(TerselyError, OSError):
    """An input cannot be read at all, or the output folder cannot be used."""


class ExecutorError(TerselyError, RuntimeError):
    """Work was not done: there are no workers for it, or what it raised is known by its text only."""


class UnfinishedError(TerselyError):
    """A job stopped before its end; the same command goes on where it stopped."""

    exit_code = 5


class ShardError(TerselyError, ValueError):
    """A prepared folder is damaged, unfinished, or of a format this version does not read."""

    exit_code = 4


class ArchiveError(TerselyError, ValueError):
    """An archive is damaged, cut off, or of a format this version does not read."""

    exit_code = 4


def choose(kind: type[_Choice], value: _Choice | str) -> _Choice:
    """The member of ``kind`` that ``value`` names; raises UsageError with the allowed names if there is none."""
    try:
        return kind(value)
    except ValueError:
        allowed = ", ".join(repr(str(member)) for member in kind)
        words = re.sub("(?<=[a-z])(?=[A-Z])", " ", kind.__name__).lower()
        raise UsageError(f"no {words} {str(value)!r}: choose one of {allowed}") from None
