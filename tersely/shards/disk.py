"""What is said when a disk, a quota or a limit leaves no room for a file."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from tersely.errors import CorpusError


@contextmanager
def room_told(out: Path) -> Generator[None]:
    """Around what writes ``out``, a file or a folder: the system's error names neither it nor the room there is.

    Raises:
        CorpusError: the block raised that the disk is full, a quota used up, or a file larger than is allowed.
    """
    try:
        yield
    except OSError as error:
        # The second is of an error of ours that the system's is the cause of, such as a folder that cannot be made.
        number = error.errno or getattr(error.__cause__, "errno", None)
        if number in (errno.ENOSPC, errno.EDQUOT):
            there = next(place for place in (out, *out.absolute().parents) if place.exists())
            raise CorpusError(
                f"there is no room left for {out} ({shutil.disk_usage(there).free} bytes are free): make some, and run "
                "the same command again"
            ) from error
        if number == errno.EFBIG:
            raise CorpusError(
                f"{out} needs a file larger than 'ulimit -f' or the file system allows: raise the limit, or choose "
                "another place, and run the same command again"
            ) from error
        raise
