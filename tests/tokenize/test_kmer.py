"""k-mers: a promised layout, any bytes, both strands, and never over the end of a document."""

import functools
import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tersely import Ragged, load_tokenizer
from tersely.corpus import find_sources, prepare
from tersely.errors import TokenizeError, UsageError
from tersely.shards import ShardFolder, verify
from tersely.tokenize import KmerTokenizer, Tokenizer

PAIRS = bytes.maketrans(b"ACGTRYKMBVDHSWNacgtrykmbvdhswn-.", b"TGCAYRMKVBHDSWNtgcayrmkvbhdswn-.")

dna = st.lists(
    st.sampled_from([b"ACGT", b"acgt", b"A", b"t", b"N", b"NNNNNNN", b"RYKMBVDHSW", b"n", b"-", b"GATTACA"]),
    max_size=12,
).map(b"".join)
anything = st.lists(
    st.one_of(dna, st.sampled_from([b"\xff", b"\x00", "\u00e9\U0001f600".encode(), b" "])), max_size=6
).map(b"".join)


def plain_cuts(text, k):
    """The pieces of a text, found letter by letter: the readable twin of the compiled loop."""
    pieces, i = [], 0
    while i < len(text):
        window = text[i : i + k]
        whole = len(window) == k and (set(window) <= set(b"ACGT") or set(window) <= set(b"acgt"))
        pieces.append(window if whole else text[i : i + 1])
        i += len(pieces[-1])
    return pieces


@functools.cache
def vocabulary(k):
    """The id of every piece."""
    kmers = ["".join(letters) for case in ("ACGT", "acgt") for letters in itertools.product(case, repeat=k)]
    numbers = {kmer.encode(): 259 + number for number, kmer in enumerate(kmers)}
    return {bytes([byte]): 3 + byte for byte in range(256)} | numbers


def plain_ids(text, k):
    return [vocabulary(k)[piece] for piece in plain_cuts(text, k)]


def test_golden_ids():
    """The layout is a promise: ids of a prepared corpus mean the same in every version."""
    text = "ACGTACaaaaaaTTTTTTttttttNNACGTA\u00e9"
    ids = [692, 4355, 4354, 8450, 81, 81, 68, 70, 74, 87, 68, 198, 172]
    assert KmerTokenizer(6).encode([text], bos=True, eos=True).to_list() == [[1, *ids, 2]]
    assert KmerTokenizer(6).encode(["AAAAAA", "aaaaac"]).to_list() == [[259], [4356]]
    assert KmerTokenizer(3).encode(["ACGTN"]).to_list() == [[259 + 6, 3 + ord("T"), 3 + ord("N")]]
    tok = KmerTokenizer()
    assert (tok.k, tok.vocab_size, tok.pad_id, tok.bos_id, tok.eos_id) == (6, 8451, 0, 1, 2)
    assert isinstance(tok, Tokenizer)


@pytest.mark.parametrize("k", [1, 2, 3, 6, 7])
@given(texts=st.lists(anything, max_size=5), bos=st.booleans(), eos=st.booleans())
def test_ids_are_those_of_the_plain_twin_and_round_trip(k, texts, bos, eos):
    tok = KmerTokenizer(k)
    ids = tok.encode(texts, bos=bos, eos=eos)
    assert ids.to_list() == [[1] * bos + plain_ids(text, k) + [2] * eos for text in texts]
    assert tok.decode(ids) == texts


@given(st.text("ACGT", min_size=1, max_size=60))
def test_pure_dna_is_cut_as_the_usual_split_does(text):
    number = {"".join(kmer): 259 + i for i, kmer in enumerate(itertools.product("ACGT", repeat=6))}
    whole = len(text) // 6 * 6
    split = [number[text[i : i + 6]] for i in range(0, whole, 6)]
    assert KmerTokenizer(6).encode([text]).to_list() == [split + [3 + ord(c) for c in text[whole:]]]


@pytest.mark.parametrize("k", range(1, 9))
def test_every_kmer_has_its_id_and_every_id_its_kmer(k):
    tok = KmerTokenizer(k)
    ids = np.arange(259, tok.vocab_size)
    text = tok.decode(Ragged(ids, [0, len(ids)]))[0]
    assert len(text) == 2 * k * 4**k
    assert text[: len(text) // 2].lower() == text[len(text) // 2 :]
    assert tok.encode([text]).values.tolist() == ids.tolist()
    assert tok.encode([text]).values.dtype == (np.uint32 if k == 8 else np.uint16)
    kmers = [text[i : i + k] for i in range(0, len(text) // 2, k)]
    assert kmers == sorted(set(kmers))


def test_no_kmer_reaches_over_the_end_of_a_document():
    ids = KmerTokenizer(4).encode(["ACG", "T", "", "ACGTACG", "TACGT"], eos=True)
    assert ids.lengths.tolist() == [4, 2, 1, 5, 3]


def test_no_documents_and_empty_documents():
    tok = KmerTokenizer()
    assert tok.encode([]).to_list() == []
    assert tok.encode(["", b""], bos=True, eos=True).to_list() == [[1, 2], [1, 2]]
    assert tok.decode(tok.encode(["", "A"])) == [b"", b"A"]
    assert tok.encode_with_offsets([])[1].values.shape == (0, 2)


def test_a_soft_masked_genome_costs_no_more_than_an_unmasked_one():
    text = ("ACGTAC" * 100 + "ggatcc" * 100) * 3
    assert KmerTokenizer(6).encode([text]).lengths.tolist() == [600]


@pytest.mark.parametrize("upper_case", [False, True])
@given(texts=st.lists(dna, max_size=5), eos=st.booleans())
def test_the_other_strand_is_that_of_the_iupac_code_and_decodes_to_the_given_one(upper_case, texts, eos):
    given_strand = KmerTokenizer(4, upper_case=upper_case)
    other = KmerTokenizer(4, reverse_complement=True, upper_case=upper_case)
    turned = [text.translate(PAIRS)[::-1] for text in texts]
    ids = other.encode(texts, eos=eos)
    assert ids.equals(given_strand.encode(turned, eos=eos))
    assert other.decode(ids) == [text.upper() if upper_case else text for text in texts]


def test_letters_without_a_complement_are_refused_by_name():
    tok = KmerTokenizer(3, reverse_complement=True)
    with pytest.raises(TokenizeError, match="document 2 has b'U' at byte 4") as caught:
        tok.encode(["", "ACGT", "AUGCU", "X"])
    assert caught.value.document == 2
    for byte in set(range(256)) - set(b"ACGTRYKMBVDHSWNacgtrykmbvdhswn-."):
        with pytest.raises(TokenizeError):
            tok.encode([bytes([byte])])
    with pytest.raises(TokenizeError, match="without a complement"):
        tok.decode(KmerTokenizer(3).encode(["U"]))


@given(st.lists(st.text("ACGTNacg\u00e9\U0001f600", max_size=20), max_size=4), st.booleans())
def test_offsets_point_back_at_the_source(texts, specials):
    tok = KmerTokenizer(3)
    ids, spans = tok.encode_with_offsets(texts, bos=specials, eos=specials)
    assert ids.equals(tok.encode(texts, bos=specials, eos=specials))
    _, characters = tok.encode_with_offsets(texts, bos=specials, eos=specials, unit="character")
    for text, row, inside in zip(texts, spans.to_list(), characters.to_list(), strict=True):
        raw = text.encode()
        ends = ([[0, 0]] * specials, [[len(raw)] * 2] * specials)
        cuts = np.cumsum([0] + [len(piece) for piece in plain_cuts(raw, 3)]).tolist()
        assert row == ends[0] + [[a, b] for a, b in itertools.pairwise(cuts)] + ends[1]
        for (a, b), (first, last) in zip(row, inside, strict=True):
            assert len(raw[:a].decode(errors="ignore")) == first
            assert last == (len(raw[:b].decode(errors="replace")) if a < b else first)


def test_offsets_of_the_other_strand_are_those_of_the_given_text():
    tok = KmerTokenizer(2, reverse_complement=True)
    ids, spans = tok.encode_with_offsets(["AACGn", ""], bos=True, eos=True)
    assert spans.to_list() == [[[5, 5], [4, 5], [2, 4], [0, 2], [0, 0]], [[0, 0], [0, 0]]]
    plain = KmerTokenizer(2)
    for (a, b), id_ in list(zip(spans[0].tolist(), ids[0].tolist(), strict=True))[1:-1]:
        assert plain.decode(Ragged.from_rows([[id_]])) == [b"AACGn"[a:b].translate(PAIRS)[::-1]]


def test_upper_case_gives_the_ids_of_the_upper_cased_text():
    tok = KmerTokenizer(6, upper_case=True)
    texts = ["acgtACGTacgtn\u00e9", "nnRy", "gattacagattaca"]
    assert tok.encode(texts).equals(
        KmerTokenizer(6).encode([text.upper().replace("\u00c9", "\u00e9") for text in texts])
    )
    assert tok.decode(tok.encode(["acgtacNn"])) == [b"ACGTACNN"]
    assert tok.vocab_size == 259 + 4096


def test_documents_may_be_a_ragged_of_bytes_or_strings():
    texts = [b"ACGTACGTN", b"", b"acgtac"]
    column = Ragged.from_rows(texts)
    for tok in (KmerTokenizer(6), KmerTokenizer(6, reverse_complement=True)):
        expected = tok.encode(texts, eos=True)
        assert tok.encode(column, eos=True).equals(expected)
        assert tok.encode(column[1:]).to_list() == tok.encode(texts[1:]).to_list()
        assert tok.encode([text.decode() for text in texts], eos=True).equals(expected)


def test_ids_may_be_of_any_integers_and_a_tensor():
    ids = KmerTokenizer(6).encode(["ACGTACN"], eos=True)
    wide = Ragged(ids.values.astype(np.int64), ids.offsets)
    assert KmerTokenizer(6).decode(wide) == KmerTokenizer(6).decode(wide.to_torch()) == [b"ACGTACN"]


def test_wrong_input_is_refused():
    for k in (0, 9, -1, 6.0, "6", True):
        with pytest.raises(TokenizeError, match="1 to 8"):
            KmerTokenizer(k)
    tok = KmerTokenizer(6)
    with pytest.raises(TokenizeError, match="document 1 has a lone surrogate"):
        tok.encode(["A", "\ud800"])
    with pytest.raises(TokenizeError, match="list of documents"):
        tok.encode("ACGT")
    with pytest.raises(TokenizeError, match="uint8"):
        tok.encode(Ragged.from_rows([[1, 2]]))
    with pytest.raises(UsageError, match="unit"):
        tok.encode_with_offsets(["A"], unit="letters")
    with pytest.raises(TokenizeError, match="outside"):
        tok.decode(Ragged.from_rows([[8451]]))
    with pytest.raises(TokenizeError, match="outside"):
        tok.decode(Ragged.from_rows([[-1]]))
    with pytest.raises(TokenizeError, match="integers"):
        tok.decode(Ragged.from_rows([[0.5]]))


@pytest.mark.parametrize("spec", ["kmer:6", "kmer:3:rc", "kmer:4:upper", "kmer:5:rc:upper"])
def test_saved_tokenizers_come_back_the_same(tmp_path, spec):
    tok = load_tokenizer(spec)
    tok.save(tmp_path / "tok")
    back = load_tokenizer(tmp_path / "tok")
    assert isinstance(back, KmerTokenizer)
    assert (repr(back), back.fingerprint) == (repr(tok), tok.fingerprint)


def test_names_and_fingerprints_tell_tokenizers_apart():
    specs = ["kmer:6", "kmer:5", "kmer:6:rc", "kmer:6:upper", "kmer:6:rc:upper"]
    assert len({load_tokenizer(spec).fingerprint for spec in specs}) == len(specs)
    for wrong in ("kmer", "kmer:", "kmer:x", "kmer:6:lower", "kmer:9", "kmer:\u00b2"):
        with pytest.raises(TokenizeError, match=r"kmer:6|1 to 8"):
            load_tokenizer(wrong)


def test_a_genome_is_prepared_with_its_headers(tmp_path):
    rng = np.random.default_rng(0)
    letters = np.frombuffer(b"ACGTacgtN", np.uint8)
    texts = [letters[rng.integers(0, high, size)].tobytes() for high, size in ((4, 5000), (9, 700), (4, 1))]
    fasta = b"".join(b">chr%d of x\n%b\n" % (i, text) for i, text in enumerate(texts))
    (tmp_path / "genome.fa").write_bytes(fasta)
    for spec in ("kmer:6", "kmer:6:rc"):
        out = tmp_path / spec
        manifest = prepare(find_sources([tmp_path / "genome.fa"])[0], out, spec, capacity=256)
        opened, tok = ShardFolder(out), load_tokenizer(out)
        assert opened.document_fields.to_pydict() == {"header": [f"chr{i} of x" for i in range(3)]}
        rows = [opened.tokens(i, 0, int(size)) for i, size in enumerate(opened.document_lengths)]
        assert tok.decode(Ragged.from_rows(rows)) == texts
        assert manifest.tokens < 5000 / 6 + 720
        assert [fault for _, fault in verify(out) if fault] == []


@pytest.mark.shared_data
def test_genomes_round_trip_in_a_sixth_of_the_ids(shared):
    for source in find_sources([shared / "dna"])[0]:
        for batch in source.batches():
            for tok in (KmerTokenizer(6), KmerTokenizer(6, reverse_complement=True)):
                ids = tok.encode(batch.texts)
                assert tok.decode(ids) == [text.encode() for text in batch.texts]
                assert len(ids.values) < sum(map(len, batch.texts)) / 5.5
            assert ids.lengths.tolist() == [
                len(plain_cuts(text.encode().translate(PAIRS)[::-1], 6)) for text in batch.texts
            ]


@pytest.mark.parametrize("options", ["9" * 5000, "\u0663", "6:rc:9", "", "-1"])
def test_names_that_are_no_kmers_are_refused_in_a_short_sentence(options):
    with pytest.raises(TokenizeError, match="no tokenizer 'kmer:") as caught:
        load_tokenizer(f"kmer:{options}")
    assert len(str(caught.value)) < 200
