"""What does an encoder gain by deleting positions after layer 3 of 12? The shape of ByT5-small, documents of 1,024 bytes.

python benchmarks/merging_t5_speed.py [--dry]

On one GPU, bf16, random weights; a random policy at an exact share, so that nothing but the share is measured. Packed is
``MergingByT5``'s encoder. Padded is what published code does: all pairs' scores written out, kept states and the position bias
gathered for each row, the batch padded to its longest survivor, whose length is read back. (All rows keep as many here, so it
pads nothing.) It runs as published, with eager attention, and with torch's own (SDPA). Both are compared before they are timed.

The operation count promises, for n positions a document, C channels, A = heads * size, F channels in the MLP, multiplied pairs of

    layer(n) = n (4 C A + 3 C F) + 2 n n A,    reduction = 1 - (3 layer(L) + 9 layer(K)) / (12 layer(L)).

``--dry`` runs small shapes on the CPU, nothing is written.
"""

import time
from functools import partial

import torch
from report import arguments, publish
from transformers.models.t5.modeling_t5 import T5Stack

from tersely.compress.merge.t5 import MergingByT5Config
from tersely.compress.merge.t5.encoder import MergingEncoder

LENGTH, DOCUMENTS, LAYERS, GATE = 1024, 32, 12, 3
SHAPE = dict(d_model=1472, d_ff=3584, num_heads=6, d_kv=64)
DELETED = (0.0, 0.3, 0.5, 0.7)


def encoder_of(deleted, device, dtype):
    config = MergingByT5Config(
        vocab_size=384, num_layers=LAYERS, num_decoder_layers=1, gate_layer=GATE, feed_forward_proj="gated-gelu",
        dropout_rate=0.0, **SHAPE, **(dict(policy="random", share=1 - deleted) if deleted else dict(policy="none")),
    )  # fmt: skip
    torch.manual_seed(0)
    return MergingEncoder(config).to(device, dtype)


def packed(encoder, ids, cu_seqlens, places):
    return encoder.encode(ids, cu_seqlens, places, True).hidden


def padded(encoder: T5Stack, ids, keep):
    """The same by rows ``(B, L)``; ``keep`` ``(B, L)`` is decided already, or None."""
    x = encoder.embed_tokens(ids)
    bias = encoder.block[0].layer[0].SelfAttention.compute_bias(ids.shape[1], ids.shape[1]).to(x.dtype)
    for number, block in enumerate(encoder.block):
        if number == GATE and keep is not None:
            counts = keep.sum(1)
            longest = int(counts.max())
            source = (~keep).long().argsort(dim=1, stable=True)[:, :longest]  # kept places first, in order
            x = x.gather(1, source[..., None].expand(-1, -1, x.shape[2]))
            rows = bias.expand(len(ids), -1, -1, -1)
            rows = rows.gather(2, source[:, None, :, None].expand(-1, rows.shape[1], -1, rows.shape[3]))
            bias = rows.gather(3, source[:, None, None].expand(-1, rows.shape[1], longest, -1))
            there = torch.arange(longest, device=x.device) < counts[:, None]
            bias = bias.masked_fill(~there[:, None, None], torch.finfo(x.dtype).min)
        x = block(x, None, bias)[0]
    return encoder.final_layer_norm(x)


def with_backward(call, parameters, gradients):
    """Forward and backward, the gradients of all weights."""
    out = call()
    return torch.autograd.grad(out, parameters, gradients[: out.numel()].view_as(out), allow_unused=True)


def milliseconds(call, dry):
    if dry:
        started = time.perf_counter()
        call()
        return (time.perf_counter() - started) * 1e3
    from triton.testing import do_bench

    return do_bench(call, warmup=50, rep=300, return_mode="median")


def promised(deleted):
    """The reduction of multiplications."""
    C, A, F = SHAPE["d_model"], SHAPE["num_heads"] * SHAPE["d_kv"], SHAPE["d_ff"]

    def layer(n):
        return n * (4 * C * A + 3 * C * F) + 2 * n * n * A

    kept = -(-LENGTH * round(10 * (1 - deleted)) // 10)
    return 1 - (GATE * layer(LENGTH) + (LAYERS - GATE) * layer(kept)) / (LAYERS * layer(LENGTH))


def measure(deleted, device, dtype, dry):
    """Milliseconds by way and pass."""
    encoder = encoder_of(deleted, device, dtype)
    generator = torch.Generator(device).manual_seed(0)
    ids = torch.randint(3, 259, (DOCUMENTS, LENGTH), device=device, generator=generator)
    cu_seqlens = torch.arange(DOCUMENTS + 1, dtype=torch.int32, device=device) * LENGTH
    places = torch.arange(ids.numel(), device=device)
    encoded = encoder.encode(ids.flatten(), cu_seqlens, places, True)
    keep = None if encoded.choice is None else encoded.choice.keep.view_as(ids)
    parameters = [part for part in encoder.parameters() if part.requires_grad]
    gradients = torch.randn(ids.numel() * SHAPE["d_model"], device=device, dtype=dtype, generator=generator)
    ways = {"packed": (partial(packed, encoder, ids.flatten(), cu_seqlens, places), None)}
    ways |= {f"padded, {name}": (partial(padded, encoder, ids, keep), name) for name in ("eager", "sdpa")}
    times = {}
    for way, (call, attention) in ways.items():
        if attention:
            encoder.set_attn_implementation(attention)
        with torch.no_grad():
            off = (call().flatten(0, -2) - encoded.hidden).float().norm() / encoded.hidden.float().norm()
            assert off < 5e-2, f"{way} is off by {off:.1e}"
            times[way, "forward"] = milliseconds(call, dry)
        both = partial(with_backward, call, parameters, gradients)
        times[way, "forward and backward"] = milliseconds(both, dry)
    return times


def rows_of(times):
    """A row for each share and pass, with the reduction against nothing deleted."""
    for deleted in DELETED:
        for which in ("forward", "forward and backward"):
            row = {"deleted": deleted, "pass": which, "promised reduction": promised(deleted)}
            for way in ("packed", "padded, eager", "padded, sdpa"):
                now, whole = times[deleted][way, which], times[0.0][way, which]
                row |= {f"{way}, ms": now, f"{way}, reduction": 1 - now / whole}
            row["packed / promised"] = row["packed, reduction"] / promised(deleted) if deleted else 1.0
            row["padded, eager / packed"] = row["padded, eager, ms"] / row["packed, ms"]
            yield row


def main():
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--dry", action="store_true", help="small shapes on the CPU, nothing written")
    options = parser.parse_args()
    if options.dry:
        global LENGTH, DOCUMENTS, SHAPE
        LENGTH, DOCUMENTS, SHAPE = 40, 2, dict(d_model=32, d_ff=48, num_heads=2, d_kv=8)
        device, dtype = "cpu", torch.float32
    else:
        device, dtype = "cuda", torch.bfloat16
    rows = list(rows_of({deleted: measure(deleted, device, dtype, options.dry) for deleted in DELETED}))
    if options.dry:
        print(*rows, sep="\n")
    else:
        publish(
            "merging_t5_speed", rows, f"{DOCUMENTS} documents of {LENGTH} bytes, gate after {GATE} layers"
        )


if __name__ == "__main__":
    main()
