"""Equal-info codes: all bytes come back, all ids live, and the tables say what the plain twin says."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from codes import TEXTS, Certain, Even, code, model
from hypothesis import given, settings
from hypothesis import strategies as st

from tersely import Ragged, load_tokenizer
from tersely.compress import EqualInfoTokenizer
from tersely.compress.equal_info import reference
from tersely.compress.equal_info.build import build_tries
from tersely.compress.equal_info.code.cells import LONGEST_WINDOW, split_cells
from tersely.compress.equal_info.contexts import pack, unpack
from tersely.compress.equal_info.decode import PIECE
from tersely.compress.equal_info.models import ByteModel, NgramModel
from tersely.compress.equal_info.report import measure_code
from tersely.compress.equal_info.table import compile_tries
from tersely.errors import TokenizeError, UsageError
from tersely.tokenize import StreamDecoder, Tokenizer

GOLDEN = Path(__file__).parent / "golden"
GOLDEN_TEXTS = [
    "to be, or not to be",
    "that is the question: whether it is nobler",
    "in the mind to suffer\n",
]

texts = st.one_of(
    st.binary(max_size=80),
    st.text(max_size=40).map(str.encode),
    st.lists(
        st.sampled_from([b"the ", b"and", b"\x00" * 40, b"\xff\xfe", b"e", "\u4e2d".encode()]), max_size=20
    ).map(b"".join),
)


@pytest.fixture(params=[0, 1, 2], ids=lambda carry: f"carry{carry}")
def tok(request):
    return code(carry=request.param)


@settings(max_examples=60)
@given(documents=st.lists(texts, max_size=5), carry=st.integers(0, 2), closed=st.booleans())
def test_any_bytes_come_back(documents, carry, closed):
    tok = code(carry=carry)
    ids = tok.encode(documents, bos=closed, eos=closed)
    assert tok.decode(ids) == documents
    assert (ids.lengths <= np.array([len(text) + 2 * closed for text in documents])).all()


@settings(max_examples=15)
@given(text=texts, carry=st.integers(0, 2))
def test_ids_are_those_of_the_plain_twin(text, carry):
    tok = code(carry=carry)
    ids = reference.encode(model(), 12, tok.classes, text)
    assert tok.encode([text]).to_list() == [ids]
    assert reference.decode(model(), 12, tok.classes, ids) == text


def test_ten_megabytes_of_zeros_come_back(tok):
    zeros = bytes(10_000_000)
    [back] = tok.decode(tok.encode([zeros]))
    assert back == zeros


def test_random_bytes_come_back(tok):
    text = os.urandom(50_000)
    assert tok.decode(tok.encode([text, b"", text[:1]])) == [text, b"", text[:1]]


@pytest.mark.parametrize("bits", range(9, 19))
def test_every_size_of_code_brings_all_back(bits):
    tok = code(bits=bits)
    assert tok.vocab_size == 1 << bits
    assert tok.decode(tok.encode(TEXTS)) == [text.encode() for text in TEXTS]


def test_the_largest_code_brings_all_back():
    tries = build_tries(Even(), 24)
    tok = EqualInfoTokenizer(compile_tries(tries, [b""]), 24, 0, threads=1)
    documents = [b"any text", os.urandom(1000)]
    ids = tok.encode(documents)
    assert ids.values.dtype == np.uint32
    assert tok.decode(ids) == documents
    assert ids.lengths[0] == 3
    assert 334 <= ids.lengths[1] < 350  # all but one in 256 strings of 3 bytes have an id


def test_a_code_without_room_is_refused():
    with pytest.raises(UsageError, match="no room for 256 byte cells and a stop cell"):
        EqualInfoTokenizer.train(TEXTS, bits=8)
    with pytest.raises(UsageError, match="choose 9 to 24"):
        EqualInfoTokenizer.train(TEXTS, bits=25)
    with pytest.raises(UsageError, match="choose 0, 1 or 2"):
        EqualInfoTokenizer.train(TEXTS, carry=3)


def test_every_id_but_the_end_is_the_only_one_of_its_string(tok):
    every = np.arange(1, tok.vocab_size)
    strings = tok.decode(Ragged(every, np.arange(tok.vocab_size)))
    again = tok.encode(strings)
    assert (again.lengths == 1).all()
    assert (again.values == every).all()
    assert tok.eos_id == tok.pad_id == tok.bos_id == 0
    assert tok.decode(Ragged.from_rows([[0]])) == [b""]


def test_ids_are_in_the_order_of_their_strings(tok):
    for before in (b"", b"e", b"th"):
        strings = [tok.decode_from(before, [number])[0] for number in range(tok.vocab_size)]
        assert strings == sorted(strings)


@given(
    prefix=st.sampled_from([b"", b"t", b"th", b"the", b"\xff", b"qqqqqqqq"]),
    before=st.sampled_from([b"", b"e", b"x th"]),
)
@settings(max_examples=20)
def test_a_prefix_is_one_range_of_ids(prefix, before):
    for carry in (0, 2):
        tok = code(carry=carry)
        strings = [tok.decode_from(before, [number])[0] for number in range(tok.vocab_size)]
        there = [number for number in range(1, tok.vocab_size) if strings[number].startswith(prefix)]
        assert list(tok.id_range(prefix, before)) == there


def test_next_bytes_are_sums_over_the_ids_that_go_on_with_them(tok):
    chances = np.random.default_rng(0).dirichlet(np.ones(tok.vocab_size))
    strings = [tok.decode_from(b"in ", [number])[0] for number in range(tok.vocab_size)]
    expected = np.zeros(257)
    for number in tok.id_range(b"t", b"in "):
        expected[strings[number][1] if len(strings[number]) > 1 else 256] += chances[number]
    assert np.allclose(tok.next_bytes(chances, b"t", b"in "), expected, atol=1e-12)
    with pytest.raises(TokenizeError, match="a probability for each"):
        tok.next_bytes(chances[:-1])


def test_windows_are_no_longer_than_the_format_allows():
    for byte in (0, 255):
        tok = EqualInfoTokenizer(compile_tries(build_tries(Certain(byte), 12), [b""]), 12, 0, threads=1)
        every = tok.decode(Ragged(np.arange(4096), np.arange(4097)))
        assert max(map(len, every)) == LONGEST_WINDOW
        assert len(set(every)) == 4096
        run = bytes([byte]) * 1000
        assert tok.encode([run]).lengths.tolist() == [-(-1000 // LONGEST_WINDOW)]
        assert tok.decode(tok.encode([run])) == [run]
        assert reference.encode(Certain(byte), 12, [b""], run[:70]) == tok.encode([run[:70]]).to_list()[0]


@settings(max_examples=40)
@given(
    parts=st.lists(st.integers(0, 200), min_size=256, max_size=256),
    cells=st.integers(2, 5000),
    root=st.booleans(),
    left=st.integers(1, 4),
)
def test_cells_are_shared_out_as_in_exact_fractions(parts, cells, root, left):
    chances = np.array(parts, np.int64) + 1
    chances[7] += 65536 - chances.sum()
    cells = max(cells, 257) if root else cells
    room = sum(256**length for length in range(left))
    cells = min(cells, 256 * room + 1)
    shared = np.empty(256, np.int64)
    split_cells(np.concatenate([[0], np.cumsum(chances)]), cells, root, room, shared)
    assert shared.sum() == cells - 1
    assert shared.tolist() == reference.shares(chances.tolist(), cells, root, left)


def test_confusable_texts_stay_apart(tok):
    pair = [b"wrong and superfluous error check.", b"writong and superfluous error check."]
    one, other = tok.encode(pair).to_list()
    assert one != other
    assert tok.decode(tok.encode(pair)) == pair


def test_offsets_are_exact_and_adjoin(tok):
    documents = ["the th\u00e9 \u4e2d\u6587", "and"]
    ids, spans = tok.encode_with_offsets(documents, bos=True, eos=True)
    for text, row, ranges in zip(documents, ids, spans, strict=True):
        raw = text.encode()
        assert ranges[0].tolist() == [0, 0]
        assert ranges[-1].tolist() == [len(raw)] * 2
        assert (ranges[1:, 0] == ranges[:-1, 1]).all()
        before = b""
        for number, (start, stop) in zip(row[1:-1].tolist(), ranges[1:-1].tolist(), strict=True):
            piece, before = tok.decode_from(before, [number])
            assert piece == raw[start:stop]
    _, characters = tok.encode_with_offsets(documents, unit="character")
    assert characters[0].max() == len(documents[0])


def test_text_comes_while_ids_still_come(tok):
    text = "the \u4e2d\u6587 and th\u00e9 end"
    decoder = StreamDecoder(tok)
    for _ in range(2):
        pieces = [decoder.push(number) for number in tok.encode([text])[0].tolist()]
        assert "".join(pieces) + decoder.finish() == text


def test_what_follows_an_end_begins_a_document(tok):
    one, other = (tok.encode([text], eos=True).values for text in (b"the end", b"the start"))
    joined = Ragged(np.concatenate([one, other]), [0, len(one) + len(other)])
    assert tok.decode(joined) == [b"the endthe start"]


def test_long_documents_are_cut_without_a_trace(tok):
    """They are walked through in pieces, but every window goes on as far as it can from where the one before ended."""
    text = " ".join(TEXTS).encode() * 2
    ids, spans = tok.encode_with_offsets([text])
    assert len(ids.values) > 4 * PIECE
    assert tok.decode(ids) == [text]
    bounds = spans.values
    assert bounds[0, 0] == 0
    assert bounds[-1, 1] == len(text)
    assert (bounds[1:, 0] == bounds[:-1, 1]).all()
    for number in range(0, len(bounds) - 1, 97):
        start, stop = bounds[number].tolist()
        before = text[max(0, start - 2) : start]
        assert ids.values[number] in tok.id_range(text[start:stop], before)
        assert not len(tok.id_range(text[start : stop + 1], before))


def test_threads_change_nothing():
    tok = code(carry=1)
    many = EqualInfoTokenizer(tok._table, 12, 1, threads=3)
    assert many.encode(TEXTS).to_list() == tok.encode(TEXTS).to_list()
    assert many.decode(many.encode(TEXTS)) == tok.decode(tok.encode(TEXTS))
    again = EqualInfoTokenizer.train(TEXTS, bits=12, carry=1, threads=3)
    assert again.fingerprint == tok.fingerprint


def test_a_saved_code_is_the_same(tok, tmp_path):
    tok.save(tmp_path / "code")
    back = load_tokenizer(tmp_path / "code")
    assert isinstance(back, Tokenizer)
    assert back.fingerprint == tok.fingerprint
    assert back.encode(TEXTS).to_list() == tok.encode(TEXTS).to_list()


def test_golden_code():
    """Version 1 is a promise: the same text gives the same table, and ids mean the same in every version."""
    stored = load_tokenizer(GOLDEN)
    assert isinstance(stored, EqualInfoTokenizer)
    made = EqualInfoTokenizer.train(GOLDEN_TEXTS, bits=9, carry=1)
    assert made.fingerprint == stored.fingerprint
    ids = json.loads((GOLDEN / "ids.json").read_text())
    assert stored.encode(GOLDEN_TEXTS).to_list() == ids
    assert stored.decode(Ragged.from_rows(ids)) == [text.encode() for text in GOLDEN_TEXTS]


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("tersely_tokenizer.json", lambda raw: b"{}"),
        ("tersely_tokenizer.json", lambda raw: raw.replace(b'"bits": 9', b'"bits": 10')),
        ("tersely_tokenizer.json", lambda raw: raw.replace(b'"version": 1', b'"version": 2')),
        ("table.safetensors", lambda raw: raw[: len(raw) // 2]),
        ("table.safetensors", lambda raw: raw[:-9] + b"\x07" + raw[-8:]),
        ("table.safetensors", lambda raw: b""),
    ],
)
def test_a_damaged_code_is_refused_in_a_sentence(name, change, tmp_path):
    folder = shutil.copytree(GOLDEN, tmp_path / "code")
    (folder / name).write_bytes(change((folder / name).read_bytes()))
    with pytest.raises(TokenizeError, match=rf"{name}|type") as caught:
        load_tokenizer(folder)
    assert "\n" not in str(caught.value)


def test_a_table_that_lies_is_refused_before_it_is_used(tmp_path):
    table = code()._table
    cells = table.cells.copy()
    inner = np.flatnonzero((cells & np.uint64(0x1FF)) < 256)[5]
    cells[inner] += np.uint64(1 << 9)
    with pytest.raises(TokenizeError, match="damaged"):
        EqualInfoTokenizer(table._replace(cells=cells), 12, 0).decode(Ragged.from_rows([[1]]))


def test_ids_outside_the_vocabulary_are_refused(tok):
    with pytest.raises(TokenizeError, match="4096"):
        tok.decode(Ragged.from_rows([[4096]]))
    with pytest.raises(TokenizeError, match="surrogate"):
        tok.encode(["\ud800"])


def test_contexts_hold_the_last_bytes():
    for text in (b"", b"a", b"\x00", b"\x00\xff", b"1234567"):
        assert unpack(pack(text)) == text
    assert unpack(pack(b"12345678")) == b"2345678"


def test_counts_are_those_of_a_plain_count():
    documents = [b"abracadabra", b"abra", b""]
    counts = NgramModel.train(documents, order=2)._counts
    contexts = [unpack(int(context)) for context in counts.contexts]
    assert set(contexts) == {b"", b"a", b"b", b"r", b"ab", b"br"}  # what is followed twice at least
    for row, context in enumerate(contexts):
        entries = slice(*counts.offsets[row : row + 2])
        found = dict(zip(counts.following[entries].tolist(), counts.counts[entries].tolist(), strict=True))
        plain = {}
        for text in documents:
            for i in range(len(context), len(text)):
                if text[i - len(context) : i] == context:
                    plain[text[i]] = plain.get(text[i], 0) + 1
        assert found == plain, context


def test_distributions_are_whole_numbers_that_leave_nothing_out():
    contexts = np.array([pack(text) for text in (b"", b"th", b"zzzzzz", b"in the")], np.uint64)
    assert isinstance(model(), ByteModel)
    sums = model().cdf(model().known(contexts))
    assert (sums[:, 0] == 0).all()
    assert (sums[:, 256] == 65536).all()
    assert (np.diff(sums, axis=1) >= 1).all()
    assert sums[1, ord("e") + 1] - sums[1, ord("e")] > 20000  # "the"


def test_a_saved_model_is_the_same(tmp_path):
    model().save(tmp_path / "m.safetensors")
    assert NgramModel.load(tmp_path / "m.safetensors").fingerprint == model().fingerprint
    (tmp_path / "m.safetensors").write_bytes(b"nothing")
    with pytest.raises(TokenizeError, match="cannot be read as a model"):
        NgramModel.load(tmp_path / "m.safetensors")


def test_a_model_is_pruned_to_its_bound():
    small = NgramModel.train(TEXTS, most_contexts=200)
    assert 1 < len(small._counts.contexts) <= 200
    empty = NgramModel.train([])
    assert np.diff(empty.cdf(np.array([pack(b"")], np.uint64))).std() < 1


def test_the_report_counts_what_it_says(tok):
    report = measure_code(tok, TEXTS[:40], model())
    ids = tok.encode(TEXTS[:40])
    assert report.failures == 0
    assert report.live_ids == tok.vocab_size - 1
    assert report.tokens == len(ids.values) == sum(report.lengths)
    assert report.bytes == sum(n * length for length, n in enumerate(report.lengths))
    assert report.model_bits_per_byte is not None
    assert report.model_bits_per_byte < report.unigram_bits_per_byte < report.bits_per_byte
    assert 0 < report.changed_share < 1


@pytest.mark.shared_data
def test_shared_files_come_back(shared):
    for name in (
        "prose/wikipedia_en.jsonl.zst",
        "multilingual/bible_nt.jsonl.zst",
        "dna/celegans_1pct.fa.zst",
    ):
        raw = subprocess.run(["zstd", "-dc", shared / name], capture_output=True, check=False).stdout
        text = raw or (shared / name).read_bytes()
        for carry in (0, 1, 2):
            assert code(carry=carry).decode(code(carry=carry).encode([text])) == [text]
