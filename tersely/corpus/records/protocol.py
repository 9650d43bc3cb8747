"""What every kind of records offers; and the plain kind, a text in a field."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from tersely.corpus.stretches import Marked
from tersely.errors import TerselyError


class NotADocument(Exception):
    """Carries the reason why a record is no document."""


class Records(Protocol):
    """Makes documents of records."""

    @property
    def columns(self) -> tuple[str, ...]:
        """The fields that it looks at, as far as a record has them: what a reader of columns must load."""
        ...

    def document(self, record: dict[str, Any]) -> str | Marked:
        """The document in a record: a string, all of which is trained and none trusted, or segments.

        Lone surrogates stay as they are.

        Raises:
            NotADocument: the record is of another shape; the message says what was found.
        """
        ...


def document_of(records: Records, record: dict[str, Any]) -> str | Marked:
    """The document in a record, whatever is in it: what goes wrong with one record is its own.

    Raises:
        NotADocument: it has none, or making it failed; the message says how.
        TerselyError: the fault is not the record's.
    """
    try:
        return records.document(record)
    except (NotADocument, TerselyError):
        raise
    except Exception as error:  # such as nesting too deep, or values that no JSON has
        raise NotADocument(f"no document can be made of it: {type(error).__name__}: {error}") from error


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


def field_of(record: dict[str, Any], name: str) -> Any:
    """The value of a field; raises NotADocument, with the fields there are, if it is missing."""
    if name not in record:
        raise NotADocument(f"there is no field {name!r} (fields: {names_in(record)})")
    return record[name]


def names_in(record: dict[str, Any]) -> str:
    """The first names of a record, for messages."""
    return ", ".join(repr(key) for key in list(record)[:8]) or "none"


def kind_of(value: Any) -> str:
    """What JSON calls a value."""
    names = {bool: "boolean", int: "number", float: "number", str: "string", list: "array", dict: "object"}
    return "null" if value is None else names.get(type(value), type(value).__name__)
