"""``manifest.json``: what a prepared folder holds, where it came from and how to check it.

It is written last, so a folder without one is unfinished. Fields of a newer minor writing that this version does not
know are ignored; another ``version`` is refused.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, field, fields
from itertools import accumulate
from pathlib import Path
from typing import Any, TypeVar

import xxhash

from tersely.errors import ShardError
from tersely.shards.atomic import replace_file
from tersely.shards.columns import OPTIONAL

MANIFEST_NAME = "manifest.json"
FORMAT = "tersely-shards"
VERSION = 2

_MOST = 1 << 53
"""No count is larger: readers may hold them as 64-bit integers, or as floats."""

_SAFE_NAME = re.compile(r"[A-Za-z0-9._-]+")
_Entry = TypeVar("_Entry")


@dataclass(frozen=True, kw_only=True)
class TokenizerEntry:
    """The tokenizer the ids are of; a copy of it is in the folder ``tokenizer``."""

    spec: str
    fingerprint: str
    vocab_size: int
    bos_id: int | None
    eos_id: int | None
    pad_id: int | None
    bos: bool
    """Whether every document opens with ``bos_id``."""
    eos: bool
    """Whether every document closes with ``eos_id``."""
    lossless: bool = True
    """Whether a handful of odd texts came back as they were from their ids."""


@dataclass(frozen=True, kw_only=True)
class Packing:
    """How documents were put into rows; ``capacity`` 0 means a row for each document."""

    capacity: int
    strategy: str
    overflow: str
    seed: int


@dataclass(frozen=True, kw_only=True)
class SourceEntry:
    """What one input gave: ``records_in == documents + empty + quarantined``."""

    name: str
    records_in: int
    documents: int
    empty: int
    quarantined: int
    bytes: int
    """UTF-8 bytes of its documents."""
    repaired: int = 0
    """Documents in which lone surrogates were replaced with U+FFFD."""
    modified_ns: int | None = None
    """When it was last changed, as it was read: nanoseconds since 1970; None where that is not known."""
    untrained: int = 0
    """Documents of which nothing is trained on, among those with labels."""
    complete: bool = True
    """False if the input broke off (a truncated archive, say) before its end."""


@dataclass(frozen=True, kw_only=True)
class ShardEntry:
    """One Arrow file: its name in the folder, counts, size in bytes and xxh3-128 checksum."""

    name: str
    rows: int
    pieces: int
    tokens: int
    documents: int
    """Documents in it, those included that were dropped for their length; they are numbered on from shard to shard."""
    size: int
    xxh3_128: str
    fields: str = ""
    """The name of the file with the strings that sources gave beside its documents, if they gave any."""


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """All that is known of a prepared folder."""

    tersely: str
    tokenizer: TokenizerEntry
    packing: Packing
    dtype: str
    plan: str = ""
    """The hash of all that decides the folder's bytes: inputs, tokenizer, settings."""
    command: str = ""
    """The command that makes it again, but for ``--out``."""
    columns: list[str] = field(default_factory=list[str])
    """The optional columns of its shards: ``labels``, ``word_lengths``."""
    truncated_tokens: int = 0
    dropped_documents: int = 0
    dropped_tokens: int = 0
    split_documents: int = 0
    sources: list[SourceEntry] = field(default_factory=list["SourceEntry"])
    shards: list[ShardEntry] = field(default_factory=list["ShardEntry"])
    files: dict[str, str] = field(default_factory=dict[str, str])
    """xxh3-128 of every other file of the folder, by its path in it."""

    @property
    def records_in(self) -> int:
        """Records found in all inputs."""
        return sum(source.records_in for source in self.sources)

    @property
    def documents(self) -> int:
        """Records that became documents."""
        return sum(source.documents for source in self.sources)

    @property
    def empty(self) -> int:
        """Records whose text is empty."""
        return sum(source.empty for source in self.sources)

    @property
    def quarantined(self) -> int:
        """Records that stand in ``quarantine.jsonl`` instead of a shard."""
        return sum(source.quarantined for source in self.sources)

    @property
    def bytes(self) -> int:
        """UTF-8 bytes of all documents."""
        return sum(source.bytes for source in self.sources)

    @property
    def tokens(self) -> int:
        """Tokens in all shards."""
        return sum(shard.tokens for shard in self.shards)

    @property
    def rows(self) -> int:
        """Rows in all shards."""
        return sum(shard.rows for shard in self.shards)

    @property
    def first_documents(self) -> list[int]:
        """For each shard the number of its first document in the corpus."""
        return list(accumulate((shard.documents for shard in self.shards), initial=0))[:-1]

    @property
    def efficiency(self) -> float:
        """Share of the places in packed rows that hold a token (1 where rows are documents, or there are none)."""
        places = self.rows * self.packing.capacity
        return self.tokens / places if places else 1.0

    def check_counts(self) -> None:
        """Raises ShardError if some source lost or invented a record."""
        for source in self.sources:
            if source.records_in != source.documents + source.empty + source.quarantined:
                raise ShardError(
                    f"{source.name}: {source.records_in} records were read, but {source.documents} documents + "
                    f"{source.empty} empty + {source.quarantined} quarantined are accounted for"
                )

    def to_dict(self) -> dict[str, Any]:
        """The content of ``manifest.json``: all fields, and the totals for a reader's convenience."""
        totals = ("records_in", "documents", "empty", "quarantined", "bytes", "tokens", "rows", "efficiency")
        head = {"format": FORMAT, "version": VERSION}
        content = head | asdict(self) | {"totals": {name: getattr(self, name) for name in totals}}
        return content | {"checksum": content_checksum(content)}

    def save(self, folder: Path) -> None:
        """Writes ``manifest.json`` in one step; the folder counts as finished from then on."""
        self.check_counts()
        replace_file(folder / MANIFEST_NAME, json.dumps(self.to_dict(), indent=2).encode() + b"\n")

    @classmethod
    def load(cls, folder: str | Path) -> Manifest:
        """Reads and checks ``manifest.json``.

        Raises:
            ShardError: there is none, it is of another format or version, a shard's name could lead out of the
                folder or is there twice, or its counts do not add up.
        """
        path = Path(folder) / MANIFEST_NAME
        if path.is_symlink():
            raise ShardError(f"{path} is a symbolic link, which it must not be: put the file itself there")
        if not path.exists():
            known = "the folder is unfinished" if Path(folder).is_dir() else "there is no such folder"
            raise ShardError(f"{path} does not exist: {known}; make it with 'tersely prepare'")
        try:
            content = json.loads(path.read_bytes())
        except (OSError, ValueError, RecursionError) as error:
            raise ShardError(f"{path} cannot be read: {error}") from error
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            raise ShardError(f"{path} is not a tersely manifest: its 'format' is not {FORMAT!r}")
        if content.get("version") != VERSION:
            raise ShardError(
                f"{path} is of version {content.get('version')}, this tersely reads version {VERSION}"
            )
        try:
            manifest = _entry(
                cls,
                content
                | {
                    "tokenizer": _entry(TokenizerEntry, content["tokenizer"]),
                    "packing": _entry(Packing, content["packing"]),
                    "sources": [_entry(SourceEntry, source) for source in content["sources"]],
                    "shards": [_entry(ShardEntry, shard) for shard in content["shards"]],
                },
            )
        except (KeyError, TypeError) as error:
            raise ShardError(f"{path} lacks a field or has one of the wrong type: {error}") from error
        manifest._check_shards(path)
        manifest.check_counts()
        if content.get("checksum") != content_checksum(content):
            raise ShardError(
                f"{path} was changed: its checksum is not that of its content; prepare the corpus again"
            )
        return manifest

    def _check_shards(self, path: Path) -> None:
        names = [shard.name for shard in self.shards]
        for name in names + [shard.fields for shard in self.shards if shard.fields]:
            if not _SAFE_NAME.fullmatch(name) or name.startswith("."):
                raise ShardError(f"{path} names the shard {name!r}: only plain file names are allowed")
        if len(set(names)) != len(names):
            raise ShardError(f"{path} names a shard twice")
        for file in self.files:
            if "\\" in file or any(part in ("", ".", "..") for part in file.split("/")):
                raise ShardError(f"{path} names the file {file!r}: only files within the folder are allowed")
        for shard in self.shards:
            counts = (shard.rows, shard.pieces, shard.tokens, shard.documents)
            if min(*counts, shard.size) < 0 or shard.size >= _MOST or max(counts) > _MOST:
                raise ShardError(f"{path} gives {shard.name} a count that cannot be")
            if shard.rows + shard.pieces + shard.tokens > shard.size:
                raise ShardError(
                    f"{path} gives {shard.name} more rows or tokens than fit its {shard.size} bytes"
                )
            if bool(shard.fields) != bool(self.shards[0].fields):
                raise ShardError(f"{path}: some shards have fields of documents and others have none")
        for source in self.sources:
            counts = (source.records_in, source.documents, source.empty, source.quarantined, source.bytes)
            if min(*counts, source.repaired, source.untrained) < 0 or max(counts) > _MOST:
                raise ShardError(f"{path} gives the source {source.name!r} a count that cannot be")
        if not 0 <= self.packing.capacity < _MOST:
            raise ShardError(f"{path} gives rows a capacity of {self.packing.capacity}")
        if (documents := sum(shard.documents for shard in self.shards)) != self.documents:
            raise ShardError(f"{path}: shards hold {documents} documents, sources gave {self.documents}")
        if not set(self.columns) <= set(OPTIONAL):
            raise ShardError(f"{path} names columns that this tersely does not know: {self.columns}")


def content_checksum(content: dict[str, Any]) -> str:
    """xxh3-128 of a manifest's content, in one canonical form, but for the checksum itself."""
    rest = {name: value for name, value in content.items() if name != "checksum"}
    return xxhash.xxh3_128_hexdigest(json.dumps(rest, sort_keys=True).encode())


_JSON_TYPES: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "int": (int,),
    "bool": (bool,),
    "int | None": (int, type(None)),
    "dict[str, str]": (dict,),
    "list[str]": (list,),
}


def _entry(kind: type[_Entry], content: Any) -> _Entry:
    if not isinstance(content, dict):
        raise TypeError(f"{kind.__name__} is {type(content).__name__}, not an object")
    names = {item.name: _JSON_TYPES.get(str(item.type)) for item in fields(kind)}  # pyright: ignore[reportArgumentType]
    for name, value in content.items():
        expected = names.get(name)
        if expected and (
            not isinstance(value, expected) or (isinstance(value, bool) and bool not in expected)
        ):
            raise TypeError(f"{kind.__name__}.{name} is {value!r}")
    return kind(**{name: value for name, value in content.items() if name in names})
