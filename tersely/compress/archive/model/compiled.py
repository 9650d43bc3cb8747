"""How the loops of the model are compiled.

The arrays belong to the caller and nothing in the loops makes new ones, so references to them are not counted there: for
functions that are called for each bit, that took as long as all the rest.

numba keeps compiled code on disk and finds it again by the file of the function alone. A loop that was kept would go on with
what another file said before it was changed, and write archives that nobody can read. So only the two doors are kept, as
functions that enclose ``sources()``, for what a function encloses is a part of the name that its code is kept under.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numba

from tersely.compress import logistic

_njit: Any = numba.njit  # whose types do not name every option


def compiled(function: Any) -> Any:
    """The function, compiled on first use for the doors that call it; it may not allocate."""
    return _njit(nogil=True, _nrt=False)(function)


def door(function: Any) -> Any:
    """The function, compiled on first use and kept on disk; it must enclose ``sources()``."""
    return _njit(cache=True, nogil=True)(function)


def sources() -> int:
    """A number that tells whether anything in this folder has changed, or the tables that it builds on."""
    digest = hashlib.sha256()
    for path in [*sorted(Path(__file__).parent.glob("*.py")), Path(logistic.__file__)]:
        digest.update(path.read_bytes())
    return 1 + int.from_bytes(digest.digest()[:7])
