"""Chats: ``{"messages": [{"role": ..., "content": ...}, ...]}``, put into words by a chat template.

The text is what transformers' ``apply_chat_template`` renders. Trained are the assistant's turns; and what a message spells
never becomes a special token, only what the template writes.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, cast

from tersely.corpus.records.marks import Range, check_unmarked, unmarked
from tersely.corpus.records.messages import Message, map_strings, messages_of
from tersely.corpus.records.protocol import NoField, NotADocument, kind_of, refusing
from tersely.corpus.records.spoofs import Spellings
from tersely.corpus.records.template import ChatTemplate, rendered
from tersely.corpus.records.turns import Turns
from tersely.corpus.stretches import Marked, Segment

OPTIONS = ("tools", "chat_template_kwargs")
"""The fields that a template may want to know besides the messages, under the names that TRL has for them."""

_FIELDS = ("messages", "conversations")


@dataclass(frozen=True)
class ChatRecords:
    """Records with messages in the field ``messages``, or ``conversations``.

    Attributes:
        template: what puts them into words.
        spellings: the special tokens that the template may write, and messages may not.
    """

    template: ChatTemplate
    spellings: tuple[str, ...] = ()

    @property
    def columns(self) -> tuple[str, ...]:
        """The messages, under either name, and what a template may want to know besides."""
        return (*_FIELDS, *OPTIONS)

    @refusing
    def document(self, record: dict[str, Any]) -> Marked:
        """The chat."""
        field = next((name for name in _FIELDS if record.get(name) is not None), None)
        if field is None:
            raise NoField("'messages' or 'conversations'", record)
        return self.marked(messages_of(record[field], field), options_of(record))

    def marked(self, messages: list[Message], options: dict[str, Any], first: int = 0) -> Marked:
        """The chat of these messages, of which only the assistant's turns from number ``first`` on are trained.

        Raises:
            NotADocument: the template refuses the messages, or it cannot be told who wrote what.
        """
        map_strings([messages, options], check_unmarked)
        text = rendered(self.template, messages, options)
        trained = self._turns.find(text, messages, options, first)
        return _segments(text, trained, self._spoofed(text, messages, options))

    def _spoofed(self, text: str, messages: list[Message], options: dict[str, Any]) -> list[Range]:
        """The ranges of ``text`` that only look like special tokens."""
        given = [messages, options]
        disguised = self._spellings.marked(given)
        if disguised == given:
            return []
        found = unmarked(rendered(self.template, *disguised))
        if found is None or found[0] != text:
            raise NotADocument(
                "a message spells a special token by which the template decides what to write: change the spelling, or "
                "allow it by name (allowed_specials)"
            )
        return found[1]

    @cached_property
    def _turns(self) -> Turns:
        return Turns(self.template, self.spellings)

    @cached_property
    def _spellings(self) -> Spellings:
        return Spellings(self.spellings)


def options_of(record: dict[str, Any]) -> dict[str, Any]:
    """What a template may want to know besides the messages; ``tools`` may be JSON text."""
    options = record.get("chat_template_kwargs") or {}
    if not isinstance(options, dict):
        raise NotADocument(f"the field 'chat_template_kwargs' is {kind_of(options)}, not an object")
    tools = record.get("tools")
    if isinstance(tools, str):
        try:
            tools = json.loads(tools) if tools.strip() else None
        except (ValueError, RecursionError):
            raise NotADocument("the field 'tools' is a string, but not JSON") from None
    if tools is not None and not isinstance(tools, list):
        raise NotADocument(f"the field 'tools' is {kind_of(tools)}, not an array")
    return {**cast("dict[str, Any]", options), **({"tools": tools} if tools else {})}


def _segments(text: str, trained: list[Range], spoofed: list[Range]) -> Marked:
    """The text, cut where one or the other changes."""
    cuts = sorted(
        {0, len(text), *(place for ranges in (trained, spoofed) for pair in ranges for place in pair)}
    )
    return tuple(
        Segment(text[start:stop], is_trained, not is_spoofed)
        for (start, stop), is_trained, is_spoofed in zip(
            pairwise(cuts), _covered(cuts, trained), _covered(cuts, spoofed), strict=False
        )
    )


def _covered(places: list[int], ranges: list[Range]) -> list[bool]:
    """Whether each place is in one of the ranges, which are in order and do not overlap."""
    starts = [start for start, _ in ranges]
    numbers = [bisect_right(starts, place) - 1 for place in places]
    return [number >= 0 and place < ranges[number][1] for place, number in zip(places, numbers, strict=True)]
