"""Chat templates of Hugging Face: found in files, compiled in jinja's sandbox, rendered.

A template is code from somewhere else. It runs in the sandbox, sees JSON values only, and has what transformers gives it: the
filter ``tojson`` (which escapes no HTML), ``raise_exception``, ``strftime_now``, the loop controls, and
``{% generation %}`` around what the assistant writes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any, NoReturn, cast

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.runtime import Context, Macro
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

from tersely.corpus.records.marks import START, STOP
from tersely.corpus.records.messages import Message
from tersely.corpus.records.protocol import NotADocument
from tersely.errors import UsageError
from tersely.tokenize import Tokenizer
from tersely.tokenize.specials import special_tokens

_MARKING = "tersely_marks_generation"
_ANY_MOMENT = datetime(2000, 1, 1)


@dataclass(frozen=True)
class ChatTemplate:
    """A chat template.

    Attributes:
        source: the template, in jinja's language.
        variables: the spellings of special tokens by the names that templates have for them, such as ``bos_token``.
        now: what ``strftime_now`` tells: one moment for a whole corpus, so that it does not depend on when a part of it was
            made. Always the same one if the template does not ask for it: what is made does not depend on it then.

    Raises:
        UsageError: on first use, if it is no template.
    """

    source: str
    variables: Mapping[str, str] = field(default_factory=dict[str, str])
    now: datetime = field(default_factory=datetime.now)

    def __post_init__(self) -> None:
        if "strftime_now" not in self.source:
            object.__setattr__(self, "now", _ANY_MOMENT)

    def render(
        self,
        messages: list[Message],
        options: Mapping[str, Any],
        *,
        prompt: bool = False,
        marks: bool = False,
    ) -> str:
        """The text of a chat.

        Args:
            messages: the chat.
            options: ``tools``, and other variables that the template may know.
            prompt: whether to end with what opens an answer of the assistant.
            marks: whether to put ``START`` and ``STOP`` around what ``{% generation %}`` encloses.

        Raises:
            jinja2.TemplateError: the template refuses the messages. (Its own mistakes can raise anything.)
        """
        known = {"tools": None, "documents": None, **self.variables, **options, _MARKING: marks}
        return self._compiled.render(messages=messages, add_generation_prompt=prompt, **known)

    def check(self) -> None:
        """Raises UsageError, with the line, if it is no template."""
        _ = self._compiled

    @cached_property
    def marks_generation(self) -> bool:
        """Whether it says by itself what the assistant writes."""
        tree = self._compiled.environment.parse(self.source)
        return any(
            node.identifier == _Generation.identifier for node in tree.find_all(nodes.ExtensionAttribute)
        )

    @cached_property
    def _compiled(self) -> jinja2.Template:
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, "jinja2.ext.loopcontrols"]
        )
        environment.filters["tojson"] = _tojson
        known: dict[str, Any] = environment.globals
        known |= {"raise_exception": _refuse, "strftime_now": self.now.strftime, "namespace": _Namespace}
        try:
            return environment.from_string(self.source)
        except jinja2.TemplateSyntaxError as error:
            raise UsageError(f"line {error.lineno} of the chat template: {error.message}") from error

    def __reduce__(self) -> tuple[Any, ...]:
        return ChatTemplate, (self.source, self.variables, self.now)  # what it compiled to cannot be pickled


class _Generation(Extension):
    """``{% generation %} ... {% endgeneration %}``: what is between is shown, between marks if they are asked for."""

    tags = {"generation"}  # noqa: RUF012  # an attribute that jinja reads

    def parse(self, parser: Parser) -> nodes.Node:
        """The block as a call with its body."""
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        call = self.call_method("_shown", [nodes.ContextReference()])
        return nodes.CallBlock(call, [], [], body).set_lineno(line)

    def _shown(self, context: Context, caller: Macro) -> str:
        return f"{START}{caller()}{STOP}" if context.get(_MARKING) else caller()


class _Namespace(Namespace):
    """Jinja's, without names that begin with ``_``: with those a template could pose as a part of Python."""

    def __init__(self, /, *args: Any, **kwargs: Any) -> None:
        for name in dict(*args, **kwargs):
            _check_name(name)
        super().__init__(*args, **kwargs)

    def __setitem__(self, name: str, value: Any) -> None:
        _check_name(name)
        super().__setitem__(name, value)


def _check_name(name: Any) -> None:
    if str(name).startswith("_"):
        raise jinja2.exceptions.SecurityError(f"a namespace cannot have the name {name!r}")


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def _refuse(reason: str) -> NoReturn:
    raise jinja2.TemplateError(reason)


def rendered(
    template: ChatTemplate,
    messages: list[Message],
    options: Mapping[str, Any],
    *,
    prompt: bool = False,
    marks: bool = False,
) -> str:
    """``template.render``; raises NotADocument, with what the template says, if it fails on these messages."""
    try:
        return template.render(messages, options, prompt=prompt, marks=marks)
    except UsageError:
        raise
    except Exception as error:  # a template is a program: it fails as programs do
        raise NotADocument(f"the chat template fails: {type(error).__name__}: {error}") from error


def chat_template_for(tok: Tokenizer, source: str, now: datetime | None = None) -> ChatTemplate:
    """The template, told how ``tok`` spells the special tokens that templates write themselves, and the moment."""
    spellings = {token.id: token.spelling for token in special_tokens(tok)}
    ids = {"bos_token": tok.bos_id, "eos_token": tok.eos_id, "pad_token": tok.pad_id}
    return ChatTemplate(
        source,
        {
            name: spellings[number]
            for name, number in ids.items()
            if number is not None and number in spellings
        },
        now or datetime.now(),
    )


def read_chat_template(path: str | Path) -> str:
    """The template in a file, or in a tokenizer's folder (``chat_template.jinja`` or ``tokenizer_config.json``).

    Of several under names, that called ``default`` is taken.

    Raises:
        UsageError: there is none, or it cannot be read.
    """
    path = Path(path)
    try:
        if path.is_dir():
            names = ("chat_template.jinja", "chat_template.json", "tokenizer_config.json")
            found = [path / name for name in names if (path / name).exists()]
            templates = [_template_in(file) for file in found]
            if any(templates):
                return next(filter(None, templates))
        elif template := _template_in(path):
            return template
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise UsageError(f"the chat template in {path} cannot be read: {error}") from error
    raise UsageError(f"{path} has no chat template: name a file with one (--chat-template FILE)")


def _template_in(file: Path) -> str:
    """The template in a file, "" if it has none."""
    content = file.read_text(encoding="utf-8-sig")
    if file.suffix != ".json":
        return content
    stored = json.loads(content)
    template = cast("dict[str, Any]", stored).get("chat_template") if isinstance(stored, dict) else None
    if isinstance(template, list):
        named = {str(item["name"]): item["template"] for item in cast("list[dict[str, Any]]", template)}
        template = named.get("default")
    return template if isinstance(template, str) else ""
