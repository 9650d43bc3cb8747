"""The layers of T5 on packed values: the weights of transformers' modules, around packed attention.

Norms and GELUs are torch's, one kernel each; transformers' write their steps out, which at 1,472 channels took more of a forward
than its products.

Legend: ``T`` packed positions, ``Tk`` those of the keys, ``C`` width, ``H`` heads, ``R`` the longest distance with a bias of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers.activations import NewGELUActivation
from transformers.models.t5.modeling_t5 import T5Stack

from tersely.kernels import Boundaries, varlen_attention


@dataclass(frozen=True, eq=False)
class View:
    """Who sees whom in the attentions of a stack, and what is added to the scores.

    Attributes:
        bounds: documents, and what is causal.
        bias: ``(H, 2 R + 1)``, or None: a number for each head and distance.
        positions: of the queries ``(T,)`` and of the keys ``(Tk,)``, with ``bias``.
        gate: ``(Tk,)``, or None: added to the scores of each key.
        plus_one: whether the softmax has an extra one in its denominator.
    """

    bounds: Boundaries
    bias: Tensor | None = None
    positions: tuple[Tensor, Tensor] | None = None
    gate: Tensor | None = None
    plus_one: bool = False

    def attend(self, attention: Any, x: Tensor, states: Tensor) -> Tensor:
        """A ``T5Attention`` from ``x`` ``(T, C)`` to ``states`` ``(Tk, C)``, both after their norm. Without dropout of weights."""
        heads = (-1, attention.n_heads, attention.key_value_proj_dim)
        q, k, v = attention.q(x).view(heads), attention.k(states).view(heads), attention.v(states).view(heads)
        out = varlen_attention(
            q, k, v, self.bounds,
            scale=1.0, plus_one=self.plus_one, gate=self.gate, bias=self.bias, positions=self.positions,
        )  # fmt: skip
        return attention.o(out.flatten(1))


def run_block(
    block: Any, x: Tensor, own: View, other: View | None = None, states: Tensor | None = None
) -> Tensor:
    """A ``T5Block`` on ``x`` ``(T, C)``: attention to itself, to the encoder's ``states`` if it has them, and the MLP."""
    first, last = block.layer[0], block.layer[-1]
    normed = norm(first.layer_norm, x)
    x = x + first.dropout(own.attend(first.SelfAttention, normed, normed))
    if other is not None and states is not None:
        second = block.layer[1]
        x = x + second.dropout(other.attend(second.EncDecAttention, norm(second.layer_norm, x), states))
    return x + last.dropout(_mlp(last.DenseReluDense, norm(last.layer_norm, x)))


def norm(module: Any, x: Tensor) -> Tensor:
    """A ``T5LayerNorm``, which is an RMSNorm; in the dtype of its weight, as ``x`` is float32 in a model of float16."""
    weight = module.weight
    normed = torch.nn.functional.rms_norm(x, weight.shape, weight.to(x.dtype), module.variance_epsilon)
    return normed.to(weight.dtype)


def _mlp(dense: Any, x: Tensor) -> Tensor:
    """The MLP of a block, gated or not."""
    gated = hasattr(dense, "wi_0")
    inner = dense.wi_0(x) if gated else dense.wi(x)
    if isinstance(dense.act, NewGELUActivation):
        inner = torch.nn.functional.gelu(inner, approximate="tanh")
    else:
        inner = dense.act(inner)
    inner = dense.dropout(inner * dense.wi_1(x) if gated else inner)
    if not torch.is_autocast_enabled(
        inner.device.type
    ):  # the last weights stay float32 in a model of float16
        inner = inner.to(dense.wo.weight.dtype)
    return dense.wo(inner)


def bias_of(stack: T5Stack) -> Tensor:
    """The bias of a stack for each head and distance of a key from its query, ``(H, 2 R + 1)``; differentiable.

    T5 has a number for each of 32 ranges of distances; everything at ``R`` or beyond is in one of them.
    """
    attention: Any = stack.block[0].layer[0].SelfAttention  # type: ignore[index, union-attr]
    reach = attention.relative_attention_max_distance
    return attention.compute_bias(1, 2 * reach + 1, past_seen_tokens=reach)[0, :, 0].contiguous()
