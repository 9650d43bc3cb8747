r"""An append-only record of what is done: one line of JSON with its checksum each, on disk before ``append`` returns.

    5bc6d6e8 {"shard": ...}\n        the CRC-32 of the JSON, in eight hexadecimal digits

A line that a kill tore, or that a disk damaged, ends what is believed: it and whatever follows are cut off before the
next line is appended.
"""

from __future__ import annotations

import io
import json
import os
import zlib
from pathlib import Path
from typing import Any

from tersely.shards.atomic import sync_folder


class Journal:
    """The lines of one file, which need not exist yet. One writer at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._end: int | None = None

    def read(self) -> list[dict[str, Any]]:
        """All sound lines from the first on."""
        lines: list[dict[str, Any]] = []
        self._end = 0
        content = self.path.read_bytes() if self.path.exists() else b""
        for raw in io.BytesIO(content):
            text = raw[9:-1]
            if not raw.endswith(b"\n") or raw[:9] != b"%08x " % zlib.crc32(text):
                break
            self._end += len(raw)
            lines.append(json.loads(text))
        return lines

    def append(self, line: dict[str, Any]) -> None:
        """Adds a line and waits until it is on disk."""
        if self._end is None:
            self.read()
        created = not self.path.exists()
        text = json.dumps(line).encode()
        with self.path.open("ab") as file:
            file.truncate(self._end)
            file.write(b"%08x %s\n" % (zlib.crc32(text), text))
            file.flush()
            os.fsync(file.fileno())
            self._end = file.tell()
        if created:
            sync_folder(self.path.parent)
