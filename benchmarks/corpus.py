"""The whole job as a user runs it, each in processes of its own: JSON lines to tokens on disk.

    tersely        tersely prepare: packed rows, checksums, quarantine, manifest
    datasets       load_dataset("json") + map(batched, num_proc) + save_to_disk: not packed
    datatrove      JsonlReader + DocumentTokenizer, LocalPipelineExecutor: tokens in a row, not packed
    bare engine    tokenizers, encode_batch_fast on the texts in memory with all processors: nothing read, nothing written

All get the same plain files and the same tokenizer.json: GPT-2's vocabulary, and for bytes one of 256 ids without merges (tersely
has a tokenizer of its own for these). Also: one process against two, and peak memory for a corpus ten times as large.

python benchmarks/corpus.py [FILE ...] [--megabytes N] [--peers PYTHON] [--only-bytes]
    PYTHON is the interpreter of an environment with datasets and datatrove, by default this one.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import textwrap
import time
from pathlib import Path

from report import arguments, missing, publish

TERSELY = [sys.executable, "-c", "from tersely.cli.main import main; main()", "prepare"]

DATASETS = """
    import glob, sys
    from datasets import load_dataset, disable_progress_bars
    from tokenizers import Tokenizer
    disable_progress_bars()
    folder, spec, out, workers = sys.argv[1:]
    tok = Tokenizer.from_file(spec)
    def encode(batch):
        return {"input_ids": [e.ids for e in tok.encode_batch_fast(batch["text"])]}
    files = sorted(glob.glob(folder + "/*.jsonl"))
    data = load_dataset("json", data_files=files, cache_dir=out + "/cache", split="train")
    data = data.map(encode, batched=True, remove_columns=data.column_names, num_proc=int(workers))
    data.save_to_disk(out + "/saved")
"""

DATATROVE = """
    import sys
    from datatrove.executor import LocalPipelineExecutor
    from datatrove.pipeline.readers import JsonlReader
    from datatrove.pipeline.tokens import DocumentTokenizer
    if __name__ == "__main__":
        folder, spec, out, workers = sys.argv[1:]
        LocalPipelineExecutor(
            pipeline=[
                JsonlReader(folder, glob_pattern="*.jsonl"),
                DocumentTokenizer(out + "/tokens", tokenizer_name_or_path=spec, local_working_dir=out + "/work",
                                  shuffle_documents=False),
            ],
            tasks=int(workers), workers=int(workers), logging_dir=out + "/logs", skip_completed=False,
        ).run()
"""

ENGINE = """
    import glob, json, sys, time
    from tokenizers import Tokenizer
    folder, spec, out, workers = sys.argv[1:]
    tok = Tokenizer.from_file(spec)
    batches, batch, size = [], [], 0
    for file in sorted(glob.glob(folder + "/*.jsonl")):
        for line in open(file):
            batch.append(json.loads(line)["text"])
            size += len(batch[-1])
            if size > 4 << 20:
                batches.append(batch)
                batch, size = [], 0
    batches.append(batch)
    started = time.perf_counter()
    for batch in batches:
        tok.encode_batch_fast(batch, add_special_tokens=False)
    print(time.perf_counter() - started)
"""


RAYON = {"TOKENIZERS_PARALLELISM": "true"}
"""Peers get the threads of the library."""


def run(command, **environment):
    """Its seconds, None if it failed; and what it printed."""
    started = time.perf_counter()
    done = subprocess.run(
        [str(word) for word in command],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"HF_HUB_OFFLINE": "1"} | environment,
    )
    seconds = time.perf_counter() - started
    if done.returncode:
        print(done.stderr[-2000:], file=sys.stderr)
        return None, done
    return seconds, done


def script(python, code, *words):
    with tempfile.NamedTemporaryFile("w", suffix=".py", delete=False) as file:
        file.write(textwrap.dedent(code))
    return [python, file.name, *words]


def plain_files(files, folder, megabytes):
    """The documents of the files, over and over, as plain JSON lines in ``folder``: four files of equal size."""
    from tersely.corpus import find_sources

    texts = [
        text for source in find_sources(files)[0] for batch in source.batches() for text in batch.strings
    ]
    size = made = 0
    lines = [json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in texts]
    while made < megabytes * 1e6 / 4:
        made += len(lines[size % len(lines)].encode())
        size += 1
    folder.mkdir()
    for number in range(4):
        with (folder / f"{number}.jsonl").open("w") as out:
            out.writelines(lines[(number + i) % len(lines)] for i in range(size))
    return sum(len(texts[(number + i) % len(lines)].encode()) for number in range(4) for i in range(size))


def byte_vocabulary(path):
    """A tokenizer.json of the 256 bytes, for peers that know none."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tok = Tokenizer(models.BPE({letter: number for number, letter in enumerate(letters)}, []))
    tok.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tok.decoder = decoders.ByteLevel()
    tok.add_special_tokens(["<|endoftext|>"])
    tok.save(str(path))
    return path


def without_gigatoken(folder):
    """A PYTHONPATH on which gigatoken cannot be imported."""
    hidden = folder / "hidden"
    hidden.mkdir(exist_ok=True)
    (hidden / "gigatoken.py").write_text("raise ImportError('hidden by the benchmark')\n")
    return os.pathsep.join([str(hidden), *filter(None, [os.environ.get("PYTHONPATH")])])


def compare(engines, spec, peer_spec, corpus, folder, peers, size):
    """All jobs with one vocabulary, in turns: a row for each of tersely's ``engines``, a name and its environment."""
    seconds: dict[str, list[float]] = {}
    one = ["--workers", 1, "--threads", 1]
    for turn in range(2):
        out = folder / f"{Path(spec).parent.name or spec}-{turn}"
        jobs = {
            "datasets": (script(peers, DATASETS, corpus, peer_spec, out / "datasets", 2), RAYON),
            "datatrove": (script(peers, DATATROVE, corpus, peer_spec, out / "datatrove", 2), RAYON),
        }
        for number, (name, environment) in enumerate(engines.items()):
            command = [*TERSELY, corpus, "--tokenizer", spec, "--out"]
            jobs[name] = [*command, out / f"tersely{number}"], environment
            jobs[f"{name}, 1 process"] = [*command, out / f"one{number}", *one], environment
        out.mkdir()
        for job, (command, environment) in jobs.items():
            took, _ = run(command, **environment)
            print(f"{job}: {took} s", file=sys.stderr, flush=True)
            if took is not None:
                seconds.setdefault(job, []).append(took)
        shutil.rmtree(out)
    took, done = run(script(peers, ENGINE, corpus, peer_spec, folder, 2), **RAYON)
    if took is not None:
        seconds["bare engine"] = [float(done.stdout)]
    best = {job: min(times) for job, times in seconds.items()}
    return [_row(name, best, size) for name in engines]


def _row(name, best, size):
    speeds = {
        "tersely": best[name],
        "tersely, 1 process": best[f"{name}, 1 process"],
        **{job: best[job] for job in ("datasets", "datatrove", "bare engine") if job in best},
    }
    rivals = [best[job] for job in ("datasets", "datatrove") if job in best]
    return {
        "tokenizer": name,
        **{f"{job} MB/s": size / 1e6 / took for job, took in speeds.items()},
        "times the fastest peer": min(rivals) / best[name] if rivals else None,
        "of the bare engine's time": best[name] / best["bare engine"] if "bare engine" in best else None,
        "2 processes against 1": best[f"{name}, 1 process"] / best[name],
    }


MEMORY = """
    import resource, subprocess, sys
    subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)
    print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024)
"""


def peak(corpus, out, spec):
    """Megabytes of the largest process of a job."""
    return float(
        run(script(sys.executable, MEMORY, *TERSELY, corpus, "--tokenizer", spec, "--out", out))[1].stdout
    )


def main():
    parser = arguments(__doc__)
    parser.add_argument("files", type=Path, nargs="*")
    parser.add_argument("--megabytes", type=int, default=100)
    parser.add_argument("--peers", default=sys.executable)
    parser.add_argument(
        "--only-bytes", action="store_true", help="leave GPT-2 out: a larger corpus in the same time"
    )
    chosen = parser.parse_args()
    gpt2 = (chosen.data / "tokenizers/gpt2/tokenizer.json").resolve()
    files = chosen.files or [chosen.data / "prose", chosen.data / "code"]
    if not gpt2.exists():
        missing(f"GPT-2's vocabulary at {gpt2}")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        corpus, small = folder / "corpus", folder / "small"
        size = plain_files(files, corpus, chosen.megabytes)
        plain_files(files, small, chosen.megabytes / 10)
        flat = byte_vocabulary(folder / "bytes.json")
        hidden = {"PYTHONPATH": without_gigatoken(folder)}
        rows = compare({"bytes": {}}, "bytes", flat, corpus, folder, chosen.peers, size)
        if not chosen.only_bytes:
            engines = {"gpt2, no gigatoken": hidden, "gpt2, gigatoken": {}}
            rows += compare(engines, gpt2, gpt2, corpus, folder, chosen.peers, size)
        for row in rows:
            spec = row["tokenizer"] if row["tokenizer"] == "bytes" else gpt2
            name = row["tokenizer"].replace(" ", "")
            row["peak MB, a tenth of the corpus"] = peak(small, folder / f"{name}-small", spec)
            row["peak MB"] = peak(corpus, folder / f"{name}-large", spec)
    note = f"{chosen.megabytes} MB of JSON lines in four files; {os.cpu_count()} processors; whole commands, start included"
    publish("corpus_bytes" if chosen.only_bytes else "corpus", rows, note)


if __name__ == "__main__":
    main()
