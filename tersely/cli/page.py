"""The HTML page that a command writes: whole or not at all, and never over what it is made of."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from tersely.errors import CorpusError, UsageError


def check_page(page: Path | None, files: Iterable[Path] = (), folder: Path | None = None) -> None:
    """Looks, before work begins, whether the page may be written; None is no page.

    Args:
        page: where it is to go.
        files: those that it must not replace.
        folder: a prepared folder, of which it may be an ``.html`` file beside the others, but none of the others.

    Raises:
        CorpusError: there is no folder to put it into.
        UsageError: it would replace one of ``files``, or a file of ``folder``.
    """
    if page is None or _is_device(page):
        return
    final = _final(page)
    if not final.parent.is_dir():
        raise CorpusError(f"{page} cannot be written: there is no folder {final.parent}")
    if any(_final(file) == final for file in files):
        raise UsageError(f"--html {page} would replace what it is made of: name another file")
    if folder is None:
        return
    within = _final(folder)
    for path in (final, _final(page.parent) / page.name):  # what a link leads to, and the link itself
        if within in path.parents and (path.parent != within or path.suffix != ".html"):
            raise UsageError(
                f"--html {page} could replace a file of {folder}: name {folder / 'page.html'}, or a file elsewhere"
            )


def write_page(page: Path, html: str) -> None:
    """Writes the page in one step, so that a page that was there stays if this one cannot be written.

    Raises:
        CorpusError: it cannot be written.
    """
    from tersely.shards.atomic import replace_file
    from tersely.shards.disk import room_told

    with room_told(page):
        try:
            if _is_device(page):
                page.write_bytes(html.encode())
            else:
                replace_file(_final(page), html.encode())
        except BrokenPipeError:
            raise
        except OSError as error:
            raise CorpusError(f"{page} cannot be written: {error.strerror}") from error


def _is_device(page: Path) -> bool:
    """Such as /dev/null or a pipe: written into, for putting a file in its place would destroy it."""
    return page.exists() and not page.is_file()


def _final(path: Path) -> Path:
    """What the path leads to: a link to a page stays one."""
    return Path(os.path.realpath(path))
