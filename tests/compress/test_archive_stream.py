"""Archives as streams: what goes in comes out, and whatever was done to one in between is noticed."""

import gzip
import io
import random
import struct
import tracemalloc
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tersely.compress.archive import compress_stream, decompress_stream
from tersely.errors import ArchiveError, UsageError

MEMORY = 1 << 20
WORDS = b"to be or not to be, that is the question: whether it is nobler in the mind to suffer "
HEADER, HEAD = 32, 20


def pack(raw, **options):
    out = io.BytesIO()
    report = compress_stream(io.BytesIO(raw), out, **({"memory": MEMORY, "block": 1024} | options))
    assert (report.size, report.archived) == (len(raw), len(out.getvalue()))
    return out.getvalue()


def unpack(archive, **options):
    out = io.BytesIO()
    report = decompress_stream(io.BytesIO(archive), out, **options)
    assert (report.size, report.archived) == (len(out.getvalue()), len(archive))
    return out.getvalue()


def noise(size):
    return random.Random(size).randbytes(size)


@pytest.mark.parametrize("size", [0, 1, 1023, 1024, 1025, 3000])
@pytest.mark.parametrize("make", [noise, bytes, lambda n: (WORDS * 40)[:n]], ids=["noise", "zeros", "text"])
def test_every_size_around_the_edges_of_blocks_comes_back(size, make):
    assert unpack(pack(make(size))) == make(size)


@given(st.binary(max_size=5000))
@settings(max_examples=25)
def test_any_bytes_come_back(raw):
    assert unpack(pack(raw)) == raw


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("size", [100, 16 * 1024, 50_000])
def test_segments_come_back_on_any_number_of_threads(size, threads):
    raw = (WORDS * 600)[:size]
    archive = pack(raw, threads=2)
    assert pack(raw, threads=5) == archive, "the bytes do not depend on how many threads there are"
    assert unpack(archive, threads=threads) == raw


def test_noise_is_stored_and_grows_by_little():
    archive = pack(noise(100_000), block=1 << 16)
    assert len(archive) == 100_000 + HEADER + 3 * HEAD
    assert unpack(archive) == noise(100_000)


def test_an_input_that_comes_in_drops_is_the_same_archive():
    class Drops(io.BytesIO):
        def read(self, size=-1):
            return super().read(min(size, 100))

    raw, out = WORDS * 30, io.BytesIO()
    compress_stream(Drops(raw), out, memory=MEMORY, block=1024)
    assert out.getvalue() == pack(raw)
    back = io.BytesIO()
    decompress_stream(Drops(out.getvalue()), back)
    assert back.getvalue() == raw


def test_an_archive_cut_off_anywhere_is_refused():
    archive = pack(WORDS * 14)
    for size in range(len(archive)):
        out = io.BytesIO()
        with pytest.raises(ArchiveError, match=r"no archive|ends at byte|cut off at byte"):
            decompress_stream(io.BytesIO(archive[:size]), out)
        assert (WORDS * 14).startswith(out.getvalue()), "never wrong bytes"


def test_a_flipped_bit_anywhere_is_refused():
    archive = pack(WORDS * 14)
    for at in range(len(archive)):
        broken = bytearray(archive)
        broken[at] ^= 1 << at % 8
        out = io.BytesIO()
        with pytest.raises(ArchiveError):
            decompress_stream(io.BytesIO(broken), out)
        assert (WORDS * 14).startswith(out.getvalue()), at


def test_the_block_and_the_byte_are_named():
    archive = bytearray(pack(WORDS * 100))
    second = HEADER + HEAD + struct.unpack_from("<I", archive, HEADER + 8)[0]
    size = struct.unpack_from("<I", archive, second + 8)[0]
    archive[second + HEAD + size // 2] ^= 64
    with pytest.raises(
        ArchiveError, match=r"thing\.tersely is damaged in block 1, before byte \d+: its bytes do not match"
    ):
        decompress_stream(io.BytesIO(archive), io.BytesIO(), name="thing.tersely")


def test_blocks_that_were_swapped_dropped_or_doubled_are_refused():
    archive = pack(noise(3000))
    first, second = archive[HEADER:][: 1024 + HEAD], archive[HEADER + 1024 + HEAD :][: 1024 + HEAD]
    rest = archive[HEADER + 2 * (1024 + HEAD) :]
    for blocks in (second + first, second, first, first + first + second):
        with pytest.raises(ArchiveError, match="block"):
            unpack(archive[:HEADER] + blocks + rest)


@pytest.mark.parametrize(
    ("foreign", "words"),
    [
        (b"", "no archive"),
        (b"plain text, and nothing else but that, which is long enough", "no archive"),
        (gzip.compress(WORDS, mtime=0), "no archive"),
        (b"\x93TERSELY" + bytes(24), "version 0"),
        (b"\x93TERSELY\x02" + bytes(40), "version 2"),
    ],
)
def test_foreign_files_are_refused(foreign, words):
    with pytest.raises(ArchiveError, match=words):
        unpack(foreign)


def test_what_follows_an_archive_is_refused():
    with pytest.raises(ArchiveError, match="goes on behind its end at byte"):
        unpack(pack(b"abc") + b"\n")


def forged(memory=20, block=1024, segment=0, model=None):
    head = pack(b"")[: HEADER - 4]
    head = head[:9] + struct.pack("<BHII", memory, 0, block, segment) + (model or head[20:28])
    return head + struct.pack("<I", zlib.crc32(head))


@pytest.mark.parametrize(
    "claims",
    [{"memory": 19}, {"memory": 31}, {"memory": 255}, {"block": 1 << 31}, {"block": 0}, {"segment": 1 << 31}],
    ids=str,
)
def test_a_header_that_asks_for_too_much_is_refused_before_anything_is_allocated(claims):
    tracemalloc.start()
    with pytest.raises(ArchiveError, match="asks for"):
        unpack(forged(**claims) + bytes(100))
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


def test_an_archive_of_another_model_is_refused():
    with pytest.raises(ArchiveError, match="another model"):
        unpack(forged(model=b"12345678"))


@pytest.mark.parametrize(
    ("raw", "coded", "kind"),
    [
        (1025, 10, 1),
        (0, 10, 1),
        (100, 101, 1),
        (100, 0, 1),
        (100, 99, 2),
        (100, 50, 3),
        (1 << 31, 1 << 31, 2),
    ],
)
def test_a_block_that_claims_the_impossible_is_refused(raw, coded, kind):
    head = struct.pack("<BxxxIII", kind, raw, coded, 0)
    block = head + struct.pack("<I", zlib.crc32(head, 0)) + bytes(200)
    with pytest.raises(ArchiveError, match="claims"):
        unpack(forged() + block)


def test_a_block_of_garbage_ends():
    head = struct.pack("<BxxxIII", 1, 1024, 8, 0)
    block = head + struct.pack("<I", zlib.crc32(head, 0)) + noise(8)
    with pytest.raises(ArchiveError, match="block 0"):
        unpack(forged() + block)


@pytest.mark.parametrize("options", [{"memory": 3 << 20}, {"memory": 1 << 31}, {"block": 10}], ids=str)
def test_settings_that_cannot_be_are_refused(options):
    with pytest.raises(UsageError, match="no archive can have"):
        pack(b"", **options)


def test_progress_tells_how_far_it_is():
    told = []
    out = io.BytesIO()
    compress_stream(io.BytesIO(bytes(2500)), out, memory=MEMORY, block=1024, on_progress=told.append)
    assert told == [1024, 2048, 2500]
    told.clear()
    decompress_stream(io.BytesIO(out.getvalue()), io.BytesIO(), on_progress=told.append)
    assert len(told) == 3
    assert told == sorted(told)


@pytest.mark.shared_data
def test_prose_is_smaller_than_with_xz(shared):
    import lzma

    import pyarrow as pa

    with pa.input_stream(str(shared / "prose/tinyshakespeare.txt.zst"), compression="zstd") as file:
        raw = file.read(150_000)
    archive = pack(raw, memory=1 << 24, block=1 << 20)
    assert len(archive) < 0.8 * len(lzma.compress(raw, preset=9 | lzma.PRESET_EXTREME))
    assert unpack(archive) == raw
