"""The folder of a saved code: ``tersely_tokenizer.json`` and ``table.safetensors``; docs/equal_info.md has the bytes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from tersely.compress.equal_info.code.cells import FEWEST_BITS, MOST_BITS
from tersely.compress.equal_info.contexts import pack, unpack
from tersely.compress.equal_info.records import CLASS_BITS
from tersely.compress.equal_info.table import BASE, Table
from tersely.errors import TokenizeError
from tersely.tokenize.protocol import CONFIG_NAME, config_fingerprint

TABLE_NAME = "table.safetensors"
"""The file with the arrays."""

VERSION = 1
"""Of the format: another rule for ids, or other bytes, is another version."""


def fingerprint(table: Table, bits: int, carry: int) -> str:
    """A hash of all that decides ids."""
    return config_fingerprint(
        {"type": "equal-info", "version": VERSION, "bits": bits, "carry": carry},
        *(np.ascontiguousarray(array).tobytes() for array in _arrays(table).values()),
    )


def write_code(folder: Path, table: Table, config: dict[str, Any]) -> None:
    """Writes both files into ``folder``, which is made if need be."""
    from safetensors.numpy import save

    folder.mkdir(parents=True, exist_ok=True)
    (folder / TABLE_NAME).write_bytes(save(_arrays(table)))
    (folder / CONFIG_NAME).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def read_code(folder: Path) -> tuple[Table, dict[str, Any]]:
    """The table and the configuration of a saved code, checked against its fingerprint.

    Raises:
        TokenizeError: a file is missing, damaged, or of another version.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    file = folder / CONFIG_NAME
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
        about = {name: config[name] for name in ("type", "version", "bits", "carry", "fingerprint")}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TokenizeError(
            f"{file} does not describe an equal-info code: {error!r}; save it again"
        ) from error
    if about["type"] != "equal-info" or about["version"] != VERSION:
        raise TokenizeError(
            f"{file} is of type {about['type']!r} and version {about['version']!r}, and this tersely reads equal-info "
            f"codes of version {VERSION}: train it again, or take the tersely that made it"
        )
    file = folder / TABLE_NAME
    try:
        arrays = load_file(str(file))
        classes = tuple(unpack(int(context)) for context in arrays["classes"])
        table = Table(arrays["cells"], arrays["roots"], classes)
    except (OSError, KeyError, SafetensorError, OverflowError) as error:
        raise TokenizeError(
            f"{file} cannot be read as the table of a code: {error}; save it again"
        ) from error
    if fingerprint(table, about["bits"], about["carry"]) != about["fingerprint"]:
        raise TokenizeError(
            f"{file} is not the table that {folder / CONFIG_NAME} was saved with: save the code again"
        )
    _check(file, table, about["bits"], about["carry"])
    return table, about


def _check(file: Path, table: Table, bits: Any, carry: Any) -> None:
    """What walking in the table relies on; whether its tries are whole is seen when they are expanded."""
    cells, roots = table.cells, table.roots
    sound = (
        type(bits) is int
        and FEWEST_BITS <= bits <= MOST_BITS
        and carry in (0, 1, 2)
        and cells.dtype == np.uint64
        and roots.dtype == np.int64
        and cells.ndim == roots.ndim == 1
        and len(cells) > 256
        and 0 < len(roots) == len(table.classes) <= 1 << CLASS_BITS
        and table.classes[0] == b""
        and max(map(len, table.classes)) <= carry
        and all(text[:1] in table.classes for text in table.classes)
        and roots.min() >= 0
        and max(int(roots.max()), int(cells.max() >> np.uint64(BASE))) <= len(cells) - 256
    )
    if not sound:
        raise TokenizeError(f"{file} holds no table of a code of {bits} bits: train it again")


def _arrays(table: Table) -> dict[str, Any]:
    classes = np.array([pack(text) for text in table.classes], np.uint64)
    return {"cells": table.cells, "classes": classes, "roots": table.roots}
