"""Can a language model learn equal-info codes? The same decoder on the same bytes, over bytes, BPE, and codes.

python benchmarks/learnability.py --prepare FILE.npz             build the codes, encode prose and code (no GPU needed)
python benchmarks/learnability.py --learn FILE.npz --rows 25M.json --sizes 25M    train on one GPU; rows as they come
python benchmarks/learnability.py --publish 25M.json 110M.json --picture docs/equal_info_learnability.svg
python benchmarks/learnability.py --learn FILE.npz --dry

Documents are split as in ``equal_info.py`` (every fifth is held out, by a hash); models of bytes and BPE see the training
part alone. A step reads about 32 KiB of text as rows of 1,024 tokens, so every code takes the same steps over the same
text, and shorter codes are cheaper. The decoder is a Llama of transformers in bf16 autocast; its size is said without
embeddings. Bits per byte are those of the ids of held-out text, each predicted from at most 1,023 before it. FLOPs are of
inference, for a byte of text: two for a parameter of the body and the head, and attention at half of the row.
"""

import json
import math
import time
from pathlib import Path

import numpy as np
from equal_info import corpus, split
from report import arguments, missing, publish

BITS, ROW, STEP_BYTES, EPOCHS, EVALUATIONS = 16, 1024, 1 << 15, 4, 4
SIZES = {
    "25M": dict(hidden_size=512, num_hidden_layers=8, num_attention_heads=8, rate=1e-3),
    "110M": dict(hidden_size=768, num_hidden_layers=16, num_attention_heads=12, rate=6e-4),
}


def encodings(train, test):
    """Name, ids in the vocabulary, and the ids of training and test text, each document closed by its last id."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    from tersely.compress import EqualInfoTokenizer
    from tersely.compress.equal_info.code import greedy
    from tersely.compress.equal_info.models import NgramModel

    def closed(rows, end):
        return np.concatenate([part for row in rows for part in (row, [end])])

    def of_bytes(texts):
        return closed([np.frombuffer(text, np.uint8) for text in texts], 256)

    yield "bytes", 257, of_bytes(train), of_bytes(test)

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=32767, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    bpe.train_from_iterator((text.decode() for text in train), trainer)

    def of_bpe(texts):
        made = bpe.encode_batch_fast([text.decode() for text in texts], add_special_tokens=False)
        return closed([one.ids for one in made], 32767)

    yield "BPE-32k", 32768, of_bpe(train), of_bpe(test)

    model = NgramModel.train(train)
    made = greedy.greedy_code(model, BITS)

    def of_greedy(texts):
        """Windows of the paper's code; a byte that no window can begin with has an id of its own."""
        rows = []
        for text in texts:
            text = np.frombuffer(text, np.uint8)
            nodes, _ = greedy.encode(made.firsts, made.labels, text)
            lengths = depths[nodes]
            ids = []
            place = window = 0
            while place < len(text):
                if (
                    window < len(nodes)
                    and greedy.child(made.firsts, made.labels, 0, text[place]) != greedy.NONE
                ):
                    ids.append(int(made.codes[nodes[window]]))
                    place += int(lengths[window])
                    window += 1
                else:
                    ids.append((1 << BITS) + int(text[place]))
                    place += 1
            rows.append(ids)
        return closed(rows, (1 << BITS) + 256)

    depths = np.zeros(len(made.codes), np.int64)
    for node in range(1, len(depths)):
        depths[node] = depths[made.parents[node]] + 1
    yield "paper, greedy", (1 << BITS) + 257, of_greedy(train), of_greedy(test)
    for carry in (0, 1, 2):
        tok = EqualInfoTokenizer.train(train, bits=BITS, carry=carry, model=model)
        yield (
            f"cells, carry {carry}",
            1 << BITS,
            *(tok.encode(texts, eos=True).values for texts in (train, test)),
        )


def prepare(data, file):
    train, test = split(corpus(data), "documents")
    arrays = {"sizes": np.array([sum(map(len, train)), sum(map(len, test))])}
    for name, ids, learned, held_out in encodings(train, test):
        arrays |= {
            f"{name}/ids": np.array(ids),
            f"{name}/train": np.asarray(learned, np.min_scalar_type(ids)),
            f"{name}/test": np.asarray(held_out, np.min_scalar_type(ids)),
        }
        print(f"{name}: {arrays['sizes'][1] / len(held_out):.3f} bytes a token", flush=True)
    np.savez_compressed(file, **arrays)


def decoder(ids, size, device):
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    shape = {key: value for key, value in SIZES[size].items() if key != "rate"}
    config = LlamaConfig(
        vocab_size=ids, intermediate_size=shape["hidden_size"] * 8 // 3 // 64 * 64, max_position_embeddings=ROW,
        use_cache=False, bos_token_id=None, eos_token_id=None, **shape,
    )  # fmt: skip
    torch.manual_seed(0)
    model = LlamaForCausalLM(config).to(device)
    if device == "cuda":
        for layer in model.model.layers:
            layer.compile(dynamic=True)
    return model


def losses(model, inputs, wanted):
    """The sum over all predictions, in nats, of rows ``(N, ROW)``; what is -100 is not asked for."""
    import torch

    with torch.autocast(inputs.device.type, torch.bfloat16):
        logits = model(input_ids=inputs).logits
    return torch.nn.functional.cross_entropy(logits.float().flatten(0, 1), wanted.flatten(), reduction="sum")


def held_out_bits(model, ids, at_once):
    """Bits for all of the held-out ids but the first."""
    import torch

    rest = -(len(ids) - 1) % ROW
    inputs = torch.nn.functional.pad(ids[:-1], (0, rest)).view(-1, ROW)
    wanted = torch.nn.functional.pad(ids[1:], (0, rest), value=-100).view(-1, ROW)
    with torch.no_grad():
        parts = zip(inputs.split(at_once), wanted.split(at_once), strict=True)
        return sum(losses(model, *part).item() for part in parts) / math.log(2)


def learn(name, stored, size, device, epochs):
    """One row of the table, with the curve of held-out bits per byte."""
    import torch

    train_bytes, test_bytes = (int(x) for x in stored["sizes"])
    train, test = (
        torch.from_numpy(stored[f"{name}/{part}"].astype(np.int64)).to(device) for part in ("train", "test")
    )
    ids = int(stored[f"{name}/ids"])
    model = decoder(ids, size, device)
    body = sum(p.numel() for p in model.model.layers.parameters())
    per_token = train_bytes / len(train)
    rows_a_step = max(1, round(STEP_BYTES / (ROW * per_token)))
    steps = round(epochs * train_bytes / STEP_BYTES)
    rate, warmup = SIZES[size]["rate"], max(1, steps // 20)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=rate, betas=(0.9, 0.95), weight_decay=0.1, fused=device == "cuda"
    )
    generator = torch.Generator(device).manual_seed(0)
    starts = (torch.arange((len(train) - 1) // ROW, device=device) * ROW)[:, None]
    order, curve, started = torch.empty(0, dtype=torch.int64, device=device), [], time.perf_counter()
    for step in range(steps):
        if len(order) < rows_a_step:
            shuffled = torch.randperm(len(starts), generator=generator, device=device)
            order = torch.cat([order, shuffled])
        chosen, order = order[:rows_a_step], order[rows_a_step:]
        rows = train[starts[chosen] + torch.arange(ROW + 1, device=device)]
        done = max(0, step - warmup) / max(1, steps - warmup)
        optimizer.param_groups[0]["lr"] = rate * min(
            (step + 1) / warmup, 0.1 + 0.45 * (1 + math.cos(math.pi * done))
        )
        optimizer.zero_grad()
        most = max(1, (1 << 24) // (ROW * ids // 256))  # rows whose logits are held at a time
        for part in rows.split(most):
            (losses(model, part[:, :-1], part[:, 1:]) / (rows.shape[0] * ROW)).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if (step + 1) % max(1, steps // EVALUATIONS) == 0 or step + 1 == steps:
            bits = held_out_bits(model, test, most)
            curve.append([(step + 1) * STEP_BYTES, bits / test_bytes])
    if device == "cuda":
        torch.cuda.synchronize()
    width, layers = SIZES[size]["hidden_size"], SIZES[size]["num_hidden_layers"]
    flops = 2 * (body + width * ids) + 4 * layers * width * ROW // 2
    return {
        "size": size,
        "code": name,
        "parameters of the body": body,
        "bytes per token": test_bytes / len(test),
        "bits per byte": curve[-1][1],
        "best on the way": min(bits for _, bits in curve),
        "MFLOP per byte": flops / 1e6 / (test_bytes / len(test)),
        "steps": steps,
        "epochs": epochs,
        "seconds": time.perf_counter() - started,
        "curve": curve,
    }


def picture(rows, file):
    """Held-out bits per byte over text read, and against the cost of a byte."""
    import matplotlib.pyplot as plt

    sizes = list(dict.fromkeys(row["size"] for row in rows))
    figure, axes = plt.subplots(2, len(sizes), figsize=(6 * len(sizes), 9), squeeze=False)
    for column, size in enumerate(sizes):
        for row in (row for row in rows if row["size"] == size):
            read, bits = zip(*row["curve"], strict=True)
            axes[0, column].plot(np.array(read) / 1e6, bits, label=row["code"])
            axes[1, column].scatter(row["MFLOP per byte"], row["bits per byte"], label=row["code"])
        axes[0, column].set(
            title=f"{size}, without embeddings", xlabel="MB of text read", ylabel="held-out bits per byte"
        )
        axes[1, column].set(
            xlabel="MFLOP per byte of text (inference)", ylabel="held-out bits per byte", xscale="log"
        )
        axes[0, column].legend()
        axes[1, column].legend()
    figure.tight_layout()
    figure.savefig(file)


def main():
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--prepare", type=Path)
    parser.add_argument("--learn", type=Path)
    parser.add_argument("--sizes", default=",".join(SIZES))
    parser.add_argument("--codes", help="some of the codes, by name, with | between them")
    parser.add_argument("--epochs", type=float, default=EPOCHS)
    parser.add_argument("--rows", type=Path, default=Path("learnability_rows.json"))
    parser.add_argument("--publish", type=Path, nargs="+", help="files of rows for one result file")
    parser.add_argument("--picture", type=Path, help="draw the published results into this file")
    parser.add_argument("--dry", action="store_true", help="two steps of a tiny decoder on the CPU")
    options = parser.parse_args()
    if options.prepare:
        prepare(options.data, options.prepare)
    if options.learn:
        import torch

        if not options.dry and not torch.cuda.is_available():
            missing("a GPU")
        stored = np.load(options.learn)
        names = [key.removesuffix("/ids") for key in stored.files if key.endswith("/ids")]
        if options.codes:
            names = options.codes.split("|")
        if options.dry:
            global ROW, STEP_BYTES
            ROW, STEP_BYTES = 64, 1 << 10
            SIZES["tiny"] = dict(hidden_size=64, num_hidden_layers=1, num_attention_heads=2, rate=1e-3)
            few = {key: stored[key][:2000] if stored[key].ndim else stored[key] for key in stored.files}
            few["sizes"] = np.array([2048, 2048])
            for name in names:
                row = learn(name, few, "tiny", "cpu", 1)
                print(json.dumps(row))
            return
        rows = []
        for size in options.sizes.split(","):
            for name in names:
                rows.append(learn(name, stored, size, "cuda", options.epochs))
                print({key: value for key, value in rows[-1].items() if key != "curve"}, flush=True)
                options.rows.write_text(json.dumps(rows))
    if options.publish:
        rows = [row for file in options.publish for row in json.loads(file.read_text())]
        publish("learnability", rows, "one GPU, on which several of these ran at a time")
    if options.picture:
        file = Path(__file__).parent / "results/learnability.json"
        picture(json.loads(file.read_text())["rows"], options.picture)


if __name__ == "__main__":
    main()
