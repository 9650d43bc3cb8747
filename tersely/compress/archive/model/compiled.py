"""How the loops of the model are compiled.

The arrays belong to the caller and nothing in the loops makes new ones, so references to them are not counted there: for
functions that are called for each bit, that took as long as all the rest.
"""

from __future__ import annotations

from typing import Any

import numba

_njit: Any = numba.njit  # whose types do not name every option


def compiled(function: Any) -> Any:
    """The function, compiled on first use and kept on disk; it may not allocate."""
    return _njit(cache=True, nogil=True, _nrt=False)(function)
