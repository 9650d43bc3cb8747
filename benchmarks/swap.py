"""How good swapped models are: every method, unseen tokenizers, held-out text. ``swap_data.py`` makes FOLDER.

python benchmarks/swap.py FOLDER decoder --seed 0 --out llama-0          train a small Llama (a GPU: three at once in five minutes)
python benchmarks/swap.py FOLDER hypernet minilm --minutes 9 --out net   train a hypernetwork (a GPU)
python benchmarks/swap.py FOLDER decoder --tokenizer bpe-8k --epochs 2 --out donors/bpe-8k    one with another tokenizer, for omp
python benchmarks/swap.py FOLDER measure minilm --methods mean,fit --rows some.json
python benchmarks/swap.py FOLDER measure minilm --methods hypernet,hypernet+distill --hypernet net --rows others.json
python benchmarks/swap.py FOLDER measure llama-0 --methods focus,omp --donors donors --rows more.json
python benchmarks/swap.py FOLDER publish some.json others.json --name swap_encoder

Encoders: cosine of the mean states of 500 held-out sentences to the original's, the share whose nearest neighbour is the same,
Spearman correlation of all similarities. Decoders: bits per byte of 400 held-out passages, each from its first token on.
The hypernetwork never sees the target tokenizers. ``fit+bound`` trains the rows on the very texts that are measured: what rows alone
can do, since a body that is frozen bounds it. ``naive`` is the mean of the pieces of a token's text, as text of its own.
"""

import json
import math
import time
from pathlib import Path

from report import arguments, publish
from swap_data import TARGETS, read

LLAMA = dict(hidden_size=512, intermediate_size=1376, num_hidden_layers=8, num_attention_heads=8)
ROW, ROWS, EPOCHS, RATE = 512, 32, 8, 1e-3
DISTILLED, SLICE = 3000, 64


def device():
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def load(folder):
    """A model in float32 and its tokenizer."""
    import torch
    from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoTokenizer

    kind = AutoModelForCausalLM if AutoConfig.from_pretrained(folder).model_type == "llama" else AutoModel
    model = kind.from_pretrained(folder, dtype=torch.float32).eval()
    return model.to(device()), AutoTokenizer.from_pretrained(folder)


def target(folder, name):
    """A tokenizer that no model here was trained with; ``bytes`` is ours."""
    from tokenizers import Tokenizer

    from tersely.tokenize import ByteTokenizer

    if name == "bytes":
        return ByteTokenizer()
    return Tokenizer.from_file(str(folder / f"{name}.json"))


def learned_from(folder):
    """Whole documents, and the sentences of the natural ones once more, each by itself."""
    return read(folder / "train.xz") + read(folder / "sentences.xz")


def train_decoder(folder, name, out, seed, epochs):
    """A Llama with a tokenizer of the folder on rows of 512 tokens of the training text; bf16 autocast."""
    import numpy as np
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=str(folder / f"{name}.json"), bos_token="<|endoftext|>", eos_token="<|endoftext|>"
    )
    end = tokenizer.eos_token_id
    texts = tokenizer.backend_tokenizer.encode_batch_fast(read(folder / "train.xz"), add_special_tokens=False)
    ids = torch.from_numpy(np.array([number for one in texts for number in [end, *one.ids]])).to(device())
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer), bos_token_id=end, eos_token_id=end, tie_word_embeddings=True,
        max_position_embeddings=2048, **LLAMA,
    )  # fmt: skip
    model = LlamaForCausalLM(config).to(device())
    if device() == "cuda":
        for layer in model.model.layers:
            layer.compile()
    steps = max(1, int(epochs * len(ids) / (ROW * ROWS)))
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, betas=(0.9, 0.95), weight_decay=0.1)
    draw = torch.Generator(ids.device).manual_seed(seed)
    started = time.perf_counter()
    for step in range(steps):
        share = step / steps
        optimizer.param_groups[0]["lr"] = RATE * min(
            (step + 1) / 100, 0.05 + 0.95 * math.cos(share * math.pi / 2)
        )
        starts = torch.randint(len(ids) - ROW, (ROWS, 1), generator=draw, device=ids.device)
        rows = ids[starts + torch.arange(ROW, device=ids.device)]
        with torch.autocast(ids.device.type, torch.bfloat16):
            loss = model(input_ids=rows, labels=rows, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if step % 200 == 0 or step + 1 == steps:
            print(
                f"step {step} of {steps}: {loss.item():.3f}, {time.perf_counter() - started:.0f} s",
                flush=True,
            )
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)


def train_net(folder, model, out, minutes, steps, batch, width, workers, seed):
    from tersely.embeddings import train_hypernet

    loaded, tokenizer = load(folder / model)

    def progress(now):
        if now.step % 200 == 0 or now.share >= 1:
            print(
                f"step {now.step}, {now.share:.0%}: {now.loss:.4f}, held out {now.held_out:.4f}", flush=True
            )

    train_hypernet(
        loaded, tokenizer, learned_from(folder), out, minutes=minutes,
        steps=steps, batch=batch, width=width, workers=workers, seed=seed, on_progress=progress,
    )  # fmt: skip


class Naive:
    """The mean of the rows of what the old tokenizer makes of each token's text."""

    def __init__(self, source, tokenizer, match):
        self.origins, self._match = match.origins, match
        texts = [tokenizer.decode([number]) for number in range(len(match.origins))]
        self._pieces = source(texts, add_special_tokens=False)["input_ids"]

    def rows(self, old, table=None):
        """As the methods of the library make them."""
        import numpy as np

        from tersely.embeddings.transfer.match import Origin

        average = old[self._match.ordinary].mean(0)
        made = np.stack([old[ids].mean(0) if ids else average for ids in self._pieces]).astype(np.float32)
        special = self._match.where(Origin.SPECIAL)
        made[special] = old[self._match.pieces.values[self._match.pieces.offsets[:-1][special]]]
        return made


def naive_swap(model, source, wanted):
    """``swap_tokenizer`` with rows that know nothing of where a token stands."""
    from tersely.embeddings.transfer import swap
    from tersely.embeddings.transfer.byte_target import fast_bytes
    from tersely.tokenize import ByteTokenizer

    if isinstance(wanted, ByteTokenizer):
        wanted = fast_bytes(wanted)
    kept, swap.Mean = swap.Mean, lambda match: Naive(source, wanted, match)
    try:
        return swap.swap_tokenizer(model, source, wanted, "mean")
    finally:
        swap.Mean = kept


def figures(model, tokenizer, texts, before):
    """What is told of a swapped model; ``before`` are the original's states, or bits."""
    import torch
    from scipy.stats import spearmanr

    from tersely.embeddings.transfer.quality import bits, compare_states, generates, rows_of, states

    if generates(model):
        size = sum(len(text.encode()) for text in texts)
        return {"bits per byte": bits(model, rows_of(tokenizer, texts, True)) / size, "before": before / size}
    now = states(model, rows_of(tokenizer, texts, False))
    found = compare_states(before, now)
    above = torch.triu_indices(len(texts), len(texts), 1)
    pairs = [(part @ part.T).cpu()[above[0], above[1]].numpy() for part in (before, now)]
    return {
        "cosine": found.cosine,
        "same neighbour": found.neighbours,
        "Spearman": float(spearmanr(*pairs)[0]),
    }


def donor_of(donors, wanted):
    """The model that was trained with this tokenizer."""
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(donors / wanted).to(device())


def measure(folder, name, targets, methods, net, donors, file, distilled):
    from tersely.embeddings.transfer.distill import distill_rows
    from tersely.embeddings.transfer.quality import bits, generates, rows_of, states
    from tersely.embeddings.transfer.swap import swap_tokenizer
    from tersely.embeddings.transfer.tables import Tables

    train, rows = read(folder / "train.xz"), []
    for wanted in targets:
        for method in methods:
            model, source = load(folder / name)
            decoder = generates(model)
            texts = read(folder / f"held_out_{'passages' if decoder else 'sentences'}.xz")
            own = rows_of(source, texts, decoder)
            before = bits(model, own) if decoder else states(model, own)
            started = time.perf_counter()
            if method == "naive":
                model, report = naive_swap(model, source, target(folder, wanted))
            else:
                rows_by, _, more = method.partition("+")
                old, learns = Tables.of(model).kept(), more == "distill"
                model, report = swap_tokenizer(
                    model, source, target(folder, wanted), rows_by, learned_from(folder) if learns else train,
                    **({"hypernet": net} if rows_by == "hypernet" else {}),
                    **({"donor": donor_of(donors, wanted)} if rows_by == "omp" else {}),
                    **({"distill": distilled} if learns else {}),
                )  # fmt: skip
                if more == "bound":
                    distill_rows(model, old, source, report.tokenizer, texts, distilled)
            seconds = time.perf_counter() - started
            rows.append(
                {"model": Path(name).name, "target": wanted, "method": method}
                | figures(model, report.tokenizer, texts, before)
                | {"seconds": seconds, "device": device()}
            )
            print(rows[-1], flush=True)
            file.write_text(json.dumps(rows))


def main():
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parts = parser.add_subparsers(dest="part", required=True)
    part = parts.add_parser("decoder")
    part.add_argument("--out", type=Path, required=True)
    part.add_argument("--tokenizer", default="gpt2")
    part.add_argument("--seed", type=int, default=0)
    part.add_argument("--epochs", type=float, default=EPOCHS)
    part = parts.add_parser("hypernet")
    part.add_argument("model")
    part.add_argument("--out", type=Path, required=True)
    part.add_argument("--minutes", type=float)
    part.add_argument("--steps", type=int)
    part.add_argument("--batch", type=int, default=128)
    part.add_argument("--width", type=int, help="of the network; by default twice the dimension of a row")
    part.add_argument("--workers", type=int, default=8)
    part.add_argument("--seed", type=int, default=0)
    part = parts.add_parser("measure")
    part.add_argument("model")
    part.add_argument("--targets", default=",".join(TARGETS))
    part.add_argument("--methods", default="naive,mean,fit")
    part.add_argument("--hypernet", type=Path)
    part.add_argument("--donors", type=Path, help="a folder with a decoder of each target, by its name")
    part.add_argument("--distilled", type=int, default=DISTILLED, help="steps of distillation")
    part.add_argument("--rows", type=Path, required=True)
    part = parts.add_parser("publish")
    part.add_argument("rows", type=Path, nargs="+")
    part.add_argument("--name", required=True)
    given = parser.parse_args()
    if given.part == "decoder":
        train_decoder(given.folder, given.tokenizer, given.out, given.seed, given.epochs)
    elif given.part == "hypernet":
        train_net(
            given.folder,
            given.model,
            given.out,
            given.minutes,
            given.steps,
            given.batch,
            given.width,
            given.workers,
            given.seed,
        )
    elif given.part == "measure":
        measure(
            given.folder, given.model, given.targets.split(","), given.methods.split(","), given.hypernet, given.donors,
            given.rows, given.distilled,
        )  # fmt: skip
    else:
        import torch  # noqa: F401, which tells of the GPU

        publish(given.name, [row for file in given.rows for row in json.loads(file.read_text())])


if __name__ == "__main__":
    main()
