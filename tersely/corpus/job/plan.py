"""What a job will do, frozen before it starts: its settings, its inputs, and the parts of them that make a task."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

import xxhash

import tersely
from tersely.corpus.read import Source, Span
from tersely.errors import CorpusError
from tersely.shards import Packing

_ROWS = 1024
_SMALLEST, _LARGEST = 8 << 20, 1 << 30
_TASKS = 4096


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What decides the bytes of a folder besides the inputs.

    ``tokenizer`` is a fingerprint; ``salvage`` says whether the records before the break of a broken input are kept.
    """

    tokenizer: str
    packing: Packing
    bos: bool
    eos: bool
    shard_tokens: int
    task_bytes: int
    words: bool
    labels: bool
    salvage: bool


@dataclass(frozen=True)
class Part:
    """Records of one source: all of them if ``span`` is None."""

    source: int
    span: Span | None


Task = tuple[Part, ...]
"""Parts that one task reads, in order."""


@dataclass(frozen=True)
class JobPlan:
    """A whole job; ``stamps`` are the modification times of the inputs, which do not decide its bytes."""

    settings: Settings
    sources: list[dict[str, Any]]
    tasks: list[Task]
    stamps: list[int | None]

    @property
    def content(self) -> dict[str, Any]:
        """All that decides the bytes of the folder, ready for JSON."""
        tasks = [
            [[p.source, *([p.span.start, p.span.stop] if p.span else [])] for p in t] for t in self.tasks
        ]
        content = {
            "tersely": tersely.__version__,
            "settings": asdict(self.settings),
            "sources": self.sources,
            "tasks": tasks,
        }
        return json.loads(json.dumps(content, default=str))

    @property
    def fingerprint(self) -> str:
        """A hash, 32 hexadecimal digits, of ``content``."""
        return xxhash.xxh3_128_hexdigest(json.dumps(self.content, sort_keys=True).encode())


def make_plan(sources: Sequence[Source], settings: Settings) -> JobPlan:
    """Cuts the inputs into tasks; the same inputs and settings give the same tasks.

    A task reads about as many stored bytes as ``settings.task_bytes`` says, or by default as many as 1024 rows have
    tokens, within 8 MiB and 1 GiB; in a large corpus more, so that there are some 4096 tasks. Small inputs share one; what can
    be read only once, such as standard input, has one of its own.
    """
    target = settings.task_bytes or _task_bytes(sources, settings.packing.capacity)
    tasks: list[list[Part]] = []
    held = target
    for number, source in enumerate(sources):
        spans = source.spans(target)
        size = source.size // len(spans) if is_readable_again(source) else target + 1
        for span in spans:
            if held + size > target or not tasks:
                tasks.append([])
                held = 0
            tasks[-1].append(Part(number, span))
            held += size
    return JobPlan(
        settings, [_described(source) for source in sources], [tuple(t) for t in tasks], stamps(sources)
    )


def is_readable_again(source: Source) -> bool:
    """Whether an input can be read a second time, as standard input and other pipes cannot."""
    path = getattr(source, "path", Path(__file__))
    return path is not None and not path.is_fifo() and not path.is_char_device()


def _task_bytes(sources: Iterable[Source], capacity: int) -> int:
    total = sum(source.size for source in sources)
    return min(_LARGEST, max(_SMALLEST, _ROWS * capacity, total // _TASKS))


def _described(source: Source) -> dict[str, Any]:
    if is_dataclass(source) and not isinstance(source, type):
        return {field.name: _plain(getattr(source, field.name)) for field in fields(source)}
    return {"name": source.name, "size": source.size, "fields": source.fields}


def _plain(value: Any) -> Any:
    """A setting as JSON has it; of what is made of many, such as a chat template, a hash."""
    if isinstance(value, str | int | float | tuple | None):
        return value
    text = str(value)
    return (
        text
        if isinstance(value, Path)
        else f"{type(value).__name__} {xxhash.xxh3_64_hexdigest(text.encode())}"
    )


def stamps(sources: Iterable[Source]) -> list[int | None]:
    """When each input was last changed, in nanoseconds; None where that is not known."""
    paths = [getattr(source, "path", None) for source in sources]
    return [path.stat().st_mtime_ns if isinstance(path, Path) and path.is_file() else None for path in paths]


def differ_in_content(old: dict[str, Any], new: dict[str, Any]) -> bool:
    """Whether two plans are of the same inputs, read in the same way, some of which have changed in between."""

    def without_sizes(plan: dict[str, Any]) -> list[dict[str, Any]]:
        return [{**source, "size": 0} for source in plan.get("sources") or []]

    return (
        (old.get("tersely"), old.get("settings")) == (new["tersely"], new["settings"])
        and without_sizes(old) == without_sizes(new)
        and (old.get("sources"), old.get("stamps")) != (new["sources"], new["stamps"])
    )


def check_same(old: dict[str, Any], new: JobPlan, folder: Path) -> None:
    """Raises CorpusError, which names the first difference, unless the plan found in ``folder`` is this one."""
    content = new.content
    if {name: old.get(name) for name in content} == content:
        return
    difference = "its plan is another"
    if old.get("tersely") != content["tersely"]:
        difference = f"it was begun by tersely {old.get('tersely')}, this is {content['tersely']}"
    elif old.get("settings") != content["settings"]:
        difference = _first_difference(old.get("settings") or {}, content["settings"])
    elif old.get("sources") != content["sources"]:
        difference = _different_source(old.get("sources") or [], content["sources"])
    raise CorpusError(
        f"{folder} holds another, unfinished run ({difference}): give the same command to go on with it, choose another "
        "--out, or remove the folder"
    )


def _first_difference(old: dict[str, Any], new: dict[str, Any]) -> str:
    flat_old, flat_new = old | (old.get("packing") or {}), new | new["packing"]
    for name, value in flat_new.items():
        if name != "packing" and flat_old.get(name) != value:
            return f"{name} is {flat_old.get(name)!r} there, {value!r} here"
    return "its settings are others"


def _different_source(old: list[dict[str, Any]], new: list[dict[str, Any]]) -> str:
    if len(old) != len(new):
        return f"it has {len(old)} inputs, there are {len(new)} now"
    for before, now in zip(old, new, strict=True):
        if before != now:
            name = next((name for name in now if before.get(name) != now[name]), "name")
            return f"the input {now['name']} has {name} {now[name]!r} now, {before.get(name)!r} then"
    return "its inputs are others"
