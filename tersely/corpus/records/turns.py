r"""Which characters of a rendered chat the assistant wrote: what the loss is on.

    <|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\nhello<|im_end|>\n
                                                          [---- turn ---]

A turn reaches from what opens it, which the template writes for the model, to the end of what closes it, which the model
must learn to write; blanks after that are no part of it. There are three ways to find turns, each checked against the chat
as it is rendered without any of this, and a turn that none is sure of is refused:

1. The template says it, by ``{% generation %}``.
2. The contents of the turns are put between marks, and the marks looked for in the rendered chat.
3. Where that fails, since the template looks into contents, and for turns with tool calls: the chat is rendered up to the
   turn, and again with another message after it; the turn is in what both have in common with the whole.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from tersely.corpus.records.marks import START, Range, marked, unmarked
from tersely.corpus.records.messages import Message
from tersely.corpus.records.protocol import NotADocument
from tersely.corpus.records.template import ChatTemplate, rendered

_TAG = r"<[^<>\s]+>"  # closes a turn as well, where the vocabulary knows no such special token
_PROBE = [{"role": role, "content": role[0]} for role in ("user", "assistant", "user", "assistant")]
_SHOWN = {"role", "content", "name"}  # of a message, what needs no more than marks


@dataclass(frozen=True)
class Turns:
    """Finds the assistant's turns.

    Attributes:
        template: what renders chats.
        spellings: the special tokens of the vocabulary.
    """

    template: ChatTemplate
    spellings: tuple[str, ...]

    def find(
        self, text: str, messages: list[Message], options: Mapping[str, Any], first: int = 0
    ) -> list[Range]:
        """The ranges of ``text``, the rendered ``messages``, that the assistant wrote in ``messages[first:]``.

        Raises:
            NotADocument: it cannot be told for certain.
        """
        if self.template.marks_generation:
            return self._said(text, messages, options, first)
        wanted = [i for i in range(first, len(messages)) if messages[i]["role"] == "assistant"]
        plain = [i for i in wanted if any(_texts(messages[i])) and not messages[i].get("tool_calls")]
        found = self._by_marks(text, messages, options, plain)
        return [found.get(i) or self._by_rendering(text, messages, options, i) for i in wanted]

    def _said(
        self, text: str, messages: list[Message], options: Mapping[str, Any], first: int
    ) -> list[Range]:
        found = unmarked(rendered(self.template, messages, options, marks=True))
        if found is None or found[0] != text:
            raise NotADocument("the template changes what its own generation blocks hold after they end")
        if not first:
            return found[1]
        before = unmarked(rendered(self.template, messages[:first], options, marks=True))
        return found[1][len(before[1]) if before else 0 :]

    def _by_marks(
        self, text: str, messages: list[Message], options: Mapping[str, Any], plain: Sequence[int]
    ) -> dict[int, Range]:
        """The turns of the messages ``plain``, which have text; none if the template does more than show their text."""
        changed = list(messages)
        for i in plain:
            changed[i] = _with_marks(messages[i])
        try:
            found = unmarked(rendered(self.template, changed, options)) if plain else None
        except NotADocument:
            return {}
        counts = [sum(map(bool, _texts(messages[i]))) for i in plain]
        if found is None or found[0] != text or len(found[1]) != sum(counts):
            return {}
        turns: dict[int, Range] = {}
        ranges = iter(found[1])
        free_from = 0
        for i, count in zip(plain, counts, strict=True):
            own = [next(ranges) for _ in range(count)]
            if messages[i].keys() <= _SHOWN:
                start = self._opened(text, free_from, own[0][0], options)
            else:  # reasoning, which comes before the content
                start = self._start(text, messages, options, i)
            free_from = self._closed(text, own[-1][1], options)
            turns[i] = start, free_from
        return turns

    def _by_rendering(
        self, text: str, messages: list[Message], options: Mapping[str, Any], number: int
    ) -> Range:
        start, (_, closing) = self._start(text, messages, options, number), self._bounds(options)
        end = self._next_content(text, messages, options, number)
        if closing and (closed := text.rfind(closing, start, end)) >= 0:
            return start, closed + len(closing)
        after = rendered(self.template, messages[: number + 1], options)
        end = _shared(text, after)
        closes = [match.end() for match in self._special.finditer(text, start, end)]
        for stop in (*closes[-1:], max(start, len(text[:end].rstrip()))):
            if not self._special.sub("", after[stop:]).strip():
                return start, stop
        raise _unsure(number)

    def _next_content(
        self, text: str, messages: list[Message], options: Mapping[str, Any], number: int
    ) -> int:
        """Where the content of the message after message ``number`` begins; 0 if the template fails to tell."""
        if number + 1 == len(messages):
            return len(text)
        other = {**messages[number + 1], "content": START}
        try:
            return _shared(text, rendered(self.template, [*messages[: number + 1], other], options))
        except NotADocument:
            return 0

    def _start(self, text: str, messages: list[Message], options: Mapping[str, Any], number: int) -> int:
        """Where the turn of message ``number`` begins: after all that is rendered for the model to go on from."""
        before = rendered(self.template, messages[:number], options, prompt=True)
        shared = _shared(text, before)
        if shared == len(before):
            return shared
        # A template that opens answers with, say, <think> may leave that out of those that are not the last.
        opening, _ = self._bounds(options)
        ends = [match.end() for match in self._line.finditer(opening)]
        missing = [len(opening) - end for end in ends if len(before) - (len(opening) - end) <= shared]
        if not opening or not before.endswith(opening) or not missing:
            raise _unsure(number)
        return len(before) - min(missing)

    def _opened(self, text: str, after: int, before: int, options: Mapping[str, Any]) -> int:
        """The end of the last opening of a turn in a range, or of the range if there is none."""
        opening, _ = self._bounds(options)
        place = text.rfind(opening, after, before) if opening else -1
        return place + len(opening) if place >= 0 else before

    def _closed(self, text: str, stop: int, options: Mapping[str, Any]) -> int:
        """The end of what closes a turn whose content stops there, ``stop`` itself if nothing does."""
        _, closing = self._bounds(options)
        if closing and text.startswith(closing, stop):
            return stop + len(closing)
        match = self._next_special.match(text, stop)
        return match.end() if match else stop

    def _bounds(self, options: Mapping[str, Any]) -> tuple[str, str]:
        """What opens and closes a turn of this template, "" each if it cannot be told."""
        known = {name: value for name, value in options.items() if name != "tools"}
        key = json.dumps(known, sort_keys=True)
        if key not in self._known_bounds:
            self._known_bounds[key] = self._opening(known), self._closing(known)
        return self._known_bounds[key]

    def _opening(self, options: Mapping[str, Any]) -> str:
        try:
            asked = rendered(self.template, _PROBE[:1], options, prompt=True)
            left = rendered(self.template, _PROBE[:1], options)
        except NotADocument:
            return ""
        opening = asked[_shared(asked, left) :]
        return opening if opening.strip() else ""

    def _closing(self, options: Mapping[str, Any]) -> str:
        """What stands after an answer both in the midst of a chat and at its end."""
        chat = [_with_marks(message) if message["role"] == "assistant" else message for message in _PROBE]
        try:
            found = unmarked(rendered(self.template, chat, options))
        except NotADocument:
            return ""
        if found is None or len(found[1]) != 2:
            return ""
        text, ((_, midst), (_, end)) = found
        shared = text[midst:][: _shared(text[midst:], text[end:])]
        closes = [match.end() for match in self._special.finditer(shared)]
        if closes:
            return shared[: closes[-1]]
        return shared.rstrip() if shared == text[end:] else ""

    @cached_property
    def _known_bounds(self) -> dict[str, tuple[str, str]]:
        return {}

    @cached_property
    def _special(self) -> re.Pattern[str]:
        return re.compile("|".join([*map(re.escape, sorted(self.spellings, key=len, reverse=True)), _TAG]))

    @cached_property
    def _next_special(self) -> re.Pattern[str]:
        return re.compile(rf"\s*(?:{self._special.pattern})")

    @cached_property
    def _line(self) -> re.Pattern[str]:
        return re.compile(rf"\n|{self._special.pattern}")


def _unsure(number: int) -> NotADocument:
    return NotADocument(
        f"the template writes message {number} another way once others follow, so that it cannot be told what the "
        "assistant wrote: use a template with generation blocks"
    )


def _shared(one: str, other: str) -> int:
    """How many characters both begin with."""
    size = min(len(one), len(other))
    if one[:size] == other[:size]:
        return size
    return next(place for place in range(size) if one[place] != other[place])


def _texts(message: Message) -> list[str]:
    """The texts of a message, blanks around them left out."""
    content = message.get("content", "")
    return [content.strip()] if isinstance(content, str) else [part["text"].strip() for part in content]


def _with_marks(message: Message) -> Message:
    """The message with marks around each of its texts, inside the blanks, which the template may take away."""

    def within(text: str) -> str:
        first = len(text) - len(text.lstrip())
        return marked(text, [(first, len(text.rstrip()))]) if text.strip() else text

    content = message["content"]
    if isinstance(content, str):
        return {**message, "content": within(content)}
    return {**message, "content": [{**part, "text": within(part["text"])} for part in content]}
