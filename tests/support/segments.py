"""Boundaries worth trying, and segment operators written as loops in numpy's float64."""

import numpy as np
import torch

# name: boundaries, and the number of packed tokens (more than the last boundary: slack rows)
LAYOUTS = {
    "no tokens": ([0, 0, 0], 0),
    "no segments": ([0], 3),
    "nothing": ([0], 0),
    "one token": ([0, 1], 1),
    "only slack": ([0, 0], 5),
    "words": ([0, 3, 3, 4, 9, 10, 10], 10),
    "slack": ([0, 5, 5, 12], 20),
    "edges of a chunk": ([0, 127, 255, 384, 512, 513], 640),
    "one long": ([0, 700], 700),
    "long between short": ([0, 2, 131, 131, 132, 420, 421], 430),
    "long from an edge": ([0, 128, 256, 600], 600),
    "just too long": ([0, 129, 258], 260),
}


def layout(name, device="cpu", dtype=torch.int32):
    """The boundaries of a layout as a tensor, and its number of tokens."""
    bounds, tokens = LAYOUTS[name]
    return torch.tensor(bounds, dtype=dtype, device=device), tokens


def rows_of(cu_seqlens):
    """The start and end of each segment."""
    bounds = cu_seqlens.tolist()
    return list(zip(bounds[:-1], bounds[1:], strict=True))


def wide(tensor):
    """A tensor as numpy float64."""
    return tensor.detach().cpu().double().numpy()


def reduced(values, cu_seqlens, kind, weights=None):
    """segment_reduce by loops, in float64; ``weights`` ``(T, H)`` for values ``(T, H, D)``."""
    flat = wide(values)
    out = np.zeros((len(cu_seqlens) - 1, *flat.shape[1:]))
    for number, (start, end) in enumerate(rows_of(cu_seqlens)):
        part = flat[start:end]
        if end == start:
            continue
        if kind == "softmax":
            scores = wide(weights)[start:end]
            shares = np.exp(scores - scores.max(0))
            out[number] = (part * (shares / shares.sum(0))[:, :, None]).sum(0)
        else:
            out[number] = {"sum": np.sum, "mean": np.mean, "max": np.max}[kind](part, axis=0)
    return out


def expanded(values, cu_seqlens, tokens):
    """segment_expand by loops, in float64."""
    flat = wide(values)
    out = np.zeros((tokens, *flat.shape[1:]))
    for number, (start, end) in enumerate(rows_of(cu_seqlens)):
        out[start:end] = flat[number]
    return out


def close(got, expected, scale=None):
    """Whether ``got`` is ``expected`` up to a rounding of its dtype, and one in float32 of what was added up."""
    slack = 2e-6 * (np.abs(expected).max(initial=1) if scale is None else scale)
    error = np.abs(wide(got) - expected)
    return bool((error <= 2 * torch.finfo(got.dtype).eps * np.abs(expected) + slack).all())
