"""What a record of a corpus says: a text, a prompt with its completion, or a chat.

kinds.py       from the name of a kind to its records
protocol.py    what every kind of records offers; a text in a field
completion.py  prompts and completions, as strings or as messages
chat.py        messages, put into words by a chat template
messages.py    messages as they come, checked and in one shape
template.py    chat templates: found, compiled in a sandbox, rendered
marks.py       how parts of a text are found again in what a template makes of it
shown.py       where the contents of messages stand in a rendered chat
turns.py       which characters of a rendered chat the assistant wrote
spoofs.py      which characters only look like special tokens

All but the texts is imported on first use: chat templates load jinja2, which most jobs do not need.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from tersely.corpus.records.protocol import NotADocument as NotADocument
from tersely.corpus.records.protocol import Records as Records
from tersely.corpus.records.protocol import TextRecords as TextRecords

if TYPE_CHECKING:
    from tersely.corpus.records.chat import ChatRecords as ChatRecords
    from tersely.corpus.records.completion import CompletionRecords as CompletionRecords
    from tersely.corpus.records.kinds import RecordKind as RecordKind
    from tersely.corpus.records.kinds import records_of as records_of
    from tersely.corpus.records.template import ChatTemplate as ChatTemplate
    from tersely.corpus.records.template import chat_template_for as chat_template_for
    from tersely.corpus.records.template import read_chat_template as read_chat_template

_HOMES = {
    "ChatRecords": "chat",
    "CompletionRecords": "completion",
    "RecordKind": "kinds",
    "records_of": "kinds",
    "ChatTemplate": "template",
    "chat_template_for": "template",
    "read_chat_template": "template",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'tersely.corpus.records' has no attribute {name!r}")
    return getattr(importlib.import_module(f"tersely.corpus.records.{_HOMES[name]}"), name)
