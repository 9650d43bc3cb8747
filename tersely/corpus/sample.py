"""The built-in corpus: the standard library of the running Python, its source files and its docstrings.

Real documents of natural length, on every machine, with nothing shipped.
"""

from __future__ import annotations

import ast
import sysconfig
import warnings
from collections.abc import Iterator
from pathlib import Path

from tersely.corpus.read import BATCH_BYTES, Batch, Rejected, Span

_LEFT_OUT = {"site-packages", "dist-packages", "test", "tests", "idle_test", "__pycache__"}


class SampleSource:
    """Each source file is a document, and so is each docstring in it."""

    name = "<python standard library>"
    fields = ()

    def __init__(self) -> None:
        root = Path(sysconfig.get_paths()["stdlib"])
        self._root = root
        self._files = sorted(
            file for file in root.rglob("*.py") if not _LEFT_OUT.intersection(file.relative_to(root).parts)
        )
        self.size = sum(file.stat().st_size for file in self._files)

    def spans(self, target: int) -> list[Span | None]:
        """One for all: the whole is small."""
        return [None]

    def batches(self, span: Span | None = None) -> Iterator[Batch]:
        """Source files in the order of their paths, each followed by its docstrings."""
        batch, size, read = Batch(), 0, 0
        for number, file in enumerate(self._files, 1):
            content = file.read_bytes()
            read += len(content)
            size += len(content)
            try:
                text = content.decode()
            except UnicodeDecodeError as error:
                name = file.relative_to(self._root)
                reason = f"{name}: invalid UTF-8 at byte {error.start}"
                batch.rejected.append(Rejected.of(content, number, -1, reason))
                continue
            batch.add(text, number, -1)
            for docstring in _docstrings(text):
                batch.add(docstring, number, -1)
            if size >= BATCH_BYTES:
                batch.bytes_read, batch.lines_read = read, number
                yield batch
                batch, size = Batch(), 0
        batch.bytes_read, batch.lines_read = read, len(self._files)
        yield batch


def _docstrings(source: str) -> list[str]:
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(source)
    except (SyntaxError, ValueError):  # templates of lib2to3 and the like
        return []
    found = [ast.get_docstring(node) for node in ast.walk(tree) if isinstance(node, documented)]
    return [docstring for docstring in found if docstring]
