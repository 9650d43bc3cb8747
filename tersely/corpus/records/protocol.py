"""What every kind of records offers; and the plain kind, a text in a field."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import wraps
from typing import Any, ParamSpec, Protocol

from tersely.corpus.stretches import Marked
from tersely.errors import TerselyError

_Given = ParamSpec("_Given")

_CAUSED = (RecursionError, TypeError, ValueError, LookupError, AttributeError, ArithmeticError)
"""What values that nobody thought of can raise."""


class NotADocument(Exception):
    """Carries the reason why a record is no document."""


class NoField(NotADocument):
    """A record without the field that matters.

    Args:
        wanted: the field, as a message names it.
        fields: those that there are.
    """

    def __init__(self, wanted: str, fields: Iterable[str]) -> None:
        super().__init__(f"there is no field {wanted} (fields: {names_in(fields)})")
        self.wanted = wanted


class Records(Protocol):
    """Makes documents of records."""

    @property
    def columns(self) -> tuple[str, ...]:
        """The fields that it looks at, as far as a record has them: what a reader of columns must load."""
        ...

    def document(self, record: dict[str, Any], /) -> str | Marked:
        """The document in a record: a string, all of which is trained and none trusted, or segments.

        Lone surrogates stay as they are.

        Raises:
            NotADocument: the record is of another shape; the message says what was found.
        """
        ...


@dataclass(frozen=True)
class TextRecords:
    """Records with a text in the field ``field``."""

    field: str = "text"

    @property
    def columns(self) -> tuple[str, ...]:
        """The one field."""
        return (self.field,)

    def document(self, record: dict[str, Any]) -> str:
        """The text."""
        text = field_of(record, self.field)
        if isinstance(text, str):
            return text
        raise NotADocument(f"the field {self.field!r} is {kind_of(text)}, not a string")


def refusing(document: Callable[_Given, Marked]) -> Callable[_Given, Marked]:
    """The method ``document``, so that whatever a record makes it raise says that it is no document: one stops no job."""

    @wraps(document)
    def guarded(*args: _Given.args, **kwargs: _Given.kwargs) -> Marked:
        try:
            return document(*args, **kwargs)
        except TerselyError:
            raise
        except _CAUSED as error:
            raise NotADocument(f"it cannot be made a document: {type(error).__name__}: {error}") from error

    return guarded


def field_of(record: dict[str, Any], name: str) -> Any:
    """The value of a field; raises NotADocument, with the fields there are, if it is missing."""
    if name not in record:
        raise NoField(repr(name), record)
    return record[name]


def names_in(record: Iterable[str]) -> str:
    """The first names of a record, for messages."""
    return ", ".join(repr(key) for key in list(record)[:8]) or "none"


def kind_of(value: Any) -> str:
    """What JSON calls a value."""
    names = {bool: "boolean", int: "number", float: "number", str: "string", list: "array", dict: "object"}
    return "null" if value is None else names.get(type(value), type(value).__name__)
