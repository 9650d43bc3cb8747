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

However 2 and 3 find it, a turn begins behind the one before it, and has no character of what others say.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from typing import Any

from tersely.corpus.records.marks import START, Range, unmarked
from tersely.corpus.records.messages import Message
from tersely.corpus.records.protocol import NotADocument
from tersely.corpus.records.shown import Shown, check_work, shown, texts_of, unsure, with_marks
from tersely.corpus.records.template import ChatTemplate, rendered

_TAG = r"<[^<>\s]+>"  # closes a turn as well, where the vocabulary knows no such special token
_PROBE = [{"role": role, "content": role[0]} for role in ("user", "assistant", "user", "assistant")]
_SHOWN = {"role", "content", "name"}  # of a message, what needs no more than marks
_MOST_BOUNDS = 64  # kept: options may differ from record to record


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
        if not wanted:
            return []
        plain = [i for i in wanted if any(texts_of(messages[i])) and not messages[i].get("tool_calls")]
        places = shown(self.template, text, messages, options, wanted, plain)
        costly = [i for i in wanted if i not in places.own or not messages[i].keys() <= _SHOWN]
        check_work(len(costly), text, messages)
        turns: list[Range] = []
        for i in wanted:
            free_from = turns[-1][1] if turns else 0
            if i in places.own:
                start, stop = self._by_marks(text, messages, options, i, places, free_from)
            else:
                start, stop = self._by_rendering(text, messages, options, i)
            if start < free_from or places.has_others(start, stop):
                raise unsure(i)
            turns.append((start, stop))
        return turns

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
        self,
        text: str,
        messages: list[Message],
        options: Mapping[str, Any],
        number: int,
        places: Shown,
        free_from: int,
    ) -> Range:
        """The turn of message ``number``, whose content was found."""
        begin, stop = places.own[number]
        before, after = places.around(begin)
        if messages[number].keys() <= _SHOWN:
            start = self._opened(text, max(free_from, before), begin, options)
        else:  # reasoning, which comes before the content
            start = self._start(text, messages, options, number)
        return start, self._closed(text, stop, after, options)

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
        raise unsure(number)

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
            raise unsure(number)
        return len(before) - min(missing)

    def _opened(self, text: str, after: int, before: int, options: Mapping[str, Any]) -> int:
        """The end of the last opening of a turn in a range, or of the range if there is none."""
        opening, _ = self._bounds(options)
        place = text.rfind(opening, after, before) if opening else -1
        return place + len(opening) if place >= 0 else before

    def _closed(self, text: str, stop: int, before: int, options: Mapping[str, Any]) -> int:
        """The end of what closes a turn whose content stops there, ``stop`` itself if nothing in the range does."""
        _, closing = self._bounds(options)
        if closing and text.startswith(closing, stop, before):
            return stop + len(closing)
        match = self._next_special.match(text, stop, before)
        return match.end() if match else stop

    def _bounds(self, options: Mapping[str, Any]) -> tuple[str, str]:
        """What opens and closes a turn of this template, "" each if it cannot be told."""
        known = {name: value for name, value in options.items() if name != "tools"}
        key = blake2b(repr(known).encode("utf-8", "surrogatepass")).digest()
        bounds = self._known_bounds.pop(key, None) or (self._opening(known), self._closing(known))
        self._known_bounds[key] = bounds  # the last one asked for stands last
        if len(self._known_bounds) > _MOST_BOUNDS:
            del self._known_bounds[next(iter(self._known_bounds))]
        return bounds

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
        chat = [with_marks(message) if message["role"] == "assistant" else message for message in _PROBE]
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
    def _known_bounds(self) -> dict[bytes, tuple[str, str]]:
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


def _shared(one: str, other: str) -> int:
    """How many characters both begin with."""
    size = min(len(one), len(other))
    if one[:size] == other[:size]:
        return size
    return next(place for place in range(size) if one[place] != other[place])
