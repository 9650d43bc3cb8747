"""What does an encoder gain by not computing padding? BERT-base in bf16, 16 sequences, 0.6 of the longest on average.

python benchmarks/encoder.py [--dry]

On one GPU, forward only, medians of ``triton.testing.do_bench`` (which flushes the L2 cache). Peers are the same model of
transformers, padded, with SDPA; packed is ``examples/padding_free_encoder.py``: unpad, the same model with
``attn_implementation="tersely"``, pad. Each is run eager, under ``torch.compile``, and both again captured in a CUDA graph,
where the host's share of the time is gone (packed with a capacity: its graph serves any batch of so many tokens). Outputs
at real tokens are compared before anything is timed. ``--dry`` runs small shapes on the CPU.
"""

import sys
import time
from functools import partial
from pathlib import Path

import torch
from report import arguments, captured, publish
from transformers import BertConfig, BertModel

sys.path.insert(0, str(Path(__file__).parent.parent / "examples"))
from padding_free_encoder import batch_of, encode

from tersely.kernels import register_with_transformers


def sizes_of(batch, longest):
    """Lengths spread evenly around 0.6 of the longest, which one of them has."""
    spread = torch.linspace(0.2, 1.0, batch)
    return (spread * longest).round().int().tolist()


def milliseconds(call, dry):
    if dry:
        started = time.perf_counter()
        call()
        return (time.perf_counter() - started) * 1e3
    from triton.testing import do_bench

    return do_bench(call, warmup=20, rep=100, return_mode="median")


def calls(model, ids, mask, dry):
    """Each way to run the model, by name; making one sets the model's attention, so run it before the next."""
    capacity = -(-int(mask.sum()) // 256) * 256
    for name, attention, compiled in (
        ("padded", "sdpa", False),
        ("padded, compiled", "sdpa", True),
        ("packed", "tersely", False),
        ("packed, compiled", "tersely", True),
    ):
        if compiled and dry:
            continue
        model.set_attn_implementation(attention)
        torch._dynamo.reset()
        run = torch.compile(model) if compiled else model
        call = partial(padded, run, ids, mask)
        if attention == "tersely":
            call = partial(encode, run, ids, mask, capacity)
        yield name, call
        if not dry:
            yield f"{name}, captured", captured(call)


def padded(model, ids, mask):
    return model(input_ids=ids, attention_mask=mask).last_hidden_state


@torch.no_grad()
def measure(longest, device, dtype, dry):
    """One row of the table."""
    small = dict(hidden_size=64, num_hidden_layers=2, num_attention_heads=2) if dry else {}
    config = BertConfig(max_position_embeddings=1024, **small)
    torch.manual_seed(0)
    model = BertModel(config, add_pooling_layer=False).eval().to(device, dtype)
    ids, mask = batch_of(sizes_of(16, longest), config.vocab_size, device)
    times, expected = {}, None
    for name, call in calls(model, ids, mask, dry):
        out = call()[mask.bool()].float()
        expected = out if expected is None else expected
        off = ((out - expected).norm() / expected.norm()).item()
        assert off < 2e-2, f"{name} is off by {off:.1e}"
        times[name] = milliseconds(call, dry)
    best = min(time for name, time in times.items() if name.startswith("packed"))
    row = {"longest": longest, "real tokens": int(mask.sum()), "of": mask.numel()}
    row |= {f"{name}, ms": time for name, time in times.items()}
    row["padded / packed, eager"] = times["padded"] / times["packed"]
    rest = [time for name, time in times.items() if name.startswith("padded")]
    return row | {"best padded / best packed": min(rest) / best}


def main():
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--dry", action="store_true", help="small shapes on the CPU, nothing written")
    options = parser.parse_args()
    register_with_transformers()
    if options.dry:
        print([measure(longest, "cpu", torch.float32, True) for longest in (16, 32)])
    else:
        publish("encoder", [measure(longest, "cuda", torch.bfloat16, False) for longest in (256, 512, 1024)])


if __name__ == "__main__":
    main()
