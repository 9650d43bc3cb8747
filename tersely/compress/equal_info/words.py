"""Eight bytes at a time, at any place of an array of bytes: what compiled code copies strings with."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic


def _load_word(typingctx: Any, array: Any, place: Any) -> Any:

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.load(_pointer(context, builder, signature, arguments), align=1)

    return types.uint64(array, types.uint64), code


def _store_word(typingctx: Any, array: Any, place: Any, word: Any) -> Any:

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        builder.store(arguments[2], _pointer(context, builder, signature, arguments), align=1)
        return context.get_dummy_value()

    return types.void(array, types.uint64, types.uint64), code


def _pointer(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    """Where in memory the word lies."""
    array = context.make_array(signature.args[0])(context, builder, arguments[0])
    place = cgutils.gep_inbounds(builder, array.data, arguments[1])
    return builder.bitcast(place, ir.IntType(64).as_pointer())


load_word: Any = intrinsic(_load_word)
"""``load_word(array, place)``: 8 bytes of a uint8 array from ``place`` (uint64) on, the first lowest; uint64.

That the array has them is for the caller to know.
"""

store_word: Any = intrinsic(_store_word)
"""``store_word(array, place, word)``: the same, written."""
