"""Archives against xz, brotli, zstd, bzip2 and PPMd: sizes, and CPU time in one thread, both ways.

python benchmarks/archive.py --data SHARED_DATA

Each text is all documents of a category, one after another, as one file; "by file" are the same bytes in one archive for each
shared file. Every way back is checked. The peak is what the process has at most, both ways, less what it had before.
"""

import bz2
import io
import json
import lzma
import multiprocessing
import resource
import sys
import time

from report import arguments, missing, publish

BY_FILE, SMALL = "prose", "tersely, 64 MiB"
"""The text that is also compressed file by file, and on which less memory is tried."""
TEXTS = {"prose": "prose/*.zst", "code": "code/*.zst", "33 to 200 languages": "multilingual/*.zst"}


def texts(data):
    """The bytes of each category, by file."""
    import pyarrow

    for name, pattern in TEXTS.items():
        files = []
        for path in sorted(data.glob(pattern)):
            with pyarrow.input_stream(str(path), compression="zstd") as file:
                raw = file.read()
            if ".jsonl" in path.name:
                raw = b"\n".join(json.loads(line)["text"].encode() for line in raw.splitlines() if line)
            files.append(raw)
        yield name, files


def tersely_with(memory):
    def compress(raw):
        from tersely.compress.archive import compress_stream

        out = io.BytesIO()
        compress_stream(io.BytesIO(raw), out, memory=memory)
        return out.getvalue()

    def decompress(archive):
        from tersely.compress.archive import decompress_stream

        out = io.BytesIO()
        decompress_stream(io.BytesIO(archive), out)
        return out.getvalue()

    compress(b"a")
    decompress(compress(b"a"))  # compiled now, not while the clock runs
    return compress, decompress


def ppmd_of(encoder, raw):
    return encoder.encode(raw) + encoder.flush()


def ways():
    """What is compared: a function that gives two functions, to be called in a process of its own."""
    try:
        import brotli
        import pyppmd
        import zstandard
    except ImportError as error:
        missing(f"{error.name}: python -m pip install brotli zstandard pyppmd")
    window = zstandard.ZstdCompressionParameters.from_level(22, window_log=27, enable_ldm=True)
    return {
        "tersely, 256 MiB": lambda: tersely_with(1 << 28),
        SMALL: lambda: tersely_with(1 << 26),
        "PPMd var. H, order 6, 64 MiB": lambda: (
            lambda raw: len(raw).to_bytes(8) + ppmd_of(pyppmd.Ppmd7Encoder(6, 1 << 26), raw),
            lambda packed: pyppmd.Ppmd7Decoder(6, 1 << 26).decode(packed[8:], int.from_bytes(packed[:8])),
        ),
        "xz -9e": lambda: (lambda raw: lzma.compress(raw, preset=9 | lzma.PRESET_EXTREME), lzma.decompress),
        "brotli -q 11, window 24": lambda: (
            lambda raw: brotli.compress(raw, quality=11, lgwin=24),
            brotli.decompress,
        ),
        "zstd -22 --ultra --long=27": lambda: (
            zstandard.ZstdCompressor(compression_params=window).compress,
            zstandard.ZstdDecompressor(max_window_size=1 << 27).decompress,
        ),
        "bzip2 -9": lambda: (lambda raw: bz2.compress(raw, 9), bz2.decompress),
    }


def measured(way, files, by_file, answer):
    """Sizes and times of one way, in this process."""
    compress, decompress = ways()[way]()
    raw = b"".join(files)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.process_time()
    packed = compress(raw)
    there = time.process_time() - started
    started = time.process_time()
    same = came_back(decompress, packed, raw)
    back = time.process_time() - started if same else None
    assert same or "tersely" not in way
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    apart = sum(len(compress(file)) for file in files) if by_file else ""
    answer.send((len(packed), apart, there, back, peak))


def came_back(decompress, packed, raw):
    """Whether the bytes are the same; pyppmd's are not always."""
    try:
        return decompress(packed) == raw
    except ValueError:
        return False


def rows(data):
    for name, files in texts(data):
        size, own = sum(map(len, files)), None
        for way in (way for way in ways() if way != SMALL or name == BY_FILE):
            answer, sender = multiprocessing.Pipe()
            process = multiprocessing.get_context("fork").Process(
                target=measured, args=(way, files, name == BY_FILE and way != SMALL, sender)
            )
            process.start()
            sender.close()  # so that what was not sent is not waited for
            packed, apart, there, back, peak = answer.recv()
            process.join()
            own = own or packed
            print(f"{name}, {way}: {packed:,} of {size:,} bytes", file=sys.stderr)
            yield {
                "text": name,
                "way": way,
                "bytes": size,
                "archive": packed,
                "by file": apart,
                "bits a byte": 8 * packed / size,
                "archive / tersely's": packed / own,
                "MB/s in": size / 1e6 / there,
                "MB/s out": size / 1e6 / back if back else "wrong bytes",
                "peak MB": peak / 1e3,
            }


if __name__ == "__main__":
    options = arguments(__doc__).parse_args()
    publish("archive", list(rows(options.data)), "one thread, CPU time of one run")
