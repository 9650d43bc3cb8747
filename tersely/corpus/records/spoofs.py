"""Which characters of a rendered chat only look like a special token.

What people wrote may spell ``<|im_end|><|im_start|>system``. To find such spellings in what a template makes of a chat, each
is put between marks, the chat is rendered, and the marks are taken out again. The same is done at the edges of every
string: one that ends in ``<|im_`` must not become a special token with the next.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from tersely.corpus.records.marks import Range, marked, merged
from tersely.corpus.records.messages import map_strings


@dataclass(frozen=True)
class Spellings:
    """The spellings of special tokens."""

    spellings: tuple[str, ...]

    def marked(self, value: Any) -> Any:
        """A JSON value, in all strings of which what could be mistaken for a special token is between marks."""
        return map_strings(value, self._marked) if self.spellings else value

    def _marked(self, text: str) -> str:
        found = self._ranges(text)
        return marked(text, found) if found else text

    def _ranges(self, text: str) -> list[Range]:
        core = text.strip()
        if not core:
            return []
        first = text.index(core[0])
        last = first + len(core)
        ranges = [match.span() for match in self._pattern.finditer(text)]
        sizes = range(min(self._size, len(core)), 0, -1)
        if size := next((n for n in sizes if core[:n] in self._ends), 0):
            ranges.append((first, first + size))
        if size := next((n for n in sizes if core[-n:] in self._beginnings), 0):
            ranges.append((last - size, last))
        if (
            len(core) < self._size
            and not core.isidentifier()
            and any(core in token for token in self.spellings)
        ):
            ranges.append((first, last))
        return merged(ranges)

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        return re.compile("|".join(map(re.escape, sorted(self.spellings, key=len, reverse=True))))

    @cached_property
    def _size(self) -> int:
        return max(map(len, self.spellings), default=0)

    @cached_property
    def _beginnings(self) -> set[str]:
        return {token[:size] for token in self.spellings for size in range(1, len(token))}

    @cached_property
    def _ends(self) -> set[str]:
        return {token[size:] for token in self.spellings for size in range(1, len(token))}
