"""What a call of an operator costs besides its kernel: ``torch.library.custom_op`` against ``tersely.kernels.operator``.

python benchmarks/operator_calls.py

The same function of seventeen arguments, which does next to nothing, made an operator both ways, on the CPU: microseconds
of a call without gradients, and of a call with its backward.
"""

import time

import torch
from report import arguments, publish
from torch import Tensor

from tersely.kernels.operator import operator


def forward(
    q: Tensor, k: Tensor, v: Tensor, a: Tensor, b: Tensor, c: Tensor, d: Tensor, e: Tensor, f: Tensor,
    tree: bool, documents: int, gate: Tensor | None, sink: Tensor | None, scale: float, cap: float, exact: bool, backend: str,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Shaped like attention."""
    return torch.empty_like(q), torch.empty(1)


def backward(dout: Tensor, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Shaped like its gradients."""
    return torch.empty_like(q), torch.empty_like(k), torch.empty_like(v)


def remember(ctx, inputs, output):
    ctx.save_for_backward(*inputs[:9], *output)


def registered(make, name):
    """The operator with its gradient."""
    made, gradients = make(name)(forward), make(f"{name}_backward")(backward)

    def differentiate(ctx, dout, _):
        return (*gradients(dout, *ctx.saved_tensors[:3]), *(None,) * 14)

    made.register_autograd(differentiate, setup_context=remember)
    return made


def microseconds(call, times=3000):
    for _ in range(200):
        call()
    started = time.perf_counter()
    for _ in range(times):
        call()
    return (time.perf_counter() - started) / times * 1e6


def main():
    arguments(__doc__.splitlines()[0]).parse_args()
    ways = {
        "torch.library.custom_op": lambda name: torch.library.custom_op(
            f"tersely_bench::{name}", mutates_args=()
        ),
        "tersely.kernels.operator": lambda name: operator(f"bench_{name}"),
    }
    q, rest = torch.randn(4, 4), [torch.randn(3) for _ in range(6)]
    leaf, dout = q.clone().requires_grad_(), torch.ones(4, 4)
    rows = []
    for way, make in ways.items():
        made = registered(make, "attention")

        def both(made=made):
            made(leaf, q, q, *rest, False, 3, None, None, 1.0, 0.0, False, "auto")[0].backward(dout)

        with torch.no_grad():
            alone = microseconds(
                lambda made=made: made(q, q, q, *rest, False, 3, None, None, 1.0, 0.0, False, "auto")
            )
        rows.append({"made by": way, "call, us": alone, "with its backward, us": microseconds(both)})
    publish("operator_calls", rows)


if __name__ == "__main__":
    main()
