"""What a hypernetwork sees, draws and learns from: each part against something that is worked out otherwise."""

import numpy as np
import pytest
import torch
from small_tokenizers import BERT_PARTS, SENTENCES, fast, wordpiece

from tersely.embeddings.transfer.hypernet import Hypernet, HypernetConfig
from tersely.embeddings.transfer.hypernet.batches import Batches, Frequencies, Source
from tersely.embeddings.transfer.hypernet.network import means, with_average
from tersely.embeddings.transfer.hypernet.substrings import find_substrings
from tersely.embeddings.transfer.hypernet.surface import (
    NONE,
    PIECES,
    SLOTS,
    SPECIAL,
    Look,
    SurfaceReader,
    counted,
    log_shares,
)
from tersely.embeddings.transfer.hypernet.vocabularies import Vocabularies, Vocabulary
from tersely.embeddings.transfer.pieces import Decomposition
from tersely.embeddings.transfer.vocabulary import ByteView


@pytest.fixture(scope="module")
def vocabularies():
    return Vocabularies(SENTENCES, np.random.default_rng(0), 4)


@pytest.fixture(scope="module")
def drawn(vocabularies):
    return [vocabularies.draw(np.random.default_rng(number)) for number in range(24)]


@pytest.fixture(scope="module")
def piece():
    return fast(wordpiece(), **BERT_PARTS)


@pytest.fixture(scope="module")
def reader(piece):
    view = ByteView.of(piece)
    return SurfaceReader(view, Decomposition(piece, view))


def network(size=6, width=64, **more):
    torch.manual_seed(0)
    made = Hypernet(HypernetConfig(dims={"inputs": size}, width=width, **more)).eval()
    torch.nn.init.normal_(made.tables["inputs"].leave.weight)
    return made


def surfaces(number=40, rows=30):
    generator = np.random.default_rng(0)
    pieces = generator.integers(0, rows, (number, SLOTS))
    pieces[generator.random((number, SLOTS)) < 0.6] = NONE
    pieces[:3] = NONE
    return torch.from_numpy(pieces), torch.from_numpy(generator.integers(0, SPECIAL, number))


def test_a_token_has_the_same_row_alone_and_among_others():
    made, old = network(), torch.randn(31, 6)
    pieces, kinds = surfaces()
    with torch.inference_mode():
        together = made("inputs", old, pieces, kinds)
        for number in range(len(kinds)):
            alone = made("inputs", old, pieces[number : number + 1], kinds[number : number + 1])
            torch.testing.assert_close(alone[0], together[number], atol=1e-4, rtol=1e-4)
    assert together.abs().max() > 0.1


def test_rows_decide_and_ids_do_not():
    """The network may be given a table in another order: it never learns a number."""
    made, old = network(), torch.randn(31, 6)
    pieces, kinds = surfaces()
    order = torch.cat([torch.randperm(30), torch.tensor([30])])
    moved = torch.where(pieces < 0, pieces, order.argsort()[pieces.clamp(min=0)])
    with torch.inference_mode():
        torch.testing.assert_close(
            made("inputs", old, pieces, kinds), made("inputs", old[order], moved, kinds)
        )


def test_which_slot_a_piece_stands_in_decides_too():
    made, old = network(), torch.randn(31, 6)
    pieces = torch.full((3, SLOTS), NONE)
    pieces[0, :2], pieces[1, :2], pieces[2, [0, PIECES]] = (
        torch.tensor(row) for row in ([4, 5], [5, 4], [4, 5])
    )
    with torch.inference_mode():
        rows = made("inputs", old, pieces, torch.zeros(3, dtype=torch.long))
    assert not torch.allclose(rows[0], rows[1], atol=1e-3)
    assert not torch.allclose(rows[0], rows[2], atol=1e-3)


def test_an_untrained_network_and_special_tokens_add_nothing():
    made, old = network(), torch.randn(31, 6)
    pieces, kinds = surfaces()
    fresh = Hypernet(HypernetConfig(dims={"inputs": 6}, width=64))
    with torch.inference_mode():
        assert (fresh("inputs", old, pieces, kinds) == 0).all()
        assert (made("inputs", old, pieces, torch.full_like(kinds, SPECIAL)) == 0).all()


def test_how_often_a_token_occurs_changes_its_row_and_no_other():
    made, old = network(counted=True), torch.randn(31, 6)
    pieces, kinds = surfaces()
    usual = torch.zeros(len(kinds))
    often = usual.clone()
    often[5:8] = torch.tensor([-3.0, 2.0, 2.5])
    with torch.inference_mode():
        plain, told = (made("inputs", old, pieces, kinds, given) for given in (usual, often))
        assert (plain == made("inputs", old, pieces, kinds)).all()
        changed = (told - plain).abs().amax(1) > 1e-3
        assert (
            network()("inputs", old, pieces, kinds, often) == network()("inputs", old, pieces, kinds)
        ).all()
    assert changed.nonzero()[:, 0].tolist() == [5, 6, 7]


def test_means_are_over_the_pieces_and_of_all_text_where_there_are_none():
    text = torch.rand(30) < 0.7
    old = with_average(torch.randn(30, 6), text)
    pieces, _ = surfaces()
    for row, found in zip(pieces.tolist(), means(old, pieces), strict=True):
        ids = [number for number in row[:PIECES] if number >= 0]
        expected = old[ids].mean(0) if ids else old[:30][text].mean(0)
        torch.testing.assert_close(found, expected)


def test_a_saved_network_gives_the_same_rows(tmp_path):
    made, old = network(), torch.randn(31, 6)
    made.measure("inputs", old)
    made.save_pretrained(tmp_path)
    again = Hypernet.from_pretrained(tmp_path).eval()
    pieces, kinds = surfaces()
    with torch.inference_mode():
        assert (again("inputs", old, pieces, kinds) == made("inputs", old, pieces, kinds)).all()
    assert {path.name for path in tmp_path.iterdir()} == {"config.json", "model.safetensors"}


def test_a_capital_is_seen_as_the_start_of_a_word_too(piece, reader):
    vocabulary = piece.get_vocab()
    surface = reader([b"The", b" the", b"x", b"7", b"\n", b""])
    assert surface.kinds.tolist()[:2] == [Look.CAPITAL, Look.BLANK + len(Look)]
    assert surface.pieces[0, PIECES] == vocabulary["the"]
    assert surface.pieces[1].tolist() == [vocabulary["the"], *[NONE] * (SLOTS - 1)]
    assert surface.kinds[3] % len(Look) == Look.OTHER
    assert (surface.pieces[4:] == NONE).all()


def test_frequencies_are_those_of_tokens_less_those_of_their_pieces(reader):
    tokens = [b" the", b"The", b"ing", b" thethe", b"\n"]
    surface = reader(tokens)
    generator = np.random.default_rng(0)
    of_tokens, of_pieces = (log_shares(generator.integers(0, 5, size)) for size in (len(tokens), 400))
    found = counted(surface, of_tokens, of_pieces).frequencies
    for number, row in enumerate(surface.pieces):
        pieces = [piece for piece in row[:PIECES] if piece != NONE]
        expected = of_tokens[number] - np.mean([of_pieces[piece] for piece in pieces]) if pieces else 0
        assert found[number] == pytest.approx(expected)
    assert (found != 0).tolist() == [True] * 4 + [False]


def test_what_no_sample_has_is_as_rare_in_a_small_one_as_in_a_large_one():
    small, large = log_shares(np.array([0, 1, 9])), log_shares(np.array([0, 1000, 9000]))
    assert small == pytest.approx(large)
    assert np.isfinite(log_shares(np.zeros(3))).all()


def test_parts_of_words_are_counted_as_by_hand():
    words = {" abc": 3, "bc": 2, "abd": 1}
    found = find_substrings(words, 100)
    counts = {
        part: sum(n * sum(w.startswith(part, at) for at in range(len(w))) for w, n in words.items())
        for part in found.texts
    }
    assert counts == {"bc": 5, "ab": 4, " abc": 3}  # "abc" is always in " abc", and "abd" is there once
    assert found.counts.tolist() == [12.0, 10.0, 8.0]
    assert found.texts == [" abc", "bc", "ab"]


def test_drawn_vocabularies_spell_all_text_in_the_bytes_they_say(drawn):
    kinds = set()
    for one in drawn:
        kinds.add(type(one.tokenizer.model).__name__)
        folded = "owercase" in str(one.tokenizer.normalizer).replace("lowercase=False", "")
        for text in [*SENTENCES[::9], "Two  blanks,\nlines"]:
            ids = one.tokenizer.encode(text).ids
            assert one.unknown not in ids
            spelled = b"".join(one.tokens[number] for number in ids).decode()
            wanted = text.lower() if folded else text
            if type(one.tokenizer.model).__name__ == "WordPiece":
                spelled, wanted = spelled.replace(" ", ""), "".join(wanted.split())
            assert spelled.removeprefix(" ") == wanted
    assert kinds == {"BPE", "Unigram", "WordPiece"}


def test_their_bytes_are_those_of_the_byte_view(drawn):
    from tokenizers import decoders

    for one in drawn:
        if type(one.tokenizer.model).__name__ == "Unigram" and "Metaspace" in str(
            one.tokenizer.pre_tokenizer
        ):
            one.tokenizer.decoder = decoders.Metaspace()
        assert ByteView.of(one.tokenizer).tokens == one.tokens


def test_the_generator_alone_decides_what_is_drawn(vocabularies):
    for number in range(8):
        first, second = (vocabularies.draw(np.random.default_rng(number)) for _ in range(2))
        assert first.tokens == second.tokens
        assert first.tokenizer.to_str() == second.tokenizer.to_str()


def batches(piece, reader, vocabularies, classes=0, opened=False, size=5):
    source = Source(piece, opened, 200)
    return Batches(SENTENCES, source, reader, vocabularies, batch=size, classes=classes, seed=0)


def test_a_batch_says_where_words_end_in_both_ids(piece, reader, vocabularies):
    made = batches(piece, reader, vocabularies)[3]
    assert (made.old_ids[:, 0] == piece.cls_token_id).all()
    assert made.ends.shape[1] > 20
    pieces = made.surface.pieces[:, 0]
    assert pieces[made.new_ids[:, 0]].tolist() == [piece.cls_token_id] * len(made.new_ids)
    for row, old, new in made.ends.T.tolist():
        assert 0 < old < made.old_lengths[row] - 1
        assert 0 < new < made.new_lengths[row] - 1
    for row in range(len(made.old_ids)):
        ids = made.old_ids[row, : made.old_lengths[row]]
        tokens = piece.convert_ids_to_tokens(ids.tolist())
        ended = [at for at in range(1, len(tokens) - 1) if not tokens[at + 1].startswith("##")]
        places = made.ends[1][made.ends[0] == row]
        assert set(places.tolist()) <= set(ended)


def test_the_tokenizer_of_the_model_gives_its_own_ids_back(piece, reader):
    view = ByteView.of(piece)
    same = Vocabulary(piece.backend_tokenizer, view.tokens, view.unknown)
    made = batches(piece, reader, [same])[0]
    assert (made.new_lengths == made.old_lengths).all()
    there = np.arange(made.old_ids.shape[1]) < made.old_lengths[:, None]
    assert (made.surface.pieces[made.new_ids, 0][there] == made.old_ids[there]).all()
    assert (made.ends[1] == made.ends[2]).all()


def test_a_number_decides_its_batch(piece, reader, vocabularies):
    first, second = batches(piece, reader, vocabularies), batches(piece, reader, vocabularies)
    one, same, other = first[7], second[7], first[8]
    assert (one.new_ids == same.new_ids).all()
    assert (one.surface.pieces == same.surface.pieces).all()
    assert one.new_ids.shape != other.new_ids.shape or (one.new_ids != other.new_ids).any()


def test_tokens_of_a_softmax_stand_for_the_whole_vocabulary(piece, reader, vocabularies):
    vocabulary = vocabularies.each(300, np.random.default_rng(0))[0]
    made = batches(piece, reader, [vocabulary], classes=50)[0]
    shares = np.exp(made.log_weights.astype(np.float64))
    specials = int((made.surface.kinds == SPECIAL).sum())
    assert shares.sum() == pytest.approx(len(vocabulary.tokens) + specials)
    assert (shares > 1).sum() == 50


def test_the_tokens_of_a_batch_have_the_frequencies_of_a_sample(piece, reader, vocabularies):
    source, vocabulary = Source(piece, True, 200), vocabularies.each(300, np.random.default_rng(0))[0]
    sample, size = SENTENCES[::3], len(ByteView.of(piece))
    frequencies = Frequencies(source, sample, size)
    new, old = np.zeros(len(vocabulary.tokens)), np.zeros(size)
    for text in sample:
        np.add.at(new, vocabulary.tokenizer.encode(text).ids, 1)
        np.add.at(old, piece(text, add_special_tokens=False)["input_ids"], 1)
    assert frequencies.of(vocabulary) == pytest.approx(np.log(new / new.sum() + 1e-5))
    assert frequencies.of_pieces == pytest.approx(np.log(old / old.sum() + 1e-5))
    plan = {"batch": 3, "classes": 50, "seed": 0}
    told, untold = (
        Batches(SENTENCES, source, reader, [vocabulary], frequencies=given, **plan)[0].surface
        for given in (frequencies, None)
    )
    assert (untold.frequencies == 0).all()
    text = (told.kinds != SPECIAL) & (told.pieces[:, 0] != NONE)
    assert (told.frequencies[~text] == 0).all()
    assert (told.frequencies[text] != 0).mean() > 0.5
    assert (told.pieces == untold.pieces).all()
