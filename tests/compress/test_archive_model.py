"""The model and the coder of archives: against a plain twin, against floats, and the promise of fixed bytes."""

import hashlib
import math
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tersely.compress.archive.codec import Codec
from tersely.compress.archive.model import coder, fingerprint, reference
from tersely.compress.archive.model.compiled import sources
from tersely.compress.archive.model.histories import histories
from tersely.compress.logistic import EDGE, squash_table, stretch_table

MEMORY = 1 << 20
TEXT = b"The cat sat on the mat.\nThe cat said that the mat was flat; caf\xc3\xa9, 1,234.50!\n"
SAMPLES = {
    "text": TEXT * 3,
    "zeros": bytes(700),
    "noise": random.Random(0).randbytes(300),
    "lines": b"".join(b"%d,%d,x\n" % (n, n * n) for n in range(60)),
    "one byte": b"\xff",
    "bytes that repeat late": TEXT + bytes(range(256)) + TEXT + bytes(range(256)),
}


@pytest.mark.parametrize("name", SAMPLES)
def test_compiled_loops_and_the_plain_twin_give_the_same_bytes(name):
    raw = SAMPLES[name]
    blocks = [part for part in (raw[: len(raw) // 3], raw[len(raw) // 3 :]) if part]
    codec = Codec(MEMORY)
    ours = [codec.encode(block) for block in blocks]
    plain = reference.encode(blocks, MEMORY)
    for block, mine, its in zip(blocks, ours, plain, strict=True):
        assert mine.payload == (block if mine.stored else its)
        assert mine.stored == (len(its) > len(block))
    reader = Codec(MEMORY)
    assert [reader.decode(block) for block in ours] == blocks


def test_the_plain_twin_decodes_what_the_compiled_loops_wrote():
    codec = Codec(MEMORY)
    blocks = [TEXT, TEXT[:50]]
    coded = [codec.encode(block).payload for block in blocks]
    assert reference.decode(coded, [len(block) for block in blocks], MEMORY) == blocks


def test_a_full_memory_forgets_the_same_in_both():
    """With 16 KiB there are 1,024 slots, which are soon taken from each other, and the last 2,048 bytes."""
    pick = random.Random(1)
    lines = [bytes(pick.choices(TEXT, k=pick.randrange(60))) + b"\n" for _ in range(12)]
    raw = b"".join(pick.choices(lines, k=75))
    assert len(raw) > 2048
    assert Codec(1 << 14).encode(raw).payload == reference.encode([raw], 1 << 14)[0]


def test_what_is_longer_than_the_memory_comes_back():
    noise = random.Random(1)
    raw = bytes(noise.choices(TEXT, k=70_000)) * 2
    codec, reader = Codec(MEMORY), Codec(MEMORY)
    for block in (raw, TEXT, raw):
        assert reader.decode(codec.encode(block)) == block


@given(st.lists(st.binary(min_size=1, max_size=300), max_size=4))
@settings(max_examples=40)
def test_any_blocks_come_back(blocks):
    codec, reader = Codec(MEMORY), Codec(MEMORY)
    for block in blocks:
        coded = codec.encode(block)
        assert len(coded.payload) <= len(block)
        assert reader.decode(coded) == block


def test_the_tables_are_the_logistic_function():
    x = np.arange(-EDGE, EDGE + 1)
    exact = 65536 / (1 + np.exp(-x / 256))
    assert np.abs(squash_table() - np.clip(exact, 1, 65535)).max() <= 1
    p = (np.arange(4096) + 0.5) / 4096
    assert np.abs(stretch_table() - 256 * np.log(p / (1 - p))).max() < 12
    assert np.array_equal(stretch_table(), -stretch_table()[::-1])


def test_histories_remember_what_they_say():
    following, first = histories()
    assert following.max() < 256
    state = 0
    for _ in range(100):
        state = following[state, 1]
    assert following[state, 1] == state, "a long run stays where it is"
    assert first[state] / 2**32 == pytest.approx(101 / 102, abs=1e-3)
    assert first[0] / 2**32 == 0.5
    seen = {0}
    for _ in range(200):
        seen |= {int(after) for one in seen for after in following[one]}
    assert len(seen) > 190, "most states can be reached"


@pytest.mark.parametrize("door", [coder.encode, coder.decode])
def test_compiled_code_on_disk_is_found_again_only_if_no_file_of_the_model_has_changed(door):
    assert sources() in [cell.cell_contents for cell in door.py_func.__closure__]


def test_golden_bytes():
    """Archives of format version 1 stay readable: whatever changes these bytes needs a new version."""
    assert fingerprint().hex() == GOLDEN["model"]
    for name, raw in SAMPLES.items():
        codec = Codec(MEMORY)
        coded = [codec.encode(raw).payload, codec.encode(raw[::-1] * 20).payload]
        assert hashlib.sha256(b"".join(coded)).hexdigest()[:16] == GOLDEN[name], name
    assert Codec(MEMORY).encode(TEXT).payload.hex() == GOLDEN["bytes of the text"]


def test_predictable_bytes_cost_next_to_nothing():
    codec = Codec(MEMORY)
    coded = codec.encode(bytes(1 << 18))
    assert len(coded.payload) < 60
    assert math.isclose(len(codec.encode(bytes(1 << 18)).payload), 7, abs_tol=8)


GOLDEN = {
    "model": "bd7f0162a60b73a5",
    "text": "c91e7920aa31186e",
    "zeros": "71e232cc415bd828",
    "noise": "728c9135a582bd7e",
    "lines": "51a1749c73579c57",
    "one byte": "cd6a90c38711467a",
    "bytes that repeat late": "5e8c31fa8c2b0aa1",
    "bytes of the text": "bb29e2771b1574eb5d76fded628f2350c0e08290522d1944232efa8e68218c0b8e8b7ba9d70cc9c93745e4df2a89bb428bbcf4d85d883ecf",
}
