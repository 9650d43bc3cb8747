"""What does deletion in an encoder cost in bits? Small T5s over bytes, with gates, and with random and fixed deletion beside them.

python benchmarks/merging_t5.py --prepare FILE.xz                                  the texts (no GPU needed)
python benchmarks/merging_t5.py --learn FILE.xz --policy none --steps 4000 --save BASE             what all others go on from
python benchmarks/merging_t5.py --learn FILE.xz --start BASE --policy gate --deleted 0.5 --seeds 0,1,2 --rows ROW.json
python benchmarks/merging_t5.py --learn FILE.xz --mixed ...                                      prose and many languages
python benchmarks/merging_t5.py --languages FILE.xz --models FOLDER ... --rows ROWS.json
python benchmarks/merging_t5.py --publish merging_t5 ROW.json ...                 one result file of many rows
python benchmarks/merging_t5.py --learn FILE.xz --dry

A ``--learn`` trains a model for each seed on one GPU, for span corruption (15 %, spans of 4 bytes) of documents of 96 bytes, in
bf16 autocast, and writes a row. As the paper begins with a ByT5, so all policies begin with one model that deletes nothing, and go
on for as many steps, reading the same documents in the same order for a seed. Policies: ``none``, ``gate``, ``random``, ``fixed``
(the beginning of each word, so much that the rate is met). A gate begins by keeping (``G`` near -0.5), is driven to its rate by the
paper's controller, is trained softly for a quarter of the steps, and then deletes in training as it will in use: with ``--soft 1``, as
in the paper, it was worse than random deletion. Models and documents are small because a decoder must first find out which sentinel
stands where: with 38 spans in 1,024 bytes, or 5 in 128 bytes but 8 layers of width 256, none had after 1,500 to 5,000 steps, and
then there is nothing that deletion could hurt. Bits per byte are those of the whole target, over the hidden bytes, of documents
that were never trained on, with deletion hard: at the gate's threshold, with the share that it deleted, and at exactly the rate,
by its scores. Those with the source of another document say how much there is to lose by deletion at all.

Texts are cut into documents within files; every twentieth file is held out by a hash. With ``--mixed`` they are prose and many
languages; NTREX is held out by its news items, which are the same in all languages.
"""

import json
import lzma
import math
import subprocess
import time
import zlib
from pathlib import Path

import numpy as np
import torch
from report import arguments, missing, publish

from tersely import Ragged
from tersely.compress import MergingByT5, MergingByT5Config
from tersely.compress.merge.policies import FixedPolicy
from tersely.compress.merge.rate import PIController
from tersely.compress.merge.t5 import corrupt

LENGTH, SPAN, BATCH, WARMUP, PEAK, TESTED = 96, 4.0, 256, 100, 1e-3, 2048
EMBEDDINGS = 20
"""How much faster these learn: T5 draws them twenty times and more as large as its matrices."""
PULL = dict(proportional=0.03, integral=2e-4)
"""The paper's are 0.5 and 1e-5: with these, gates close for good in the first steps of a run of some hundred."""
KEEPING = 4.0
"""The bias that gates begin with."""
SHAPE = dict(d_model=128, d_ff=256, num_layers=4, num_decoder_layers=2, num_heads=4, d_kv=32)
PROSE = ("peps", "wikitext2_valid", "wikipedia_en", "state_union", "movie_reviews", "repo_docs")
MANY = ("udhr", "bible_nt", "ntrex")


def prepare(data, file):
    """Texts for training and testing, and the held-out items of NTREX by language."""
    found = {part: {"train": [], "test": []} for part in ("prose", "many")}
    languages = {}
    for part, names in (("prose", PROSE), ("many", MANY)):
        for name in names:
            folder = "multilingual" if part == "many" else "prose"
            raw = subprocess.run(
                ["zstd", "-dc", data / folder / f"{name}.jsonl.zst"], capture_output=True, check=True
            ).stdout
            for record in map(json.loads, raw.splitlines()):
                item = record["doc"] if name == "ntrex" else record["text"]
                held_out = zlib.crc32(item.encode()) % 20 == 0
                found[part]["test" if held_out else "train"].append(record["text"])
                if held_out and name == "ntrex":
                    languages.setdefault(record["lang"], []).append(record["text"])
    file.write_bytes(lzma.compress(json.dumps(found | {"ntrex": languages}).encode()))
    sizes = {part: {name: len(texts) for name, texts in found[part].items()} for part in found}
    print(f"{file.stat().st_size:,} bytes: documents {sizes}, {len(languages)} languages")


def documents(texts):
    """Pieces of texts, of 96 bytes; rests of less than a quarter are left out."""
    raw = [text.encode() for text in texts]
    pieces = (text[start : start + LENGTH] for text in raw for start in range(0, len(text), LENGTH))
    return [np.frombuffer(piece, np.uint8) for piece in pieces if len(piece) >= LENGTH // 4]


def batch_of(pieces, seed, device, astray=False):
    """What a forward takes, and the number of hidden bytes; ``astray``: each with the source of the document before it."""
    sources, targets = corrupt(Ragged.from_rows(pieces, dtype=np.uint8), seed, mean_length=SPAN)
    if astray:
        sources = sources.take(np.roll(np.arange(len(sources)), 1))
    # Both close each document, and name each span once; sentinels are ids of bytes too, so they are not counted by value.
    spans = (len(sources.values) + len(targets.values) - sum(map(len, pieces))) // 2 - len(pieces)
    hidden = len(targets.values) - len(pieces) - spans
    packed = dict(
        input_ids=sources.values, cu_seqlens=sources.cu_seqlens, labels=targets.values, decoder_cu_seqlens=targets.cu_seqlens
    )  # fmt: skip
    return {name: torch.as_tensor(np.array(value)).to(device) for name, value in packed.items()}, hidden


def fixed_share(options, pieces):
    """The part of each word that stays so that the wanted share of all goes: less, as a word keeps whole bytes."""
    some = Ragged.from_rows(pieces[:TESTED])
    ids, cu_seqlens = torch.tensor(some.values).long() + 3, torch.tensor(some.cu_seqlens)
    low, high = 0.0, 1.0
    for _ in range(12):
        share = (low + high) / 2
        kept = FixedPolicy(share, first_byte=3)(ids, cu_seqlens, ids).keep.float().mean().item()
        low, high = (low, share) if kept > 1 - options.deleted else (share, high)
    return high


def model_of(options, seed, pieces, device):
    """New, or as ``--start`` was, with the policy."""
    policy = {"policy": options.policy}
    if options.policy in ("random", "fixed"):
        policy["share"] = 1 - options.deleted if options.policy == "random" else fixed_share(options, pieces)
    torch.manual_seed(seed)
    if options.start:
        config = MergingByT5Config.from_pretrained(options.start)
        config.update(policy)
        model = MergingByT5.from_pretrained(options.start, config=config)
    else:
        model = MergingByT5(
            MergingByT5Config(
                vocab_size=384,
                feed_forward_proj="gated-gelu",
                dropout_rate=0.0,
                decoder_start_token_id=0,
                gate_layer=2,
                softmax_plus_one=True,
                **SHAPE,
                **policy,
            )
        )
    if options.policy == "gate":
        torch.nn.init.constant_(model.encoder.policy.bias, KEEPING)
    return model.to(device)


def bits_of(model, pieces, device, astray=False):
    """Bits for each hidden byte, and the share deleted, of documents in a fixed corruption."""
    model.eval()
    nats = hidden = deleted = 0.0
    with torch.no_grad(), torch.autocast(device, torch.bfloat16):
        for start in range(0, len(pieces), BATCH):
            packed, count = batch_of(pieces[start : start + BATCH], start, device, astray)
            out = model(**packed)
            nats += out.loss.item() * len(packed["labels"])
            hidden += count
            if out.deleted is not None:
                deleted += out.deleted.item() * len(pieces[start : start + BATCH])
    return nats / hidden / math.log(2), deleted / len(pieces)


def at_exactly(model, deleted, pieces, device):
    """The same with the best positions of each document kept, so many that the rate is exact."""
    model.encoder.config.share = 1 - deleted
    bits, _ = bits_of(model, pieces, device)
    model.encoder.config.share = None
    return bits


def learn(options, seed, texts, device):
    """One row of the table; the model is saved if asked."""
    parts = ["prose", "many"] if options.mixed else ["prose"]
    train, held_out = (
        documents([text for part in parts for text in texts[part][which]]) for which in ("train", "test")
    )
    draw = np.random.default_rng(0)
    held_out = [held_out[i] for i in draw.permutation(len(held_out))[:TESTED]]
    model, rate = (
        model_of(options, seed, train, device),
        PIController(options.deleted, **PULL).to(device),
    )
    vectors = model.shared.weight
    others = [part for part in model.parameters() if part is not vectors]
    groups = [{"params": [vectors], "peak": EMBEDDINGS * PEAK}, {"params": others, "peak": PEAK}]
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.98), weight_decay=0.01, fused=device == "cuda")
    order, draw, started = [], np.random.default_rng(seed), time.perf_counter()
    for step in range(options.steps):
        if len(order) < BATCH:
            order = [*order, *draw.permutation(len(train))]
        chosen, order = order[:BATCH], order[BATCH:]
        packed, _ = batch_of([train[i] for i in chosen], (seed << 32) + step, device)
        for group in optimizer.param_groups:
            group["lr"] = group["peak"] * min((step + 1) / WARMUP, 1.02 - step / options.steps)
        model.train()
        with torch.autocast(device, torch.bfloat16):
            out = model(**packed, hard=step >= options.soft * options.steps)
        loss = out.loss
        if options.policy == "gate":
            loss = loss + rate.step(out.deleted) * out.gate_mean
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if (step + 1) % 100 == 0:
            now = "-" if out.deleted is None else f"{out.deleted.item():.3f}"
            print(f"{step + 1}: loss {out.loss.item():.4f}, deleted {now}", flush=True)
    bits, deleted = bits_of(model, held_out, device)
    exact = at_exactly(model, options.deleted, held_out, device) if options.policy == "gate" else bits
    if options.save:
        model.save_pretrained(options.save)
    return {
        "policy": options.policy,
        "deleted, wanted": options.deleted,
        "start": bool(options.start),
        "text": "mixed" if options.mixed else "prose",
        "seed": seed,
        "deleted": deleted,
        "bits per byte": bits,
        "bits per byte, exact rate": exact,
        "bits per byte, another's source": bits_of(model, held_out, device, astray=True)[0],
        "parameters": sum(part.numel() for part in model.parameters()),
        "steps": options.steps,
        "soft": options.soft,
        "seconds": time.perf_counter() - started,
    }


def by_language(folders, texts, device):
    """A row for each model and language of NTREX's held-out items."""
    for folder in folders:
        model = MergingByT5.from_pretrained(folder).to(device)
        for language, items in sorted(texts["ntrex"].items()):
            pieces = documents(items)
            if not pieces:
                continue
            bits, deleted = bits_of(model, pieces, device)
            yield {
                "model": folder.name,
                "language": language,
                "bytes": sum(map(len, pieces)),
                "bytes of a character": sum(len(x.encode()) for x in items) / sum(map(len, items)),
                "deleted": deleted,
                "bits per byte": bits,
            }


def main():
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--prepare", type=Path)
    parser.add_argument("--learn", type=Path)
    parser.add_argument("--languages", type=Path)
    parser.add_argument("--models", type=Path, nargs="+", default=[])
    parser.add_argument("--policy", default="gate")
    parser.add_argument("--deleted", type=float, default=0.5)
    parser.add_argument("--seeds", default="0", help="one row for each; the last one is saved")
    parser.add_argument("--steps", type=int, default=900)
    parser.add_argument(
        "--soft", type=float, default=0.25, help="the share of steps before a gate deletes in training too"
    )
    parser.add_argument("--mixed", action="store_true")
    parser.add_argument("--rows", type=Path, default=Path("merging_t5_rows.json"))
    parser.add_argument("--start", type=Path, help="a saved model that deletes nothing, to go on from")
    parser.add_argument("--save", type=Path)
    parser.add_argument("--publish", nargs="+", metavar=("NAME", "ROWS"))
    parser.add_argument("--dry", action="store_true", help="a few steps of a tiny model on the CPU")
    options = parser.parse_args()
    if options.prepare:
        prepare(options.data, options.prepare)
    if options.publish:
        name, *files = options.publish
        publish(name, [row for file in files for row in json.loads(Path(file).read_text())])
    file = options.learn or options.languages
    if file is None:
        return
    if not options.dry and not torch.cuda.is_available():
        missing("a GPU")
    if options.dry:
        global LENGTH, BATCH, TESTED, SHAPE
        LENGTH, BATCH, TESTED, options.steps = 64, 4, 8, 6
        SHAPE = dict(d_model=32, d_ff=48, num_layers=3, num_decoder_layers=1, num_heads=2, d_kv=16)
    device = "cpu" if options.dry else "cuda"
    texts = json.loads(lzma.decompress(file.read_bytes()))
    if options.learn:
        made = (learn(options, int(seed), texts, device) for seed in options.seeds.split(","))
    else:
        made = by_language(options.models, texts, device)
    rows = []
    for row in made:
        rows.append(row)
        print(row, flush=True)
        options.rows.write_text(json.dumps(rows))


if __name__ == "__main__":
    main()
