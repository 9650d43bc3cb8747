"""Language models of bytes against BPE: word pooling and merging decoders, same parameters, same bytes seen.

python benchmarks/byte_models.py --prepare FILE.npz                 documents of prose and of NTREX in pieces (no GPU needed)
python benchmarks/byte_models.py --learn FILE.npz --models 'byte|router' --seeds 0,1 --rows some.json    on one GPU
python benchmarks/byte_models.py --learn FILE.npz --corpus ntrex --models 'byte|router' --rows others.json
python benchmarks/byte_models.py --publish some.json others.json
python benchmarks/byte_models.py --learn FILE.npz --models all --dry           two steps of tiny models on the CPU

Every tenth document is held out, by a hash; of NTREX, whose documents say the same in 33 languages, every tenth by its number.
Documents are cut into pieces of at most 2,048 bytes at blanks. A step reads the same 64 KiB of pieces for every model, packed,
none of which sees another. Bits per byte count everything that is predicted, ends of words and documents too. All models are of
our own layers and have about as many parameters; what differs is what a position is. The controls merge at the rate at which
SpaceByte's rule does; the router is pulled there ten times as hard as in its paper, as it has but 756 steps. Next-word accuracy:
words all of whose bytes, and the end, are the likeliest, given the true bytes before.
"""

import json
import math
import subprocess
import time
import zlib
from pathlib import Path

import numpy as np
from report import arguments, missing, publish

PROSE = ["movie_reviews", "peps", "repo_docs", "state_union", "wikipedia_en", "wikitext2_valid"]
PIECE, STEP_BYTES, HELD_OUT, EPOCHS, RATE, VOCABULARY = 2048, 1 << 16, 10, 3, 1e-3, 8192
WIDTH, LAYERS, HEADS, LOCAL, RATIO_WEIGHT = 512, 8, 8, 256, 0.3
END = 256
MODELS = ("byte", "bpe", "words, prefix", "words, query", "router", "space", "entropy", "stride", "random")


def records(file):
    if not file.exists():
        missing(f"the shared corpora: there is no {file}")
    raw = subprocess.run(["zstd", "-dc", file], capture_output=True, check=True).stdout
    return [json.loads(line) for line in raw.splitlines() if line]


def pieces(text):
    """At most ``PIECE`` bytes each, cut before blanks where there are any, never inside a character."""
    data, start = text.encode(), 0
    while start < len(data):
        stop = min(start + PIECE, len(data))
        if stop < len(data):
            blank = data.rfind(b" ", start + PIECE // 2, stop)
            stop = blank if blank > 0 else stop
            while stop > start + 1 and data[stop] & 0xC0 == 0x80:
                stop -= 1
        yield data[start:stop]
        start = stop


def prepare(data, file):
    """Pieces by corpus and part: bytes, offsets, and for NTREX the language of each."""
    arrays = {}

    def keep(name, parts):
        arrays[f"{name}/bytes"] = np.frombuffer(b"".join(parts), np.uint8)
        arrays[f"{name}/lengths"] = np.array([len(part) for part in parts], np.int32)
        print(f"{name}: {len(parts):,} pieces, {len(arrays[f'{name}/bytes']):,} bytes", flush=True)

    texts = [record["text"] for name in PROSE for record in records(data / f"prose/{name}.jsonl.zst")]
    held = [zlib.crc32(text.encode()) % HELD_OUT == 0 for text in texts]
    for part, out in (("train", False), ("test", True)):
        keep(
            f"prose/{part}",
            [p for text, h in zip(texts, held, strict=True) if h is out for p in pieces(text)],
        )
    found = records(data / "multilingual/ntrex.jsonl.zst")
    names = sorted({row["doc"] for row in found})
    languages = sorted({row["lang"] for row in found})
    for part, out in (("train", False), ("test", True)):
        chosen = [row for row in found if (names.index(row["doc"]) % HELD_OUT == 0) is out]
        cut = [(p, languages.index(row["lang"])) for row in chosen for p in pieces(row["text"])]
        keep(f"ntrex/{part}", [p for p, _ in cut])
        arrays[f"ntrex/{part}/language"] = np.array([number for _, number in cut], np.int16)
    arrays["ntrex/languages"] = np.array(languages)
    np.savez_compressed(file, **arrays)


class Rows:
    """Pieces of one corpus and part."""

    def __init__(self, stored, name):
        self.values = stored[f"{name}/bytes"]
        self.offsets = np.concatenate([[0], stored[f"{name}/lengths"].cumsum()])

    def __len__(self):
        return len(self.offsets) - 1

    def texts(self, chosen):
        """Their bytes."""
        return [self.values[self.offsets[i] : self.offsets[i + 1]].tobytes() for i in chosen]

    def batches(self, order):
        """Pieces in order, as many at a time as make a step."""
        held, size = [], 0
        for i in order:
            held.append(int(i))
            size += int(self.offsets[i + 1] - self.offsets[i])
            if size >= STEP_BYTES:
                yield held
                held, size = [], 0
        if held:
            yield held


def packed(rows, end, device):
    """What is read and what is predicted: each row behind an end, each followed by one."""
    import torch

    ids = np.concatenate([part for row in rows for part in ([end], row)]).astype(np.int64)
    wanted = np.concatenate([part for row in rows for part in (row, [end])]).astype(np.int64)
    cu_seqlens = np.cumsum([0, *(len(row) + 1 for row in rows)]).astype(np.int32)
    return tuple(torch.from_numpy(x).to(device, non_blocking=True) for x in (ids, wanted, cu_seqlens))


def of_bytes(texts):
    return [np.frombuffer(text, np.uint8) for text in texts]


class Plain:
    """A transformer over tokens: bytes, or BPE trained on the training part."""

    def __init__(self, train, vocabulary, shape, device):
        import torch
        from torch import nn

        from tersely.layers import Stack

        self.bpe = bpe(train, vocabulary) if vocabulary else None
        self.end = vocabulary or END
        self.device, self.size = device, 0
        self.embed = nn.Embedding(self.end + 1, shape["width"])
        nn.init.normal_(self.embed.weight, std=0.02)
        self.stack = Stack(shape["width"], shape["layers"], shape["heads"])
        self.module = nn.ModuleList([self.embed, self.stack]).to(device)
        self._torch = torch

    def batch(self, texts):
        """What ``loss`` takes."""
        self.size = sum(map(len, texts))
        if self.bpe is None:
            return packed(of_bytes(texts), self.end, self.device)
        made = self.bpe.encode_batch_fast([text.decode() for text in texts], add_special_tokens=False)
        return packed([one.ids for one in made], self.end, self.device)

    def loss(self, batch, step=None):
        """What is made less, the nats of all predictions, and what else is told, as counts and of what."""
        from tersely.kernels import Boundaries

        ids, wanted, cu_seqlens = batch
        torch = self._torch
        starts = torch.repeat_interleave(cu_seqlens[:-1], cu_seqlens.diff(), output_size=len(ids))
        positions = torch.arange(len(ids), device=ids.device) - starts
        bounds = Boundaries.from_cu_seqlens(cu_seqlens, len(ids), causal=True)
        states = self.stack(self.embed(ids), bounds, positions)
        logits = torch.nn.functional.linear(states, self.embed.weight)
        nats = torch.nn.functional.cross_entropy(logits.float(), wanted, reduction="none")
        return nats.mean(), nats.detach(), {"positions per byte": (len(ids), self.size)}


class Words:
    """Words pooled from bytes, and spelled again."""

    def __init__(self, pool, shape, device):
        from tersely.embeddings import WordPooledConfig, WordPooledLM

        config = WordPooledConfig(
            hidden_size=shape["width"], num_hidden_layers=shape["layers"] - 1, num_attention_heads=shape["heads"],
            pool=pool,
        )  # fmt: skip
        self.module = WordPooledLM(config).to(device)

    def batch(self, texts):
        """What ``loss`` takes."""
        return self.module.batch_of(texts)

    def loss(self, batch, step=None):
        """As of ``Plain``."""
        out = self.module(batch)
        right = out.words_right()
        told = {
            "positions per byte": (len(out.hidden), out.num_bytes),
            "next word": (right.sum().item() if step is None else 0, len(right)),
        }
        return out.loss, out.total.detach(), told


class Merging:
    """A decoder that merges where a policy says; ``share`` of positions stay."""

    def __init__(self, policy, train, share, seed, shape, device):
        from tersely.compress import MergingLM, MergingLMConfig

        config = MergingLMConfig(
            width=shape["local"], heads=max(1, shape["local"] // 64), encode_layers=2, decode_layers=2,
            main_width=shape["width"], main_heads=shape["heads"], main_layers=shape["layers"] - 1,
            policy=policy, share=share, expand="smooth" if policy == "router" else "repeat", seed=seed,
            ratio_weight=RATIO_WEIGHT,
        )  # fmt: skip
        self.module = MergingLM(config).to(device)
        if policy == "entropy":
            self.module.body.policy.fit(train.texts(range(0, len(train), 4)), share)
        self.device = device

    def batch(self, texts):
        """What ``loss`` takes."""
        import torch

        ids = np.concatenate([part for row in of_bytes(texts) for part in ([END], row, [END])]).astype(
            np.int64
        )
        cu_seqlens = np.cumsum([0, *(len(text) + 2 for text in texts)]).astype(np.int32)
        return tuple(torch.from_numpy(x).to(self.device, non_blocking=True) for x in (ids, cu_seqlens))

    def loss(self, batch, step=None):
        """As of ``Plain``."""
        ids, cu_seqlens = batch
        out = self.module(ids, cu_seqlens, labels=ids)
        told = {"positions per byte": (out.kept.item() * len(ids), len(ids) - 2 * len(cu_seqlens) + 2)}
        return out.loss + out.rate_loss, out.loss.detach() * (len(ids) - len(cu_seqlens) + 1), told


def contestant(name, train, seed, shape, device):
    """The model, how texts become its batches, and what it makes less."""
    if name == "byte":
        return Plain(train, None, shape, device)
    if name == "bpe":
        return Plain(train, VOCABULARY, shape | {"layers": shape["layers"] - 1}, device)
    if name.startswith("words"):
        return Words(name.split(", ")[1], shape, device)
    return Merging(name, train, space_share(train), seed, shape, device)


def space_share(train):
    """Groups for each position by SpaceByte's rule, with an end before and behind each piece."""
    from tersely.tokenize import segment

    words = segment(train.texts(range(len(train))), "space")
    return len(words.values) / (len(train.values) + 2 * len(train))


def bpe(train, vocabulary):
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    made.train_from_iterator((text.decode() for text in train.texts(range(len(train)))), trainer)
    return made


def learn(name, stored, corpus, seed, device, shape, epochs):
    """Trains one model; a row of the table."""
    import torch

    train, test = Rows(stored, f"{corpus}/train"), Rows(stored, f"{corpus}/test")
    torch.manual_seed(seed)
    made = contestant(name, train, seed, shape, device)
    parts = list(made.module.parameters())
    flat = [part for part in parts if part.dim() < 2]
    groups = [{"params": [part for part in parts if part.dim() >= 2]}, {"params": flat, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(
        groups, lr=RATE, betas=(0.9, 0.95), weight_decay=0.1, fused=device == "cuda"
    )
    draw = np.random.default_rng(seed)
    order = np.concatenate([draw.permutation(len(train)) for _ in range(math.ceil(epochs))])
    order = order[: int(epochs * len(train))]
    steps, started = list(train.batches(order)), time.perf_counter()
    warm = max(1, len(steps) // 20)
    for step, chosen in enumerate(steps):
        done = max(0, step - warm) / max(1, len(steps) - warm)
        for group in optimizer.param_groups:
            group["lr"] = RATE * min((step + 1) / warm, 0.1 + 0.45 * (1 + math.cos(math.pi * done)))
        batch = made.batch(train.texts(chosen))
        with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
            loss, nats, _ = made.loss(batch, step)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parts, 1.0)
        optimizer.step()
        if step % 100 == 0 or step + 1 == len(steps):
            bits = nats.sum().item() / math.log(2) / sum(map(len, train.texts(chosen)))
            print(
                f"{name}, seed {seed}: step {step} of {len(steps)}, {bits:.3f} bits a byte, "
                f"{time.perf_counter() - started:.0f} s",
                flush=True,
            )
    seconds = time.perf_counter() - started
    return {
        "corpus": corpus, "model": name, "seed": seed, "parameters": sum(part.numel() for part in parts),
        "bytes read": int(epochs * len(train.values)), "seconds": seconds,
    } | held_out(made, stored, corpus, test, device)  # fmt: skip


def held_out(made, stored, corpus, test, device):
    """Bits per byte of held-out pieces, whole and by language, and what the model tells beside."""
    import torch

    language = stored.get(f"{corpus}/test/language")
    groups = {"": range(len(test))}
    if language is not None:
        groups |= {str(tag): np.flatnonzero(language == i) for i, tag in enumerate(stored["ntrex/languages"])}
    found = {}
    made.module.eval()
    for tag, chosen in groups.items():
        bits, size, sums = 0.0, 0, {}
        for part in test.batches(chosen):
            texts = test.texts(part)
            with torch.no_grad(), torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
                _, nats, told = made.loss(made.batch(texts))
            bits += nats.sum().item() / math.log(2)
            size += sum(map(len, texts))
            for key, (count, of) in told.items():
                now = sums.get(key, (0.0, 0.0))
                sums[key] = now[0] + float(count), now[1] + float(of)
        row = {"bits per byte": bits / size} | {key: count / of for key, (count, of) in sums.items()}
        if tag:
            found.setdefault("languages", {})[tag] = row
        else:
            found |= {"positions per byte": None, "next word": None} | row
    made.module.train()
    return found


def main():
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--prepare", type=Path)
    parser.add_argument("--learn", type=Path)
    parser.add_argument("--corpus", default="prose", choices=("prose", "ntrex"))
    parser.add_argument("--models", default="all", help="names with | between them")
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--epochs", type=float, default=EPOCHS)
    parser.add_argument("--rows", type=Path, default=Path("byte_models_rows.json"))
    parser.add_argument("--publish", type=Path, nargs="+", help="files of rows for one result file")
    parser.add_argument("--dry", action="store_true", help="two steps of tiny models on the CPU")
    options = parser.parse_args()
    if options.prepare:
        prepare(options.data, options.prepare)
    if options.learn:
        import torch

        if not options.dry and not torch.cuda.is_available():
            missing("a GPU")
        with np.load(options.learn) as file:
            stored = dict(file)
        shape = dict(width=WIDTH, layers=LAYERS, heads=HEADS, local=LOCAL)
        if options.dry:
            few(stored)
            shape = dict(width=64, layers=2, heads=2, local=32)
        names = MODELS if options.models == "all" else options.models.split("|")
        rows = []
        for seed in map(int, options.seeds.split(",")):
            for name in names:
                device = "cpu" if options.dry else "cuda"
                rows.append(learn(name, stored, options.corpus, seed, device, shape, options.epochs))
                print({key: value for key, value in rows[-1].items() if key != "languages"}, flush=True)
                options.rows.write_text(json.dumps(rows))
    if options.publish:
        rows = [row for file in options.publish for row in json.loads(file.read_text())]
        publish("byte_models", rows, "one GPU, on which several of these ran at a time")


def few(stored):
    """Two steps of text."""
    global STEP_BYTES, VOCABULARY
    STEP_BYTES, VOCABULARY = 1 << 12, 300
    for part in ("prose/train", "prose/test", "ntrex/train", "ntrex/test"):
        stored[f"{part}/lengths"] = stored[f"{part}/lengths"][:5]
        stored[f"{part}/bytes"] = stored[f"{part}/bytes"][: stored[f"{part}/lengths"].sum()]
        if f"{part}/language" in stored:
            stored[f"{part}/language"] = stored[f"{part}/language"][:5]


if __name__ == "__main__":
    main()
