"""Operators of torch with little between a call and its kernel.

``torch.library.custom_op`` makes the same operators, but checks and wraps each call in Python again and again: that takes
twice as long, forward and backward (benchmarks/operator_calls.py), as long as a kernel on short documents. ``torch.compile``,
``opcheck`` and CUDA graphs see no difference.
"""

# The dispatch keys below autograd have no public name.
# pyright: reportPrivateUsage=false

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

_LIBRARY = torch.library.Library("tersely", "FRAGMENT")


class Operator:
    """What ``operator`` makes of a function.

    Attributes:
        overload: the operator as torch knows it, ``torch.ops.tersely.NAME.default``.
    """

    def __init__(self, name: str, function: Callable[..., Any]) -> None:
        self._name, self.__doc__ = name, function.__doc__
        schema = torch.library.infer_schema(function, mutates_args=())
        _LIBRARY.define(name + schema, tags=(torch.Tag.pt2_compliant_tag,))
        _LIBRARY.impl(name, function, "CompositeExplicitAutograd")
        self.overload = getattr(torch.ops.tersely, name).default

    def __call__(self, *arguments: Any) -> Any:
        """Calls it, through torch."""
        return self.overload(*arguments)

    def register_fake(self, function: Callable[..., Any]) -> None:
        """The shapes and dtypes of the results, for tracing."""
        torch.library.register_fake(f"tersely::{self._name}", function, lib=_LIBRARY)

    def register_autograd(
        self, backward: Callable[..., Any], *, setup_context: Callable[[Any, Any, Any], None]
    ) -> None:
        """The gradients, with the arguments of ``torch.library.register_autograd``."""
        overload = self.overload

        def forward(keys: Any, arguments: Sequence[Any]) -> Any:
            with torch._C._AutoDispatchBelowAutograd():
                return overload.redispatch(keys & torch._C._after_autograd_keyset, *arguments)

        class Node(torch.autograd.Function):
            @staticmethod
            def forward(ctx: Any, *inputs: Any) -> Any:
                *arguments, keys = inputs
                made = forward(keys, arguments)
                setup_context(ctx, arguments, made)
                return made

            @staticmethod
            def backward(ctx: Any, *gradients: Tensor) -> Any:
                found = backward(ctx, *gradients)
                return *(found if isinstance(found, tuple) else (found,)), None

        def call(keys: Any, *arguments: Any) -> Any:
            if torch.is_grad_enabled() and any(isinstance(x, Tensor) and x.requires_grad for x in arguments):
                return Node.apply(*arguments, keys)
            return forward(keys, arguments)

        _LIBRARY.impl(self._name, call, "Autograd", with_keyset=True)


def operator(name: str) -> Callable[[Callable[..., Any]], Operator]:
    """Makes ``tersely::name`` of a function that changes none of its arguments.

    Its annotations say the schema. Results must not share memory with arguments or with each other.
    """
    return lambda function: Operator(name, function)
