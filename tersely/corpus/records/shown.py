r"""Where in a rendered chat the contents of its messages stand: those whose turns are looked for, and those of others.

    <|im_start|>user\nhi there<|im_end|>\n<|im_start|>assistant\nhello<|im_end|>\n
                      [others]                                   [own]

Each content is put between marks, those of others between another kind, and the marks are looked for in what the template
makes of it. That is believed if the rest is, character by character, the chat as it is rendered without marks.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from tersely.corpus.records.marks import OTHER_START, START, Range, marked, merged, unmarked
from tersely.corpus.records.messages import Message
from tersely.corpus.records.protocol import NotADocument
from tersely.corpus.records.template import ChatTemplate, rendered

_STARTS = re.compile(f"[{START}{OTHER_START}]")

_MOST_WORK = 1 << 32
"""Characters that may be rendered over and over for one chat: seconds, or a minute under an elaborate template."""

_MESSAGE_WORK = 1000
"""Characters that cost as much as a message that has none."""


@dataclass(frozen=True)
class Shown:
    """Where contents stand in a rendered chat.

    Attributes:
        own: of each message whose turn can be found by it, from its first text to its last.
        others: what anyone else says, in order.
        size: of the chat.
    """

    own: dict[int, Range]
    others: list[Range]
    size: int

    def around(self, place: int) -> Range:
        """Where the last of the others that began before ``place`` stops, and where the next one begins."""
        number = bisect_right(self._starts, place)
        before = self.others[number - 1][1] if number else 0
        return before, self.others[number][0] if number < len(self.others) else self.size

    def has_others(self, start: int, stop: int) -> bool:
        """Whether any character of this range is of others."""
        before, after = self.around(start)
        return before > start or after < stop

    @cached_property
    def _starts(self) -> list[int]:
        return [start for start, _ in self.others]


def shown(
    template: ChatTemplate,
    text: str,
    messages: list[Message],
    options: Mapping[str, Any],
    wanted: Sequence[int],
    plain: Sequence[int],
) -> Shown:
    """Where the contents of the messages ``plain``, and of all that are not ``wanted``, stand in ``text``.

    If the template does more than show the contents of ``plain``, none of them are found.

    Raises:
        NotADocument: the template does more than show what others say, or that would take too long to tell.
    """
    chat = _Chat(template, text, messages, options)
    sought = set(wanted)
    others = [i for i, message in enumerate(messages) if i not in sought and any(_said(message))]
    if places := chat.places(plain, others):
        own, foreign = places
    else:
        own, _ = chat.places(plain, []) or ([], [])
        foreign = chat.others(others)
    counts = [sum(map(bool, texts_of(messages[i]))) for i in plain]
    if len(own) != sum(counts):
        return Shown({}, merged(foreign), len(text))
    ranges = iter(own)
    of_messages = ([next(ranges) for _ in range(count)] for count in counts)
    found = {i: (parts[0][0], parts[-1][1]) for i, parts in zip(plain, of_messages, strict=True)}
    return Shown(found, merged(foreign), len(text))


@dataclass(frozen=True)
class _Chat:
    template: ChatTemplate
    text: str
    messages: list[Message]
    options: Mapping[str, Any]

    def places(self, plain: Sequence[int], others: Sequence[int]) -> tuple[list[Range], list[Range]] | None:
        """Where texts of both stand, as often as they are shown; None if marks change more than that."""
        changed = list(self.messages)
        for i in plain:
            changed[i] = with_marks(self.messages[i])
        for i in others:
            name = self.messages[i].get("name")
            named = {"name": _within(name, OTHER_START)} if isinstance(name, str) else {}
            changed[i] = {**with_marks(self.messages[i], OTHER_START), **named}
        try:
            made = rendered(self.template, changed, self.options)
        except NotADocument:
            return None
        found = unmarked(made.replace(OTHER_START, START))
        if found is None or found[0] != self.text:
            return None
        ranges: dict[str, list[Range]] = {START: [], OTHER_START: []}
        for start, place in zip(_STARTS.findall(made), found[1], strict=True):
            ranges[start].append(place)
        return ranges[START], ranges[OTHER_START]

    def others(self, others: Sequence[int]) -> list[Range]:
        """Where the texts of others stand, if need be one message after the other."""
        if places := self.places([], others):
            return places[1]
        check_work(len(others), self.text, self.messages)
        return [place for i in others for place in self._of_one(i)]

    def _of_one(self, number: int) -> list[Range]:
        if places := self.places([], [number]):
            return places[1]
        found: list[Range] = []
        for said in filter(None, _said(self.messages[number])):
            place = self.text.find(said)
            if place < 0 or self.text.find(said, place + 1) >= 0:
                if self.messages[number]["role"] == "assistant":  # not wanted, but no one else's
                    continue
                raise unsure(number)
            found.append((place, place + len(said)))
        return found


def check_work(times: int, text: str, messages: Sequence[Message]) -> None:
    """Raises NotADocument if it would take too long to render a chat that many times."""
    if times * (len(text) + _MESSAGE_WORK * len(messages)) > _MOST_WORK:
        raise NotADocument(
            f"{times} of {len(messages)} messages must be told apart by rendering all {len(text)} characters again for each: "
            "split the chat, or use a template with generation blocks"
        )


def unsure(number: int) -> NotADocument:
    """Of the message ``number`` cannot be told what it became."""
    return NotADocument(
        f"the template writes message {number} another way once others follow, or for what it says, so that it cannot be "
        "told what the assistant wrote: use a template with generation blocks"
    )


def texts_of(message: Message) -> list[str]:
    """The texts of a message, blanks around them left out."""
    content = message.get("content", "")
    return [content.strip()] if isinstance(content, str) else [part["text"].strip() for part in content]


def with_marks(message: Message, mark: str = START) -> Message:
    """The message with marks around each of its texts, inside the blanks, which the template may take away."""
    content = message.get("content", "")
    if not content:
        return message
    if isinstance(content, str):
        return {**message, "content": _within(content, mark)}
    return {**message, "content": [{**part, "text": _within(part["text"], mark)} for part in content]}


def _said(message: Message) -> list[str]:
    name = message.get("name")
    return [*texts_of(message), *([name.strip()] if isinstance(name, str) else [])]


def _within(text: str, mark: str) -> str:
    first = len(text) - len(text.lstrip())
    return marked(text, [(first, len(text.rstrip()))], mark) if text.strip() else text
