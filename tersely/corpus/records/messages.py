"""Messages as they come, checked and brought into one shape: ``{"role": ..., "content": ...}`` and what goes with it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, TypeAlias, cast

from tersely.corpus.records.protocol import NotADocument, kind_of, names_in

Message: TypeAlias = dict[str, Any]

_SHAREGPT_ROLES = {"human": "user", "gpt": "assistant", "observation": "tool"}
_MOST_LEVELS = 64  # whatever reads a record, so that it does not depend on how much of Python's stack is left
_REASONING = ("reasoning_content", "thinking", "reasoning")


def messages_of(value: Any, field: str) -> list[Message]:
    """The messages in a field, at least one.

    Both public shapes are taken: ``role`` and ``content``, and ShareGPT's ``from`` and ``value``. As in transformers,
    keys without a value (null) are left out, and reasoning goes by all the names that templates know it by.

    Raises:
        NotADocument: it is something else, or holds what is not text; the message says which message and what it has.
    """
    if not isinstance(value, list):
        raise NotADocument(f"the field {field!r} is {kind_of(value)}, not an array of messages")
    if not value:
        raise NotADocument(f"the field {field!r} has no messages")
    return [
        _message(item, f"message {number} of {field!r}")
        for number, item in enumerate(cast("list[Any]", value))
    ]


def map_strings(value: Any, change: Callable[[str], str], levels: int = _MOST_LEVELS) -> Any:
    """A JSON value with every string in it changed, the names of objects included.

    Raises:
        NotADocument: it is nested too deep, or holds bytes, which a template could write but nobody here would look into.
    """
    if isinstance(value, str):
        return change(value)
    if isinstance(value, bytes):
        raise NotADocument("it holds bytes, not text")
    if isinstance(value, list | tuple | dict) and not levels:
        raise NotADocument(f"it is nested deeper than {_MOST_LEVELS} levels")
    if isinstance(value, list | tuple):
        return [map_strings(item, change, levels - 1) for item in cast("list[Any]", value)]
    if isinstance(value, dict):
        pairs = cast("dict[str, Any]", value).items()
        return {change(key): map_strings(item, change, levels - 1) for key, item in pairs}
    return value


def _message(item: Any, where: str) -> Message:
    if not isinstance(item, dict):
        raise NotADocument(f"{where} is {kind_of(item)}, not an object")
    message = {key: value for key, value in cast("Message", item).items() if value is not None}
    if "from" in message and "role" not in message:
        message = _from_sharegpt(message, where)
    if not isinstance(message.get("role"), str):
        raise NotADocument(f"{where} has no role (it has {names_in(message)})")
    content = message.get("content", "")
    if isinstance(content, list):
        for part in cast("list[Any]", content):
            _check_part(part, where)
    elif not isinstance(content, str):
        raise NotADocument(f"the content of {where} is {kind_of(content)}, not text")
    reasoning = next((message[name] for name in _REASONING if name in message), None)
    return (
        message if reasoning is None else {"thinking": reasoning, **message, "reasoning_content": reasoning}
    )


def _check_part(part: Any, where: str) -> None:
    if not isinstance(part, dict):
        raise NotADocument(f"a part of {where} is {kind_of(part)}, not an object")
    kind, text = cast("Message", part).get("type"), cast("Message", part).get("text")
    if kind != "text" or not isinstance(text, str):
        raise NotADocument(f"a part of {where} is of type {kind!r} with {names_in(part)}, not a text")


def _from_sharegpt(message: Message, where: str) -> Message:
    """The same as a role and content; a function call, which is JSON there, as ``tool_calls``."""
    others = {key: value for key, value in message.items() if key not in ("from", "value")}
    if message["from"] != "function_call":
        role = _SHAREGPT_ROLES.get(str(message["from"]), message["from"])
        return {"role": role, "content": message.get("value"), **others}
    try:
        call = json.loads(message["value"])
        function = {"name": call["name"], "arguments": call["arguments"]}
    except (ValueError, KeyError, TypeError, RecursionError):
        raise NotADocument(
            f"{where} is a function call, but no JSON object with name and arguments"
        ) from None
    return {"role": "assistant", "tool_calls": [{"type": "function", "function": function}], **others}
