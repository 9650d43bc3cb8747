"""What does generation gain from caches that are not padded? The billion-parameter Llama of ``prefill.py``, greedy.

python benchmarks/generate.py --lengths FILE [--dry]    FILE: made by ``prefill.py --write-lengths``

The first 64 prompts of two workloads in one batch, 64 new tokens each, none of which ends a text; ``model.generate`` of
transformers, padded on the left, with SDPA, against ``tersely.pack.generate``, which decodes over a ragged cache. Each runs
once before it is timed, then they take turns; medians, and the most memory above what was there before.
"""

import json
import statistics
from pathlib import Path

import torch
from prefill import ids_of, measured, model_of
from report import arguments, missing, publish

from tersely.pack import generate

PROMPTS, NEW, ROUNDS = 64, 64, 3


@torch.no_grad()
def padded(model, prompts, new):
    longest = max(map(len, prompts))
    ids = torch.zeros(len(prompts), longest, dtype=torch.int64)
    mask = torch.zeros_like(ids)
    for row, prompt in enumerate(prompts):
        ids[row, longest - len(prompt) :] = torch.tensor(prompt)
        mask[row, longest - len(prompt) :] = 1
    model.generate(
        input_ids=ids.to(model.device), attention_mask=mask.to(model.device), max_new_tokens=new, min_new_tokens=new,
        do_sample=False, pad_token_id=0,
    )  # fmt: skip


def measure(model, name, prompts, new, rounds):
    cuda = model.device.type == "cuda"
    ways = {
        "padded": lambda: padded(model, prompts, new),
        "packed": lambda: generate(model, None, prompts, max_new_tokens=new),
    }
    seconds, peaks = {way: [] for way in ways}, {}
    for turn in range(rounds + 1):
        for way, call in ways.items():
            took, peaks[way] = measured(call, cuda)
            seconds[way] += [took] * (turn > 0)
    mine = statistics.median(seconds["packed"])
    return {
        "workload": name,
        "prompts": len(prompts),
        "tokens": sum(map(len, prompts)),
        "padding ratio": len(prompts) * max(map(len, prompts)) / sum(map(len, prompts)),
        "new tokens": new,
        "packed, s": mine,
        "padded / packed": statistics.median(seconds["padded"]) / mine,
        "padded memory / packed": peaks["padded"] / max(peaks["packed"], 1),
    }


def main():
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--lengths", type=Path, required=True)
    parser.add_argument("--dry", action="store_true", help="small shapes on the CPU, nothing written")
    options = parser.parse_args()
    if not options.dry and not torch.cuda.is_available():
        missing("a GPU")
    shape = dict(hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=8)
    model = model_of("cpu", **shape) if options.dry else model_of("cuda")
    model.generation_config.eos_token_id = None
    lengths, rows = json.loads(options.lengths.read_text()), []
    for name in ("azure conversation", "gsm8k_train"):
        prompts = lengths[name][: 4 if options.dry else PROMPTS]
        ids = [ids_of(prompt, number, model.config.vocab_size) for number, prompt in enumerate(prompts)]
        rows.append(measure(model, name, ids, 4 if options.dry else NEW, 1 if options.dry else ROUNDS))
        print(rows[-1], flush=True)
    if not options.dry:
        publish("generate", rows, "a Llama of a billion parameters, bf16, random weights; one batch of 64")


if __name__ == "__main__":
    main()
