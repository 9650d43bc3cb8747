"""The tensors of a saved model, read one at a time, and the same files with some of them exchanged.

A file of safetensors is the length of its header (8 bytes, little end first), the header (JSON: for each tensor its dtype, shape
and place), and the tensors. A file without a table is copied as it is; in others what is not exchanged is copied as bytes.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from tersely.errors import EmbeddingError

WHOLE, INDEX = "model.safetensors", "model.safetensors.index.json"
_CHUNK = 1 << 24  # bytes that are copied at once

Remade = Callable[[Tensor], Tensor]
"""Makes the new rows of a table, in its dtype."""


@dataclass(frozen=True)
class Checkpoint:
    """Where the tensors of a model are.

    Attributes:
        folder: of the model.
        files: for each tensor the name of its file.
    """

    folder: Path
    files: dict[str, str]

    @classmethod
    def of(cls, folder: Path) -> Checkpoint:
        """The tensors of a folder.

        Raises:
            EmbeddingError: there are no safetensors, or a file is damaged or missing.
        """
        try:
            if (folder / INDEX).exists():
                return cls(folder, json.loads((folder / INDEX).read_text("utf-8"))["weight_map"])
            return cls(folder, dict.fromkeys(_header(folder / WHOLE)[0], WHOLE))
        except (OSError, ValueError, KeyError) as error:
            raise EmbeddingError(
                f"{folder} has no {WHOLE} and no {INDEX} that can be read: save the model again with save_pretrained"
            ) from error

    def tensor(self, name: str) -> Tensor:
        """A tensor, which lies in its file until it is touched.

        Raises:
            EmbeddingError: the file is damaged or missing.
        """
        file = self.folder / self.files[name]
        try:
            with safe_open(file, framework="pt") as opened:
                return opened.get_tensor(name)
        except (OSError, SafetensorError) as error:
            raise EmbeddingError(f"{file} cannot be read ({error}): fetch it again") from error

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of each tensor.

        Raises:
            EmbeddingError: a file is damaged or missing, or lacks a tensor.
        """
        found = dict[str, tuple[int, ...]]()
        for file in sorted(set(self.files.values())):
            try:
                entries, _ = _header(self.folder / file)
            except (OSError, ValueError) as error:
                raise EmbeddingError(
                    f"{self.folder / file} cannot be read ({error}): fetch it again"
                ) from error
            found |= {name: tuple(entry["shape"]) for name, entry in entries.items()}
        if missing := self.files.keys() - found.keys():
            raise EmbeddingError(
                f"{self.folder / self.files[min(missing)]} lacks {min(missing)}: fetch it again"
            )
        return found

    def rewrite(self, out: Path, rows: int, remade: Mapping[str, Remade]) -> None:
        """Writes the files into another folder, with other rows in some tensors; one of them is in memory at a time.

        Args:
            out: the folder, which exists.
            rows: that the tensors will have.
            remade: by the name of a tensor what makes its rows.
        """
        grown = {"total_size": 0, "total_parameters": 0}
        for file in sorted(set(self.files.values())):
            found = {name: make for name, make in remade.items() if self.files[name] == file}
            if found:
                _rewrite(self.folder / file, out / file, rows, found, grown)
            else:
                shutil.copyfile(self.folder / file, out / file)
        if (self.folder / INDEX).exists():
            index = json.loads((self.folder / INDEX).read_text("utf-8"))
            for name in index.get("metadata", {}).keys() & grown.keys():
                index["metadata"][name] += grown[name]
            (out / INDEX).write_text(json.dumps(index, indent=2, sort_keys=True) + "\n", "utf-8")


def _header(file: Path) -> tuple[dict[str, Any], int]:
    """The entries of the tensors of a file, in the order of their bytes, and where these begin."""
    with file.open("rb") as opened:
        length = int.from_bytes(opened.read(8), "little")
        if length > file.stat().st_size:
            raise ValueError("its header is longer than the file")
        entries: dict[str, Any] = json.loads(opened.read(length))
    tensors = [(name, entry) for name, entry in entries.items() if name != "__metadata__"]
    tensors.sort(key=lambda item: item[1]["data_offsets"])
    end = max((entry["data_offsets"][1] for _, entry in tensors), default=0)
    if file.stat().st_size != 8 + length + end:
        raise ValueError("its tensors do not fill the file")
    return dict(tensors), 8 + length


def _rewrite(source: Path, out: Path, rows: int, remade: Mapping[str, Remade], grown: dict[str, int]) -> None:
    """Writes a file with other rows in some tensors, and adds to ``grown`` by how much they are larger."""
    entries, begins = _header(source)
    header = dict[str, Any]()
    with safe_open(source, framework="pt") as opened:
        if opened.metadata():
            header["__metadata__"] = opened.metadata()
    place = 0
    for name, entry in entries.items():
        start, end = entry["data_offsets"]
        shape, size = entry["shape"], end - start
        if name in remade:
            shape = [rows, *shape[1:]]
            size = size // entry["shape"][0] * rows
            grown["total_size"] += size - (end - start)
            grown["total_parameters"] += math.prod(shape) - math.prod(entry["shape"])
        header[name] = entry | {"shape": shape, "data_offsets": [place, place + size]}
        place += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with source.open("rb") as old, out.open("wb") as new:
        new.write(len(text).to_bytes(8, "little") + text)
        for name, entry in entries.items():
            start, end = entry["data_offsets"]
            if name in remade:
                with safe_open(source, framework="pt") as opened:
                    table = remade[name](opened.get_tensor(name))
                assert list(table.shape) == header[name]["shape"]
                new.write(table.contiguous().reshape(-1).view(torch.uint8).numpy().data)
                del table
            else:
                _copy(old, new, begins + start, end - start)


def _copy(old: BinaryIO, new: BinaryIO, start: int, size: int) -> None:
    """Copies bytes of one file to the end of another."""
    old.seek(start)
    while size:
        part = old.read(min(size, _CHUNK))
        assert part, "the header was checked against the length of the file"
        new.write(part)
        size -= len(part)
