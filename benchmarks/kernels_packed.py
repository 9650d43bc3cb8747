"""How near to a copy do the kernels of packed values come, and how far from torch's own ways?

python benchmarks/kernels_packed.py [--dry]

On one GPU, bf16, T = 32,768 tokens, C = 4096 and 1024 channels. Segments: "documents" are log-normal (1 to 7,000 tokens),
"short" are some 250 of 20 to 244, "words" have 5 bytes in the mean, "one" is all of it. Medians of ``triton.testing.do_bench``, which
flushes the L2 cache; "graph us" is the same call replayed from a CUDA graph, without the time of launches. "of copy" is the
least traffic of the call over its time in the graph, as a share of the rate of a large copy in the same run. Each call is
compared with its plain twin before it is timed, but for long segments, where the twin's atomics wait for each other.
``--dry`` runs everything once on a small CPU input.
"""

import time
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from report import arguments, publish

from tersely.kernels import (
    compact,
    cross_entropy,
    exponential_smoothing,
    packed_cross_entropy,
    rotary,
    scatter_back,
    segment_expand,
    segment_reduce,
    varlen_attention,
)
from tersely.kernels.loss.cross_entropy import row_gradients, row_losses
from tersely.kernels.segment.pool import softmax_pool, softmax_pool_backward
from tersely.kernels.smooth.operators import recurrence, recurrence_backward

SLOW = 0.05
"""Seconds from which a call is timed once only."""


class Setting(NamedTuple):
    """Where and how large."""

    device: str
    tokens: int
    channels: tuple
    dry: bool


class Case(NamedTuple):
    """One call, which takes a ``backend``: its least traffic in bytes, and what others do for it."""

    kernel: str
    bytes: int
    call: object
    peers: dict
    checked: bool = True


def main():
    parser = arguments(__doc__)
    parser.add_argument("--dry", action="store_true", help="once, small, on the CPU, and publish nothing")
    dry = parser.parse_args().dry
    setting = Setting("cpu", 256, (32,), True) if dry else Setting("cuda", 32768, (4096, 1024), False)
    torch.manual_seed(0)
    rate = copy_rate(setting)
    rows = []
    for channels in setting.channels:
        for name, lengths in layouts(setting.tokens).items():
            for case in segment_cases(setting, channels, lengths):
                checked = setting.dry or lengths.max() < 300
                rows += measured(setting, case._replace(checked=checked), f"{channels} {name}", rate)
        for case in (*compact_cases(setting, channels), *smooth_cases(setting, channels)):
            rows += measured(setting, case, f"{channels}", rate)
    for case, size in model_cases(setting):
        rows += measured(setting, case, size, rate)
    note = f"a copy of {setting.tokens * 2**14 // 2**20} MiB: {rate / 1e3:,.0f} GB/s, read and written"
    if dry:
        print(*rows, note, sep="\n")
    else:
        publish("kernels_packed", rows, note)


def layouts(tokens):
    """Lengths of segments that fill ``tokens``."""
    rng = np.random.default_rng(0)
    scale = tokens / 32768
    drawn = {
        "documents": np.clip(rng.lognormal(np.log(400), 1.2, tokens), 1, 7000 * scale).astype(np.int64),
        "short": rng.integers(20, 245, tokens),
        "words": np.maximum(rng.poisson(5, tokens), 1),
    }
    found = {}
    for name, lengths in drawn.items():
        ends = np.cumsum(lengths)
        whole = lengths[: np.searchsorted(ends, tokens)]
        found[name] = np.append(whole, tokens - whole.sum())
    return found | {"one": np.array([tokens])}


def segment_cases(setting, channels, lengths):
    """Reductions of all kinds and the expansion, for one set of segments."""
    sizes = torch.from_numpy(lengths).to(setting.device)
    bounds = torch.nn.functional.pad(sizes.cumsum(0), (1, 0)).to(torch.int32)
    number, tokens = len(lengths), setting.tokens
    ids = torch.repeat_interleave(torch.arange(number, device=setting.device), sizes)
    values = normal(setting, tokens, channels)
    weights = normal(setting, tokens)
    few = normal(setting, number, channels)
    large, small = 2 * tokens * channels, 2 * number * channels

    def torch_segment(kind):
        return torch.segment_reduce(values, kind, lengths=sizes, axis=0, unsafe=True)

    def scattered(kind):
        out = values.new_full((number, channels), -torch.inf if kind == "amax" else 0)
        return out.scatter_reduce_(0, ids[:, None].expand(-1, channels), values, kind)

    def softmax_plain():
        top = weights.new_full((number,), -torch.inf).scatter_reduce_(0, ids, weights, "amax")
        share = torch.exp(weights.float() - top[ids].float())
        share = share / share.new_zeros(number).index_add_(0, ids, share)[ids]
        return values.new_zeros(number, channels).index_add_(
            0, ids, (values * share[:, None]).to(values.dtype)
        )

    added = {"index_add": lambda: values.new_zeros(number, channels).index_add_(0, ids, values)}
    yield Case("sum", large + small, partial(segment_reduce, values, bounds),
               {"segment_reduce": lambda: torch_segment("sum")} | added)  # fmt: skip
    yield Case("mean", large + small, partial(segment_reduce, values, bounds, "mean"),
               {"segment_reduce": lambda: torch_segment("mean")})  # fmt: skip
    yield Case("max", large + 3 * small, partial(segment_reduce, values, bounds, "max"),
               {"segment_reduce": lambda: torch_segment("max")}
               | ({"scatter_reduce": lambda: scattered("amax")} if number > 1 else {}))  # fmt: skip
    yield Case("softmax", large + small, partial(segment_reduce, values, bounds, "softmax", weights),
               {"torch by steps": softmax_plain})  # fmt: skip
    yield Case("expand", large + small, partial(segment_expand, few, bounds, tokens),
               {"repeat_interleave": lambda: few.repeat_interleave(sizes, 0, output_size=tokens),
                "index": lambda: few[ids]})  # fmt: skip
    pooled = softmax_pool(values, weights[:, None], bounds, "auto")
    yield Case("softmax backward", 2 * large + 2 * small,
               lambda backend="auto": softmax_pool_backward(few, values, weights[:, None], *pooled, bounds, backend)[0],
               {})  # fmt: skip


def compact_cases(setting, channels):
    """Half of the rows kept, and put back."""
    tokens = setting.tokens
    bounds = torch.tensor([0, tokens // 3, tokens], dtype=torch.int32, device=setting.device)
    values = normal(setting, tokens, channels)
    keep = torch.rand(tokens, device=setting.device) < 0.5
    kept = int(keep.sum())
    out = compact(values, keep, bounds, kept)
    moved = 4 * kept * channels
    yield Case("compact, capacity", moved, lambda backend="auto": compact(values, keep, bounds, kept, backend=backend).values,
               {"boolean index": lambda: values[keep]})  # fmt: skip
    yield Case("scatter_back", 2 * (kept + tokens) * channels,
               partial(scatter_back, out.values, out.source, tokens),
               {"index_copy": lambda: torch.zeros_like(values).index_copy_(0, out.source, out.values)})  # fmt: skip


def smooth_cases(setting, channels):
    """A running average over words of five bytes, and its gradients."""
    tokens = setting.tokens
    bounds = torch.tensor([0, tokens // 3, tokens], dtype=torch.int32, device=setting.device)
    values, weights = normal(setting, tokens, channels), torch.rand(tokens, device=setting.device)
    weights = torch.where(torch.rand_like(weights) < 0.2, weights, 0)
    moved, decay = 4 * tokens * channels, 1 - weights
    yield Case("exponential_smoothing", moved, partial(exponential_smoothing, values, weights, bounds), {})
    out = recurrence(values, decay, weights, "auto")
    yield Case("smoothing backward", 2 * moved,
               lambda backend="auto": recurrence_backward(values, values, out, decay, weights, backend)[0], {})  # fmt: skip


def model_cases(setting):
    """What stands around attention: rotary embedding and the loss; with their sizes."""
    for case in bias_cases(setting):
        yield case, "6 heads of 64"
    yield rotary_case(setting), "32 + 8 heads of 128"
    tokens, vocabulary, channels = (64, 100, 32) if setting.dry else (8192, 128256, 4096)
    for case in logits_cases(setting, tokens, vocabulary):
        yield case, f"{vocabulary} columns"
    for columns in (vocabulary // 4, vocabulary):
        yield loss_case(setting, tokens, columns, channels), f"{columns} columns, half of the labels"


def logits_cases(setting, tokens, vocabulary):
    """The loss of logits that exist, and their gradient."""
    logits = normal(setting, tokens, vocabulary)
    labels = torch.randint(0, vocabulary, (tokens,), device=setting.device)
    plain = torch.nn.functional.cross_entropy
    read = 2 * logits.numel()
    losses, norms = row_losses(logits, labels, 0.0, "auto")
    yield Case("cross_entropy", read, partial(cross_entropy, logits, labels),
               {"torch": lambda: plain(logits, labels)})  # fmt: skip
    yield Case("cross_entropy backward", 2 * read,
               lambda backend="auto": row_gradients(losses, logits, labels, norms, 0.0, backend), {})  # fmt: skip


def bias_cases(setting):
    """T5's attention: a bias by distance, of 6 heads and 257 distances, beside the same call without one."""
    tokens, documents = setting.tokens, layouts(setting.tokens)["documents"]
    q, k, v = (normal(setting, tokens, 6, 64).requires_grad_() for _ in range(3))
    bias = torch.randn(6, 257, device=setting.device, requires_grad=True)
    bounds = torch.from_numpy(np.append(0, np.cumsum(documents))).to(setting.device, torch.int32)
    places = torch.from_numpy(np.concatenate([np.arange(n) for n in documents])).to(
        setting.device, torch.int32
    )
    relative = dict(bias=bias, positions=(places, places))
    reach = normal(setting, tokens, 6, 64)

    def forward(backend="auto", **options):
        with torch.no_grad():
            return varlen_attention(q, k, v, bounds, plus_one=True, backend=backend, **options)

    def both(backend="auto", **options):
        out = varlen_attention(q, k, v, bounds, plus_one=True, backend=backend, **options)
        torch.autograd.grad(out, (q, k, v, *([bias] if options else [])), reach)
        return out.detach()

    without = "triton" if setting.device == "cuda" else "reference"
    for name, call in (("attention, bias by distance", forward), ("the same, both passes", both)):
        yield Case(name, 0, partial(call, **relative), {"without a bias": partial(call, without)})


def rotary_case(setting):
    """Rotary embedding of documents."""
    tokens = setting.tokens
    q, k = normal(setting, tokens, 32, 128), normal(setting, tokens, 8, 128)
    bounds = torch.from_numpy(np.append(0, np.cumsum(layouts(tokens)["documents"])))
    bounds = bounds.to(setting.device, torch.int32)
    places = torch.arange(tokens, device=setting.device)
    angles = places[:, None] * 1e4 ** (-torch.arange(64, device=setting.device) / 64)
    cos, sin = angles.cos(), angles.sin()
    positions = places - bounds[:-1].long().repeat_interleave(torch.diff(bounds))
    return Case(
        "rotary",
        2 * 2 * (q.numel() + k.numel()),
        lambda backend="auto": rotary(q, k, cos, sin, bounds, backend=backend)[0],
        rotary_peers(setting, q, k, cos[positions], sin[positions]),
    )


def rotary_peers(setting, q, k, cos, sin):
    """What transformers does, eager and compiled, with the tables already gathered for it."""
    try:
        from transformers.models.llama.modeling_llama import apply_rotary_pos_emb
    except ImportError:
        return {}
    doubled = [torch.cat([table, table], 1)[None].to(q.dtype) for table in (cos, sin)]
    batched = [values.transpose(0, 1)[None] for values in (q, k)]
    theirs = partial(apply_rotary_pos_emb, *batched, *doubled)
    if setting.dry:
        return {"transformers": theirs}
    compiled = partial(torch.compile(apply_rotary_pos_emb), *batched, *doubled)
    return {"transformers": theirs, "transformers, compiled": compiled}


def loss_case(setting, tokens, columns, channels):
    """The loss of a linear layer and its gradients, against whole logits and against chunks in plain torch."""
    labels = torch.randint(0, columns, (tokens,), device=setting.device)
    labels[torch.rand(tokens, device=setting.device) < 0.5] = -100
    hidden = normal(setting, tokens, channels).requires_grad_()
    weight = (normal(setting, columns, channels) / channels**0.5).requires_grad_()
    kept = int((labels >= 0).sum())

    def ours(backend="auto"):
        loss = packed_cross_entropy(hidden, weight, labels, capacity=kept, backend=backend)
        return torch.autograd.grad(loss, (hidden, weight))[0]

    def whole():
        loss = torch.nn.functional.cross_entropy((hidden @ weight.T).float(), labels)
        return torch.autograd.grad(loss, (hidden, weight))

    def in_chunks():
        grads, weight_grad = [], torch.zeros_like(weight)
        for states, own in zip(hidden.detach().split(1024), labels.split(1024), strict=True):
            states.requires_grad_()
            logits = (states @ weight.T).float()
            loss = torch.nn.functional.cross_entropy(logits, own, reduction="sum") / kept
            grad, more = torch.autograd.grad(loss, (states, weight))
            grads.append(grad)
            weight_grad += more
        return torch.cat(grads), weight_grad

    return Case(
        "packed_cross_entropy, both passes", 0, ours, {"whole logits": whole, "chunks of 1024": in_chunks}
    )


def normal(setting, *shape):
    return torch.randn(shape, device=setting.device).to(torch.bfloat16)


def copy_rate(setting):
    """Bytes read and written for each microsecond by a large copy."""
    source = normal(setting, setting.tokens, 8192)
    target = torch.empty_like(source)
    return 4 * source.numel() / microseconds(setting, partial(target.copy_, source))


def measured(setting, case, size, rate):
    """One row for each peer (or one without)."""
    if case.checked:
        check(case)
    eager = microseconds(setting, case.call)
    replayed = attempted(setting, case.call, in_graph)
    ours = {
        "us": eager,
        "graph us": replayed,
        "of copy": case.bytes / (replayed or eager) / rate if case.bytes else None,
    }
    rows = []
    for peer, call in (case.peers or {"": None}).items():
        theirs = attempted(setting, call)
        ratio = theirs / eager if theirs else None
        rows.append(
            {"kernel": case.kernel, "C": size} | ours | {"peer": peer, "peer us": theirs, "times": ratio}
        )
        print(rows[-1], flush=True)
    return rows


def check(case):
    """Ends the run if the call and its twin disagree: what is wrong is not fast."""
    one, other = (case.call(backend=backend).float() for backend in ("auto", "reference"))
    error = (one - other).norm() / other.norm().clamp(min=1e-6)
    if not error < 0.005:
        raise SystemExit(f"{case.kernel} differs from its twin by {error:.3g}")


def attempted(setting, call, timed=None):
    """Microseconds of a call, None if there is none or it cannot."""
    try:
        return (timed or microseconds)(setting, call) if call else None
    except RuntimeError as error:
        print(f"a call failed: {error}")
        return None


def in_graph(setting, call):
    """Microseconds of a call replayed from a CUDA graph."""
    if setting.dry:
        return microseconds(setting, call)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        call()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()
    return microseconds(setting, graph.replay)


def microseconds(setting, call):
    """The median time of a call."""
    if setting.dry:
        started = time.perf_counter()
        call()
        return (time.perf_counter() - started) * 1e6
    from triton.testing import do_bench

    call()
    torch.cuda.synchronize()
    started = time.perf_counter()
    call()
    torch.cuda.synchronize()
    once = time.perf_counter() - started
    return once * 1e6 if once > SLOW else do_bench(call, warmup=5, rep=20, return_mode="median") * 1e3


if __name__ == "__main__":
    main()
