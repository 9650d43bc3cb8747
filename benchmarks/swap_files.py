"""What a swap of a large model costs from files to files: time and peak memory, against a plain copy of the folder.

python benchmarks/swap_files.py --data SHARED_DATA [--place FOLDER]

A Llama of a few layers with two tables of 150,000 rows of 4096 dimensions is written in shards of random bfloat16; its tokenizer,
and the one it gets, are BPEs of 150,000 tokens, trained on two halves of the shared text. 20 MB of text are there for what learns.
Each way runs in a process of its own, with two threads. The peak is that of all its memory, what is mapped from files too.
"""

import json
import multiprocessing
import shutil
import sys
import tempfile
import time
from pathlib import Path

from report import arguments, missing, publish

VOCABULARY, DIMENSIONS, LAYERS, INNER, HEADS, KEYS = 150_000, 4096, 6, 14_336, 32, 8
MEGABYTES = 20
TEXTS = ("prose/*.zst", "code/*.zst", "multilingual/*.zst")
WAYS = ("copy", "mean", "fit", "focus")
THREADS = 2


def texts_of(data):
    from tersely.corpus import find_sources

    files = [file for pattern in TEXTS for file in sorted(data.glob(pattern))]
    if not files:
        missing(f"the shared corpora at {data}")
    return [text for source in find_sources(files)[0] for batch in source.batches() for text in batch.strings]


def trained(texts, digits):
    """A byte-level BPE; ``digits`` are cut off one by one, or not."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    made, bytes_of = Tokenizer(models.BPE()), pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.pre_tokenizer = (
        pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), bytes_of])
        if digits
        else bytes_of
    )
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["<|end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=made, bos_token="<|end|>", eos_token="<|end|>")


def write_model(folder, size):
    """The files of a random model, a shard for each layer and table."""
    import torch
    from safetensors.torch import save_file
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=size, hidden_size=DIMENSIONS, intermediate_size=INNER, num_hidden_layers=LAYERS,
        num_attention_heads=HEADS, num_key_value_heads=KEYS, bos_token_id=0, eos_token_id=0,
        architectures=["LlamaForCausalLM"], dtype="bfloat16",
    )  # fmt: skip
    with torch.device("meta"):
        shapes = {name: part.shape for name, part in LlamaForCausalLM(config).state_dict().items()}
    some = (0.02 * torch.randn(1 << 24)).to(torch.bfloat16)
    shards = {}
    for name in shapes:
        shards.setdefault(name.rsplit(".", 3)[0] if ".layers." in name else name, []).append(name)
    weight_map, total = {}, 0
    for number, names in enumerate(shards.values(), 1):
        file = f"model-{number:05}-of-{len(shards):05}.safetensors"
        parts = {name: torch.empty(shapes[name], dtype=torch.bfloat16) for name in names}
        for part in parts.values():
            flat = part.view(-1)
            for start in range(0, len(flat), len(some)):
                flat[start : start + len(some)] = some[: len(flat) - start]
        save_file(parts, folder / file, {"format": "pt"})
        weight_map |= dict.fromkeys(names, file)
        total += sum(part.nbytes for part in parts.values())
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    config.save_pretrained(folder)
    return total


def peak_bytes():
    """Of this process alone: what ``getrusage`` says begins with the peak of the process that started it."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.split("VmHWM:")[1].split()[0])


def swap(way, place, out, answer):
    """One way, in this process: seconds and bytes at most, and the report."""
    import torch
    from transformers.utils import logging

    from tersely.embeddings import swap_folder

    torch.set_num_threads(THREADS)
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    texts = json.loads((place / "texts.json").read_text()) if way in ("fit", "focus") else None
    steps = []
    started = time.perf_counter()
    if way == "copy":
        shutil.copytree(place / "model", out)
        rows = {}
    else:
        steps_told = lambda step: steps.append((step, round(time.perf_counter() - started, 1)))  # noqa: E731
        report = swap_folder(
            place / "model", place / "target", out, way, texts, measure=False, on_progress=steps_told
        )
        rows = {name: number for name, number in report.counts.items() if number}
    seconds = time.perf_counter() - started
    print(way, steps, rows, f"{seconds:.1f} s", file=sys.stderr)
    answer.send((seconds, peak_bytes(), rows))


def measured(way, place):
    answer, sender = multiprocessing.Pipe()
    out = place / "out"
    process = multiprocessing.get_context("spawn").Process(target=swap, args=(way, place, out, sender))
    process.start()
    sender.close()
    found = answer.recv()
    process.join()
    shutil.rmtree(out)
    return found


def prepare(place, data):
    """The model, the target and the text, if they are not there yet; the size of the model."""
    if not (place / "model/config.json").exists():
        texts = texts_of(data)
        (place / "model").mkdir(parents=True, exist_ok=True)
        for name, part, digits in (("model", texts[::2], False), ("target", texts[1::2], True)):
            tokenizer = trained(part, digits)
            tokenizer.save_pretrained(place / name)
            if name == "model":
                size = len(tokenizer)
        kept, written = [], 0
        for text in texts:
            if written < MEGABYTES * 1e6:
                kept.append(text)
                written += len(text.encode())
        (place / "texts.json").write_text(json.dumps(kept))
        write_model(place / "model", size)
    return sum(file.stat().st_size for file in (place / "model").glob("*.safetensors"))


def rows(place, data):
    size, copied = prepare(place, data), None
    for way in WAYS:
        seconds, peak, made = measured(way, place)
        copied = copied or seconds
        yield {
            "way": way,
            "seconds": seconds,
            "seconds / copy's": seconds / copied,
            "peak GB": peak / 1e9,
            "model GB": size / 1e9,
            "peak / model": peak / size,
            "rows": made,
        }


if __name__ == "__main__":
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--place", type=Path, help="a folder to work in, which is kept")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        found = list(rows(options.place or Path(temporary), options.data))
    note = f"{VOCABULARY:,} tokens to as many, {DIMENSIONS} dimensions, {THREADS} threads; fit and focus learn from {MEGABYTES} MB"
    publish("swap_files", found, note)
