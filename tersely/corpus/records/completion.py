"""Prompts and completions: ``{"prompt": ..., "completion": ...}``, trained on the completion alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tersely.corpus.records.chat import OPTIONS, ChatRecords, options_of
from tersely.corpus.records.messages import messages_of
from tersely.corpus.records.protocol import NotADocument, field_of, kind_of, refusing
from tersely.corpus.stretches import Marked, Segment


@dataclass(frozen=True)
class CompletionRecords:
    """Records whose ``prompt`` and ``completion`` are both strings, or both lists of messages.

    Strings are put one after the other, and the whole completion is trained. Messages are one chat, of which the
    assistant's turns in the completion are trained.

    Attributes:
        chat: how messages are put into words; without it records of messages are refused.
    """

    chat: ChatRecords | None = None

    @property
    def columns(self) -> tuple[str, ...]:
        """Both, and what a template may want to know besides."""
        return ("prompt", "completion", *(OPTIONS if self.chat else ()))

    @refusing
    def document(self, record: dict[str, Any]) -> Marked:
        """The prompt and the completion."""
        prompt, completion = field_of(record, "prompt"), field_of(record, "completion")
        if isinstance(prompt, str) and isinstance(completion, str):
            return Segment(prompt, False, False), Segment(completion, True, False)
        if not (isinstance(prompt, list) and isinstance(completion, list)):
            raise NotADocument(
                f"the prompt is {kind_of(prompt)} and the completion {kind_of(completion)}: both are strings, or both "
                "arrays of messages"
            )
        if self.chat is None:
            raise NotADocument("the prompt is an array of messages: they need a chat template")
        before = messages_of(prompt, "prompt")
        return self.chat.marked(
            [*before, *messages_of(completion, "completion")], options_of(record), len(before)
        )
