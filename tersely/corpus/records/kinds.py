"""Which kind of records a corpus has, by the name that people give it."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from tersely.corpus.records.chat import ChatRecords
from tersely.corpus.records.completion import CompletionRecords
from tersely.corpus.records.protocol import Records, TextRecords
from tersely.corpus.records.template import chat_template_for
from tersely.errors import UsageError
from tersely.tokenize import Tokenizer
from tersely.tokenize.specials import special_tokens


class RecordKind(StrEnum):
    """What the records of a corpus hold."""

    TEXT = "text"
    """A text, all of which is trained."""
    PROMPT_COMPLETION = "prompt-completion"
    """``prompt`` and ``completion``, strings or messages; the completion is trained."""
    MESSAGES = "messages"
    """``messages`` or ``conversations``; the assistant's turns are trained."""


def records_of(
    kind: RecordKind,
    tok: Tokenizer,
    *,
    text_field: str = "text",
    chat_template: str | None = None,
    now: datetime | None = None,
) -> Records:
    """The records of a kind, for documents that ``tok`` will encode.

    Args:
        kind: what they hold.
        tok: whose special tokens the template may write and messages may not.
        text_field: where the text is.
        chat_template: what puts messages into words, in jinja's language, see ``read_chat_template``.
        now: the moment that a template which asks for the date is told; by default the present one.

    Raises:
        UsageError: messages need a template and there is none, or it is none.
    """
    if kind is RecordKind.TEXT:
        return TextRecords(text_field)
    chat = None
    if chat_template is not None:
        template = chat_template_for(tok, chat_template, now)
        template.check()
        chat = ChatRecords(template, tuple(token.spelling for token in special_tokens(tok)))
    if kind is RecordKind.PROMPT_COMPLETION:
        return CompletionRecords(chat)
    if chat is None:
        raise UsageError("messages need a chat template: name a file or a tokenizer's folder that holds one")
    return chat
