"""What does packed prefill gain? A Llama of a billion parameters on real prompt lengths, against padding and batching.

python benchmarks/prefill.py --write-lengths FILE    the lengths, from the shared corpora (no GPU needed)
python benchmarks/prefill.py --lengths FILE [--dry]  the measurement, on one GPU
python benchmarks/prefill.py --cpu                   a model of 34 million parameters in fp32, 32 prompts of up to 1,024, batch 8,
                                                     one thread, seconds of its own that a busy machine does not stretch

256 prompts for each workload, in the order of the data, batch 64. Peers run the same model of transformers with SDPA:
batches padded on the left, the same after sorting all 256 by length, and ``generate_batch`` (continuous batching) asked for
one token of each. Everything is run once before it is timed, ways take turns, the device is synchronised, medians are
kept. Caches are held for the prompts of a batch, as long as it runs. ``mooncake`` has prompts that share real prefixes.
"""

import csv
import gc
import io
import json
import random
import statistics
import time
from pathlib import Path

import torch
from report import arguments, missing, publish
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

from tersely.pack import prefill

PROMPTS, BATCH, ROUNDS = 256, 64, 3
MODEL = dict(
    vocab_size=32000, hidden_size=2048, intermediate_size=8192, num_hidden_layers=16, num_attention_heads=32,
    num_key_value_heads=8, max_position_embeddings=131072, tie_word_embeddings=True,
)  # fmt: skip
BLOCK = 512  # tokens that one hash of the Mooncake trace stands for


def read_lengths(data):
    """Tokens of prompts: as a production trace has them, and of prompt sets as GPT-2 cuts them."""
    import pyarrow
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(data / "tokenizers/gpt2/tokenizer.json"))

    def rows(name):
        with pyarrow.input_stream(str(data / name), compression="zstd") as stored:
            yield from map(json.loads, io.TextIOWrapper(stored, "utf-8"))

    found = {}
    with open(data / "traces/azure_llm_2023_conv.csv") as trace:
        found["azure conversation"] = [int(row["ContextTokens"]) for row in csv.DictReader(trace)][:PROMPTS]
    for name in ("chat_pref_en", "alpaca_5000", "gsm8k_train"):
        texts = [
            row["text"] for row, _ in zip(rows(f"prompts/{name}.jsonl.zst"), range(PROMPTS), strict=False)
        ]
        found[name] = [len(encoding.ids) for encoding in tokenizer.encode_batch(texts)]
    found["equal lengths"] = [512] * PROMPTS
    trace = [row for row, _ in zip(rows("traces/mooncake_conversation.jsonl.zst"), range(24), strict=False)]
    found["mooncake"] = [{"length": row["input_length"], "blocks": row["hash_ids"]} for row in trace]
    return found


def ids_of(prompt, number, vocabulary):
    """Random ids; those of a block are the same wherever its hash is."""
    if isinstance(prompt, int):
        rng = random.Random(f"prompt {number}")
        return [rng.randrange(2, vocabulary) for _ in range(prompt)]
    ids = [
        token
        for block in prompt["blocks"]
        for rng in [random.Random(f"block {block}")]
        for token in [rng.randrange(2, vocabulary) for _ in range(BLOCK)]
    ]
    return ids[: prompt["length"]]


def batches(prompts, size, order):
    return [[prompts[i] for i in order[first : first + size]] for first in range(0, len(order), size)]


@torch.no_grad()
def padded(model, groups):
    for group in groups:
        longest = max(map(len, group))
        ids = torch.zeros(len(group), longest, dtype=torch.int64)
        mask = torch.zeros_like(ids)
        for row, prompt in enumerate(group):
            ids[row, longest - len(prompt) :] = torch.tensor(prompt)
            mask[row, longest - len(prompt) :] = 1
        positions = (mask.cumsum(1) - 1).clamp(min=0)
        ids, mask, positions = (x.to(model.device) for x in (ids, mask, positions))
        model(input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=True, logits_to_keep=1)


def packed(model, groups, **settings):
    for group in groups:
        prefill(model, group, **settings)


def continuous(model, groups):
    config = GenerationConfig(max_new_tokens=1, do_sample=False, eos_token_id=-1, pad_token_id=0)
    model.generate_batch(inputs=[prompt for group in groups for prompt in group], generation_config=config)


def measured(call, cuda):
    """Seconds and, on a GPU, the most memory above what was there before."""
    gc.collect()
    if cuda:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        torch.cuda.synchronize()
    clock = time.perf_counter if cuda else time.process_time
    started = clock()
    call()
    if cuda:
        torch.cuda.synchronize()
    seconds = clock() - started
    return seconds, torch.cuda.max_memory_allocated() - before if cuda else 0


def ways_of(model, prompts, shared, size):
    order = list(range(len(prompts)))
    by_length = sorted(order, key=lambda i: -len(prompts[i]))
    if shared:  # prompts of ten thousand tokens and more: one by one is the only way without padding
        one = batches(prompts, 1, order)
        return {
            "one by one": lambda: padded(model, one),
            "packed, nothing shared": lambda: packed(model, [prompts], share_prefixes=False),
            "packed": lambda: packed(model, [prompts]),
        }
    in_order = batches(prompts, size, order)
    ways = {
        "padded": lambda: padded(model, in_order),
        "length-sorted": lambda: padded(model, batches(prompts, size, by_length)),
        "packed": lambda: packed(model, in_order),
    }
    return ways | ({"continuous": lambda: continuous(model, in_order)} if model.device.type == "cuda" else {})


def measure(model, name, prompts, rounds, size):
    cuda = model.device.type == "cuda"
    ways = ways_of(model, prompts, name == "mooncake", size)
    seconds, peaks, failed = {way: [] for way in ways}, {}, {}
    for turn in range(rounds + 1):
        for way, call in ways.items():
            if way in failed or (way == "continuous" and turn > 2):
                continue
            try:
                took, peaks[way] = measured(call, cuda)
            except Exception as error:
                failed[way] = f"{type(error).__name__}: {str(error)[:200]}"
                continue
            if turn:
                seconds[way].append(took)
    order = range(0, len(prompts), size)
    row = {"workload": name, "prompts": len(prompts), "tokens": sum(map(len, prompts))}
    row["padding ratio"] = (
        sum(len(prompts[i : i + size]) * max(map(len, prompts[i : i + size])) for i in order) / row["tokens"]
    )
    mine = statistics.median(seconds["packed"])
    row["packed, s"] = mine
    row["packed, GB"] = peaks["packed"] / 1e9
    for way in ways:
        if way != "packed":
            row[f"{way} / packed"] = failed.get(way) or statistics.median(seconds[way]) / mine
            row[f"{way} memory / packed"] = peaks.get(way, 0) / max(peaks["packed"], 1)
    return row


def model_of(device, **changes):
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float32 if device == "cpu" else torch.bfloat16)
    with torch.device(device):
        model = LlamaForCausalLM(LlamaConfig(**MODEL | changes)).eval()
    torch.set_default_dtype(torch.float32)
    return model


def main():
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--write-lengths", type=Path)
    parser.add_argument("--lengths", type=Path)
    parser.add_argument("--dry", action="store_true", help="small shapes on the CPU, nothing written")
    parser.add_argument("--cpu", action="store_true")
    options = parser.parse_args()
    if options.write_lengths:
        options.write_lengths.write_text(json.dumps(read_lengths(options.data)))
        return
    small = options.dry or options.cpu
    if not small and not torch.cuda.is_available():
        missing("a GPU")
    lengths = json.loads(options.lengths.read_text()) if options.lengths else read_lengths(options.data)
    if options.dry:
        model = model_of(
            "cpu", hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=8
        )
    elif options.cpu:
        torch.set_num_threads(1)
        shape = dict(hidden_size=512, intermediate_size=1408, num_hidden_layers=6, num_attention_heads=8)
        model = model_of("cpu", vocab_size=32000, **shape)
        lengths.pop("mooncake")
        lengths = {name: [p for p in prompts if p <= 1024] for name, prompts in lengths.items()}
    else:
        model = model_of("cuda")
    size, many, rounds = (
        (8, 32, 1) if options.cpu else (BATCH, 12, 1) if options.dry else (BATCH, PROMPTS, ROUNDS)
    )
    rows = []
    for name, prompts in lengths.items():
        prompts = prompts[:many]
        if options.dry:
            prompts = [
                p // 8 + 1 if isinstance(p, int) else p | {"length": p["length"] // 8 + 1} for p in prompts
            ]
        ids = [ids_of(prompt, number, MODEL["vocab_size"]) for number, prompt in enumerate(prompts)]
        rows.append(measure(model, name, ids, rounds, size))
        print(rows[-1], flush=True)
    if not options.dry:
        columns = dict.fromkeys(column for row in rows for column in row)
        parameters = sum(p.numel() for p in model.parameters()) / 1e6
        publish(
            "prefill_cpu" if options.cpu else "prefill",
            [{column: row.get(column, "") for column in columns} for row in rows],
            f"a Llama of {parameters:,.0f} million parameters, {model.dtype}, random weights; batches of {size}",
        )


if __name__ == "__main__":
    main()
