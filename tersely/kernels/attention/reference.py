"""The plain twin of packed attention: PyTorch, any device, any floating dtype, forward and backward written out.

Slow and readable. It goes over blocks of queries, looks up the keys that the block sees (so it reads values back
from the device, which the kernels never do), and keeps only one block of scores at a time.

    x = softcap(scale * q . k) + bias + gate the score; softcap(y) = cap * tanh(y / cap)
    p = exp(x) / (exp(sink) + sum exp(x))    over the visible keys
    out = sum p * v,  lse = log(exp(sink) + sum exp(x))

``bias`` is the number that a head's table has for the distance of the pair, ``position of the key - position of the
query``; what is further than ``R`` counts as ``R``.

Legend: ``Tq``, ``Tk`` packed tokens, ``H`` query heads, ``KH`` key heads, ``D`` head dimension, ``R`` longest distance.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from tersely.kernels.attention.boundaries import Boundaries

BLOCK = 512


def forward(
    q: Tensor, k: Tensor, v: Tensor, bounds: Boundaries, *,
    scale: float, softcap: float = 0.0, sink: Tensor | None = None, gate: Tensor | None = None,
    bias: Tensor | None = None, positions: tuple[Tensor, Tensor] | None = None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Attention of packed rows.

    Args:
        q: ``(Tq, H, D)``.
        k: ``(Tk, KH, D)``; ``H`` a multiple of ``KH``.
        v: ``(Tk, KH, D)``.
        bounds: who sees whom.
        scale: factor of the products.
        softcap: bound of the scores, 0 for none.
        sink: ``(H,)``, one more logit in the denominator.
        gate: ``(Tk,)``, added to the scores of each key.
        bias: ``(H, 2 R + 1)``, added to the scores by distance.
        positions: of the queries ``(Tq,)`` and of the keys ``(Tk,)``, integers; given with ``bias``.

    Returns:
        ``out`` ``(Tq, H, D)`` in the dtype of ``q``, and ``lse`` ``(H, Tq)``, fp32 or wider, natural logarithm. Rows
        that see no key are 0, and -inf (``sink`` where there is one).
    """
    wide = torch.promote_types(q.dtype, torch.float32)
    out = torch.zeros_like(q, memory_format=torch.contiguous_format)
    lse = torch.full((q.shape[1], q.shape[0]), float("-inf"), dtype=wide, device=q.device)
    if sink is not None:
        lse.copy_(sink[:, None])
    for rows, keys, seen in _blocks(bounds):
        x, _ = _scores(
            q[rows], k[keys], seen, scale, softcap, _offsets(gate, bias, positions, rows, keys, wide)
        )
        if sink is not None:
            column = sink.to(wide)[:, None, None].expand(-1, x.shape[1], 1)
            total = torch.cat([x, column], -1).logsumexp(-1)
        else:
            total = x.logsumexp(-1)
        p = torch.exp(x - _finite(total)[..., None])
        out[rows] = torch.einsum("hqk,khd->qhd", p, _widen(v[keys], q.shape[1], wide)).to(q.dtype)
        lse[:, rows] = total
    return out, lse


def backward(
    dout: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor, bounds: Boundaries, *,
    scale: float, softcap: float = 0.0, gate: Tensor | None = None, dlse: Tensor | None = None,
    bias: Tensor | None = None, positions: tuple[Tensor, Tensor] | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor | None, Tensor | None]:  # fmt: skip
    """Gradients ``dq``, ``dk``, ``dv``, ``dgate`` and ``dbias``, each of the dtype of what it is the gradient of.

    ``dout`` and ``dlse`` are the gradients that reach ``out`` and ``lse``. That of ``sink`` follows from these alone:
    see ``sink_gradient``.
    """
    wide = torch.promote_types(q.dtype, torch.float32)
    dq = torch.zeros(q.shape, dtype=wide, device=q.device)
    dk, dv = (torch.zeros(x.shape, dtype=wide, device=x.device) for x in (k, v))
    dgate, dbias = (
        None if x is None else torch.zeros(x.shape, dtype=wide, device=q.device) for x in (gate, bias)
    )
    delta = row_delta(out, dout, dlse).to(wide)
    H = q.shape[1]
    for rows, keys, seen in _blocks(bounds):
        offsets = _offsets(gate, bias, positions, rows, keys, wide)
        x, bend = _scores(q[rows], k[keys], seen, scale, softcap, offsets)
        p = torch.exp(x - _finite(lse[:, rows])[..., None])
        do = dout[rows].to(wide)
        dv[keys] += _narrow(torch.einsum("hqk,qhd->khd", p, do), v.shape[1])
        dp = torch.einsum("qhd,khd->hqk", do, _widen(v[keys], H, wide))
        dx = p * (dp - delta[:, rows, None])
        if dgate is not None:
            dgate[keys] += dx.sum((0, 1))
        if dbias is not None and positions is not None:
            distance = _distances(positions, rows, keys, dbias.shape[1] // 2)
            dbias.index_add_(1, distance.flatten(), dx.flatten(1))
        dx = dx * bend * scale
        dq[rows] = torch.einsum("hqk,khd->qhd", dx, _widen(k[keys], H, wide))
        dk[keys] += _narrow(torch.einsum("hqk,qhd->khd", dx, q[rows].to(wide)), k.shape[1])
    return (
        dq.to(q.dtype),
        dk.to(k.dtype),
        dv.to(v.dtype),
        None if dgate is None or gate is None else dgate.to(gate.dtype),
        None if dbias is None or bias is None else dbias.to(bias.dtype),
    )


def row_delta(out: Tensor, dout: Tensor, dlse: Tensor | None) -> Tensor:
    """What the softmax takes off ``dP`` in each row, ``(H, Tq)``."""
    wide = torch.promote_types(out.dtype, torch.float32)
    delta = (out.to(wide) * dout.to(wide)).sum(-1).T
    return delta if dlse is None else delta - dlse


def sink_gradient(sink: Tensor, out: Tensor, dout: Tensor, lse: Tensor, dlse: Tensor | None) -> Tensor:
    """Gradient of ``sink``, ``(H,)``: the sink's share of each row times what that row's softmax takes off."""
    share = torch.exp(sink.to(lse.dtype)[:, None] - lse)
    return -(share * row_delta(out, dout, dlse)).sum(1).to(sink.dtype)


def _blocks(bounds: Boundaries) -> Iterator[tuple[slice, slice, Tensor]]:
    """Blocks of queries, the keys they see between them, and which sees which ``(rows, keys)``."""
    tokens = bounds.key_start.shape[0]
    for first in range(0, tokens, BLOCK):
        rows = slice(first, min(first + BLOCK, tokens))
        start, stop = bounds.key_start[rows], bounds.key_stop[rows]
        keys = slice(int(start.min()), int(stop.max()))
        if keys.stop <= keys.start:
            continue
        key = torch.arange(keys.start, keys.stop, device=start.device)
        query = torch.arange(rows.start, rows.stop, device=start.device)[:, None]
        seen = (key >= start[:, None]) & (key < stop[:, None])
        seen &= (query >= bounds.query_start[keys]) & (query < bounds.query_stop[keys])
        yield rows, keys, seen


def _offsets(
    gate: Tensor | None, bias: Tensor | None, positions: tuple[Tensor, Tensor] | None, rows: slice, keys: slice, wide: torch.dtype
) -> Tensor:  # fmt: skip
    """What is added to the scores, of a shape that ``(H, rows, keys)`` can take."""
    added = torch.zeros((), dtype=wide)
    if bias is not None and positions is not None:
        added = bias.to(wide)[:, _distances(positions, rows, keys, bias.shape[1] // 2)]
    return added if gate is None else added + gate[keys].to(wide)


def _distances(positions: tuple[Tensor, Tensor], rows: slice, keys: slice, longest: int) -> Tensor:
    """The column of ``bias`` of each pair, ``(rows, keys)``, int64."""
    query, key = (x.long() for x in positions)
    return (key[keys] - query[rows, None]).clamp(-longest, longest) + longest


def _scores(
    q: Tensor, k: Tensor, seen: Tensor, scale: float, softcap: float, offsets: Tensor
) -> tuple[Tensor, Tensor | float]:
    """Scores ``(H, rows, keys)``, -inf where not seen, and the derivative of the soft-cap."""
    wide = offsets.dtype
    x = torch.einsum("qhd,khd->hqk", q.to(wide), _widen(k, q.shape[1], wide)) * scale
    bend: Tensor | float = 1.0
    if softcap:
        bent = torch.tanh(x / softcap)
        x, bend = bent * softcap, 1 - bent * bent
    return (x + offsets).masked_fill(~seen, float("-inf")), bend


def _widen(x: Tensor, heads: int, wide: torch.dtype) -> Tensor:
    """Key heads repeated for each of their query heads."""
    return x.to(wide).repeat_interleave(heads // x.shape[1], 1)


def _narrow(x: Tensor, heads: int) -> Tensor:
    """The sum over the query heads of each key head."""
    return x.unflatten(1, (heads, -1)).sum(2)


def _finite(lse: Tensor) -> Tensor:
    """``lse`` with 0 in the rows that see nothing, whose scores are all -inf."""
    return lse.masked_fill(lse == float("-inf"), 0.0)
