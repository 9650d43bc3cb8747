"""Eight bytes at a time, at any place of an array of bytes: what compiled code copies strings with."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic


@intrinsic
def load_word(typingctx: Any, array: Any, place: Any) -> Any:  # noqa: ARG001 -- numba calls it so
    """``load_word(array, place)``: the bytes of a uint8 array from ``place`` (uint64) on, the first lowest; uint64."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.load(_pointer(context, builder, signature, arguments), align=1)

    return types.uint64(array, types.uint64), code


@intrinsic
def store_word(typingctx: Any, array: Any, place: Any, word: Any) -> Any:  # noqa: ARG001 -- numba calls it so
    """``store_word(array, place, word)``: the same to write; what lies behind the array is not asked for."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        builder.store(arguments[2], _pointer(context, builder, signature, arguments), align=1)
        return context.get_dummy_value()

    return types.void(array, types.uint64, types.uint64), code


def _pointer(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    """Where in memory the word lies."""
    array = context.make_array(signature.args[0])(context, builder, arguments[0])
    place = cgutils.gep_inbounds(builder, array.data, arguments[1])
    return builder.bitcast(place, ir.IntType(64).as_pointer())
