"""The whole job, files to packed shards, against `datasets`: load, map the tokenizer, save (which packs nothing).

python benchmarks/prepare.py [FILE.jsonl.zst] [--copies N]
"""

import shutil
import tempfile
import time
from pathlib import Path

from report import arguments, missing, publish

from tersely import load_tokenizer
from tersely.corpus import find_sources, prepare


def mine(file, spec, out):
    started = time.perf_counter()
    manifest = prepare(find_sources([file])[0], out, spec, capacity=8192)
    return time.perf_counter() - started, manifest


def theirs(file, spec, out):
    from datasets import Dataset, disable_progress_bars
    from tokenizers import Tokenizer
    from transformers import ByT5Tokenizer

    disable_progress_bars()
    if spec == "bytes":
        peer = ByT5Tokenizer()
        encode = lambda batch: {"input_ids": peer(batch["text"]).input_ids}  # noqa: E731
    else:
        peer = Tokenizer.from_file(str(spec))
        encode = lambda batch: {"input_ids": [e.ids for e in peer.encode_batch(batch["text"])]}  # noqa: E731
    started = time.perf_counter()
    loaded = Dataset.from_json(str(file), cache_dir=str(out / "cache"))
    loaded.map(encode, batched=True, remove_columns=loaded.column_names).save_to_disk(str(out / "saved"))
    return time.perf_counter() - started


def main():
    parser = arguments(__doc__)
    parser.add_argument("file", type=Path, nargs="?")
    chosen = parser.parse_args()
    file = chosen.file or chosen.data / "prose/peps.jsonl.zst"
    gpt2 = chosen.data / "tokenizers/gpt2/tokenizer.json"
    if not file.exists():
        missing(f"a corpus at {file}")
    rows = []
    for spec in ["bytes", *([str(gpt2)] if gpt2.exists() else [])]:
        load_tokenizer(spec)
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            mine(file, spec, folder / "warm")
            seconds, manifest = min(
                (mine(file, spec, folder / f"out{i}") for i in range(3)), key=lambda result: result[0]
            )
            plain = folder / "plain.jsonl"  # datasets' JSON reader is given what it likes best
            _decompress(file, plain)
            peer = theirs(plain, spec, folder)
            shutil.rmtree(folder / "cache", ignore_errors=True)
        megabytes = manifest.bytes / 1e6
        rows.append(
            {
                "tokenizer": "bytes" if spec == "bytes" else Path(spec).parent.name,
                "megabytes": megabytes,
                "tersely MB/s": megabytes / seconds,
                "datasets MB/s": megabytes / peer,
                "ratio": peer / seconds,
            }
        )
    publish("prepare", rows, f"{file.name}, one process, packed to 8192 by tersely, not packed by datasets")


def _decompress(file, plain):
    from tersely.corpus.files import ByteStream

    with plain.open("wb") as out:
        for block in ByteStream(file).blocks():
            out.write(block)


if __name__ == "__main__":
    main()
