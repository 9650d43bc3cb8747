"""Rows made of rows of shared tokens: by pursuit in a donor's space, and by the company that tokens keep."""

import numpy as np
import pytest
import torch
from small import tiny_llama
from small_tokenizers import SENTENCES, byte_fallback, byte_level, fast, wordpiece

from tersely.embeddings import swap_tokenizer
from tersely.embeddings.transfer.cooccurrence import OFTEN, WINDOW, token_vectors
from tersely.embeddings.transfer.match import ORIGINS, Match, Origin
from tersely.embeddings.transfer.methods import Focus, Mean, Omp, TableName
from tersely.embeddings.transfer.methods.focus import sparsemax
from tersely.embeddings.transfer.methods.omp import pursue, pursue_plainly
from tersely.embeddings.transfer.pieces import Decomposition
from tersely.embeddings.transfer.vocabulary import ByteView
from tersely.errors import EmbeddingError, UsageError

TEXTS = SENTENCES[::2]
GPT2_PARTS = {"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>"}
INPUTS = TableName.INPUTS


class Pair:
    """Two vocabularies, and a random table for the old one."""

    def __init__(self, old, new):
        self.old, self.new = ByteView.of(old), ByteView.of(new)
        self.match = Match.of(self.old, Decomposition(old, self.old), self.new, {})
        self.table = np.random.default_rng(0).normal(size=(len(self.old), 9)).astype(np.float32)
        self.spelled = np.array([bool(spelling) for spelling in self.new.spellings])
        single = self.match.pieces.lengths == 1
        self.shared = np.flatnonzero(self.match.where(Origin.COPIED, Origin.COMPOSED) & single)
        self.free = np.flatnonzero(self.match.where(Origin.COMPOSED) & ~single)

    def old_row(self, number):
        (piece,) = self.match.pieces[int(number)]
        return self.table[piece]


@pytest.fixture(scope="module")
def pair():
    return Pair(wordpiece(90), byte_level(500, [text.lower() for text in TEXTS]))


@pytest.fixture(scope="module")
def source():
    return fast(byte_level(), **GPT2_PARTS)


@pytest.fixture(scope="module")
def target():
    return byte_fallback()


def llama(size, **settings):
    settings = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": None} | settings
    return tiny_llama(vocab_size=size, **settings)


@pytest.mark.parametrize(
    ("atoms", "dimensions", "count"), [(60, 20, 8), (40, 12, 12), (5, 20, 8), (300, 50, 40)]
)
def test_many_rows_are_pursued_as_each_would_be_alone(atoms, dimensions, count):
    generator = np.random.default_rng(atoms)
    dictionary = generator.normal(size=(atoms, dimensions)) * generator.uniform(0.2, 3, size=(atoms, 1))
    wanted = generator.normal(size=(7, dimensions))
    chosen, values = pursue(torch.tensor(dictionary), torch.tensor(wanted), count)
    for row, (found, coefficients) in enumerate(zip(chosen.tolist(), values.numpy(), strict=True)):
        expected, plain = pursue_plainly(dictionary, wanted[row], count)
        assert found == expected
        np.testing.assert_allclose(coefficients, plain, atol=1e-8)


def test_a_pursuit_ends_where_nothing_is_missing():
    generator = np.random.default_rng(0)
    dictionary = torch.tensor(np.vstack([np.eye(10), np.zeros((1, 10))]), dtype=torch.float32)
    wanted = torch.tensor(
        generator.permuted(np.tile([3.0, -2.0] + [0.0] * 8, (4, 1)), axis=1), dtype=torch.float32
    )
    wanted[3] = 0
    chosen, values = pursue(dictionary, wanted, 6)
    assert (values != 0).sum(1).tolist() == [2, 2, 2, 0]
    made = torch.einsum("tk,tkd->td", values, dictionary[chosen])
    assert torch.equal(made, wanted)


def test_a_row_that_a_donor_makes_of_shared_rows_is_made_of_them_here_too(pair):
    free = pair.free
    donor = np.random.default_rng(1).normal(size=(len(pair.new), 64)).astype(np.float32)
    first, second = pair.shared[3], pair.shared[8]
    for number in free:
        donor[number] = 2 * donor[first] - 0.5 * donor[second]
    made = Omp(pair.match, torch.from_numpy(donor), pair.spelled, 4)
    rows = made.rows(pair.table, INPUTS)
    expected = 2 * pair.old_row(first) - 0.5 * pair.old_row(second)
    assert len(free) > 20
    for number in free:
        np.testing.assert_allclose(rows[number], expected, atol=1e-5)
        assert ORIGINS[made.origins[number]] is Origin.DONATED


def test_blocks_do_not_change_what_is_found(pair, monkeypatch):
    donor = torch.randn(len(pair.new), 16, generator=torch.Generator().manual_seed(0))
    whole = Omp(pair.match, donor, pair.spelled, 5).rows(pair.table, INPUTS)
    monkeypatch.setattr("tersely.embeddings.transfer.methods.omp._BLOCK", 1000)
    np.testing.assert_allclose(
        Omp(pair.match, donor, pair.spelled, 5).rows(pair.table, INPUTS), whole, atol=1e-4
    )


def test_sparsemax_is_the_nearest_point_of_the_simplex():
    from scipy.optimize import minimize

    scores = np.random.default_rng(0).normal(size=(6, 5))
    scores[4], scores[5] = 0.3, [9, 0, 0, 0, 0]
    for row, found in zip(scores, sparsemax(scores), strict=True):
        nearest = minimize(
            lambda point, row=row: np.square(point - row).sum(),
            np.full(5, 0.2),
            bounds=[(0, 1)] * 5,
            constraints={"type": "eq", "fun": lambda point: point.sum() - 1},
            tol=1e-12,
        )
        np.testing.assert_allclose(found, nearest.x, atol=1e-6)


def test_vectors_are_those_of_dense_counts(source):
    rows = source(TEXTS)["input_ids"]
    counts = np.zeros((len(source), len(source)))
    for row in rows:
        for place, number in enumerate(row):
            for other in row[max(place - WINDOW, 0) : place] + row[place + 1 : place + 1 + WINDOW]:
                counts[number, other] += 1
    seen = np.bincount(np.concatenate(rows), minlength=len(source))
    kept = np.flatnonzero(seen >= OFTEN)
    counts = counts[kept][:, kept]
    context = counts.sum(0) ** 0.75
    with np.errstate(divide="ignore"):
        mutual = np.log(counts / counts.sum(1, keepdims=True) / (context / context.sum()))
    left, values, _ = np.linalg.svd(np.maximum(mutual, 0))
    vectors = token_vectors(source, TEXTS, len(source))
    expected = (left * np.sqrt(values))[:, : vectors.shape[1]]
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    # Signs and turns of the axes are free: what is compared is every cosine.
    np.testing.assert_allclose(vectors[kept] @ vectors[kept].T, expected @ expected.T, atol=1e-3)
    assert not vectors[np.setdiff1d(np.arange(len(source)), kept)].any()


def test_a_row_is_the_sparsemax_mean_of_similar_rows(pair):
    vectors = np.random.default_rng(2).normal(size=(len(pair.new), 12)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    free = pair.free
    vectors[free[0]] = 0
    vectors[pair.shared[0]] = 0
    focus = Focus(pair.match, vectors)
    rows, mean = focus.rows(pair.table, INPUTS), Mean(pair.match).rows(pair.table, INPUTS)
    assert (rows[free[0]] == mean[free[0]]).all()
    old = np.stack([pair.old_row(number) for number in pair.shared[1:]])
    for number in free[1:10]:
        cosines = vectors[pair.shared[1:]] @ vectors[number]
        np.testing.assert_allclose(rows[number], sparsemax(cosines[None])[0] @ old, atol=1e-5)
        assert ORIGINS[focus.origins[number]] is Origin.SIMILAR


@pytest.mark.parametrize("method", ["omp", "focus"])
def test_shared_tokens_keep_their_rows_whatever_the_others_get(source, target, method):
    model, old = (llama(len(source)) for _ in range(2))
    more = {"donor": llama(len(ByteView.of(target)))} if method == "omp" else {}
    model, report = swap_tokenizer(model, source, target, method, SENTENCES, **more)
    origin = "donated" if method == "omp" else "similar"
    assert report.counts[origin] > 10
    view = ByteView.of(source)
    for get in ("get_input_embeddings", "get_output_embeddings"):
        rows, old_rows = getattr(model, get)().weight, getattr(old, get)().weight
        for number, token in enumerate(ByteView.of(report.tokenizer).tokens):
            if ORIGINS[report.origins[number]] is Origin.COPIED:
                assert any(torch.equal(rows[number], old_rows[same]) for same in view.ids[token])
    assert torch.isfinite(model.get_input_embeddings().weight).all()


@pytest.mark.parametrize("method", ["omp", "focus"])
def test_the_same_tokenizer_changes_nothing_by_these_either(source, method):
    model, old = (llama(len(source)) for _ in range(2))
    more = {"donor": llama(len(source))} if method == "omp" else {}
    model, _ = swap_tokenizer(model, source, source, method, SENTENCES, **more)
    for name, part in old.state_dict().items():
        assert torch.equal(model.state_dict()[name], part), name


def test_a_donor_may_be_a_folder(source, target, tmp_path):
    donor = llama(len(ByteView.of(target)))
    donor.save_pretrained(tmp_path / "donor")
    (there, _), (here, _) = (
        swap_tokenizer(llama(len(source)), source, target, "omp", donor=one)
        for one in (donor, tmp_path / "donor")
    )
    assert torch.equal(there.get_input_embeddings().weight, here.get_input_embeddings().weight)
    fast(target).save_pretrained(tmp_path / "donor")
    swap_tokenizer(llama(len(source)), source, target, "omp", donor=tmp_path / "donor")
    fast(byte_fallback(440)).save_pretrained(tmp_path / "donor")
    with pytest.raises(EmbeddingError, match="another tokenizer"):
        swap_tokenizer(llama(len(source)), source, target, "omp", donor=tmp_path / "donor")


def test_what_these_methods_lack_is_said(source, target):
    with pytest.raises(UsageError, match="give method='omp', donor=MODEL"):
        swap_tokenizer(llama(len(source)), source, target, "omp")
    with pytest.raises(UsageError, match="give method='omp', donor=MODEL"):
        swap_tokenizer(llama(len(source)), source, target, "mean", donor=llama(len(source)))
    with pytest.raises(UsageError, match="'focus' learns from words"):
        swap_tokenizer(llama(len(source)), source, target, "focus")
    with pytest.raises(EmbeddingError, match="that it was trained with"):
        swap_tokenizer(llama(len(source)), source, target, "omp", donor=llama(20))
    with pytest.raises(EmbeddingError, match="describes no model"):
        swap_tokenizer(llama(len(source)), source, target, "omp", donor="/nowhere/at/all")
    with pytest.raises(EmbeddingError, match="frequent in the corpus"):
        swap_tokenizer(llama(len(source)), source, target, "focus", TEXTS[:2])


def test_vocabularies_with_nothing_in_common_are_refused(pair):
    none = Match(
        pair.match.pieces,
        np.full(len(pair.new), ORIGINS.index(Origin.AVERAGE), np.uint8),
        pair.match.ordinary,
    )
    with pytest.raises(EmbeddingError, match="share no token"):
        Omp(none, torch.ones(len(pair.new), 4), pair.spelled)


def test_what_the_old_tokenizer_takes_for_its_own_token_keeps_that_row_and_serves_others():
    """A vocabulary with capitals, where the old one lowers them."""
    pair = Pair(wordpiece(300), byte_level(500))
    capital = pair.new.tokens.index(b"The")
    assert b"The" not in pair.old.ids
    assert pair.match.alike()[capital]
    expected = pair.table[pair.old.ids[b" the"][0]]
    generator = np.random.default_rng(3)
    vectors = generator.normal(size=(len(pair.new), 16)).astype(np.float32)
    free = pair.free
    vectors[free] = 2 * vectors[capital]
    donated = Omp(pair.match, torch.from_numpy(vectors), pair.spelled, 3)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    similar = Focus(pair.match, vectors / lengths)
    for made, factor in ((donated, 2), (similar, None)):
        rows = made.rows(pair.table, INPUTS)
        assert (rows[capital] == expected).all()
        assert ORIGINS[made.origins[capital]] is Origin.COMPOSED
        if factor:
            np.testing.assert_allclose(rows[free], np.tile(factor * expected, (len(free), 1)), atol=1e-5)
    assert len(free) > 5
