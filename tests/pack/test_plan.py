"""Plans: nothing lost, nothing twice, nothing too full, and as few bins as the plain algorithms."""

import tarfile

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tersely import Ragged
from tersely.errors import PackError, UsageError
from tersely.pack import Overflow, PackPlan, Strategy, plan, reference
from tersely.pack.bestfit import best_fit_bins, best_fit_decreasing
from tersely.pack.inorder import _first_fit

STRATEGIES = [str(strategy) for strategy in Strategy]
LENGTHS = st.lists(st.integers(0, 40), max_size=60)


def documents_of(lengths):
    """Token ids that name their document and place."""
    return Ragged.from_rows([np.arange(n) + 1000 * i for i, n in enumerate(lengths)], np.int64)


def lognormal(n, capacity, seed=0):
    raw = np.exp(np.random.default_rng(seed).normal(np.log(400), 1.2, n))
    return np.clip(raw, 1, capacity).astype(np.int32)


@pytest.mark.parametrize("overflow", [str(member) for member in Overflow])
@pytest.mark.parametrize("strategy", STRATEGIES)
@given(lengths=LENGTHS, capacity=st.integers(1, 50), seed=st.integers(0, 3))
@settings(max_examples=60)
def test_every_token_is_in_one_bin_or_accounted_for(strategy, overflow, lengths, capacity, seed):
    made = plan(lengths, capacity, strategy, overflow, seed)
    ids = documents_of(lengths)
    rows = made.gather(ids)
    kept = np.sort(rows.values)
    waste = made.waste
    assert rows.max_seqlen <= capacity
    assert len(np.unique(kept)) == len(kept) == made.tokens
    assert made.tokens + waste.truncated_tokens + waste.dropped_tokens == sum(lengths)
    assert waste.padding_tokens == len(made.bins) * capacity - made.tokens
    assert waste.empty_documents == lengths.count(0)
    assert made.seq_lengths.values.tolist() == [
        len(piece) for piece in Ragged(rows.values, np.concatenate([[0], np.cumsum(made.seq_lengths.values)]))
    ]
    assert sorted(made.bins.values.tolist()) == list(range(len(made.pieces.document)))
    if overflow == "split" or strategy == "concat":
        assert np.array_equal(kept, np.sort(ids.values))
        assert waste.split_documents == len(
            {d for d in made.pieces.document if (made.pieces.document == d).sum() > 1}
        )
    if overflow == "truncate" and strategy != "concat":
        expected = [token for row in ids.to_list() for token in row[:capacity]]
        assert sorted(expected) == kept.tolist()
    if overflow == "drop" and strategy != "concat":
        assert waste.dropped_documents == sum(n > capacity for n in lengths)


@given(lengths=LENGTHS, capacity=st.integers(40, 60))
@example(lengths=[40] * 3 + [20] * 5 + [1] * 9, capacity=60)
def test_bulk_best_fit_needs_as_many_bins_as_the_plain_one(lengths, capacity):
    kept = [n for n in lengths if n]
    made = plan(lengths, capacity)
    plain = reference.best_fit_decreasing(kept, capacity)
    assert len(made.bins) == len(plain)
    spaces = sorted(capacity - sum(kept[piece] for piece in bin_) for bin_ in plain)
    assert (
        sorted((capacity - made.seq_lengths.take([i]).values.sum()) for i in range(len(made.bins))) == spaces
    )


@pytest.mark.parametrize("capacity", [1, 63, 64, 65, 127, 4095, 4096, 4097, 262_144, 300_000])
def test_bulk_best_fit_at_the_edges_of_its_bitmap(capacity):
    rng = np.random.default_rng(capacity)
    for high in (capacity, max(1, capacity // 7)):
        lengths = rng.integers(1, high + 1, 400).astype(np.int32)
        packed, offsets = best_fit_decreasing(lengths, capacity)
        assert len(offsets) - 1 == len(reference.best_fit_decreasing(lengths.tolist(), capacity))
        assert np.array_equal(np.sort(packed), np.arange(400))
        assert np.add.reduceat(lengths[packed], offsets[:-1]).max() <= capacity
        assert best_fit_bins(np.bincount(lengths, minlength=capacity + 1), capacity) == len(offsets) - 1


def test_bulk_best_fit_on_a_large_corpus():
    for capacity in (2048, 32_768):
        lengths = lognormal(50_000, capacity)
        assert len(plan(lengths, capacity).bins) == len(
            reference.best_fit_decreasing(lengths.tolist(), capacity)
        )


@given(lengths=st.lists(st.integers(1, 40), max_size=40), capacity=st.integers(40, 60))
def test_first_fit_equals_the_plain_one(lengths, capacity):
    plain = reference.first_fit(lengths, capacity, reference.longest_first(lengths))
    assert plan(lengths, capacity, "first-fit").bins.to_list() == plain


@given(lengths=st.lists(st.integers(1, 40), max_size=40), capacity=st.integers(40, 60))
def test_next_fit_equals_the_plain_one(lengths, capacity):
    assert plan(lengths, capacity, "next-fit").bins.to_list() == reference.next_fit(lengths, capacity)


@given(lengths=LENGTHS, capacity=st.integers(1, 50))
def test_concat_is_concatenate_and_chop(lengths, capacity):
    ids = documents_of(lengths)
    made = plan(lengths, capacity, "concat")
    chopped = [ids.values[i : i + capacity].tolist() for i in range(0, len(ids.values), capacity)]
    assert made.gather(ids).to_list() == chopped


@pytest.mark.parametrize("capacity", [2048, 8192, 32_768])
def test_mix_composes_bins_like_a_shuffled_corpus_with_the_bins_of_best_fit(capacity):
    lengths = lognormal(20_000, capacity)
    order = np.random.default_rng(1).permutation(len(lengths))
    bin_of, _ = _first_fit(lengths, order, capacity)
    best, mixed = plan(lengths, capacity), plan(lengths, capacity, "mix", seed=1)
    assert len(mixed.bins) == len(best.bins)
    counts = (np.bincount(bin_of), mixed.bins.lengths, best.bins.lengths)
    wanted, got, segregated = (np.percentile(count, [5, 50, 95]) for count in counts)
    assert np.abs(got - wanted).max() <= 0.25 * wanted[2]
    assert np.abs(segregated - wanted).max() > 0.5 * wanted[2]
    assert mixed.bins.lengths.max() < best.bins.lengths.max() / 2


def test_mix_depends_on_its_seed_and_nothing_else():
    lengths = lognormal(3000, 4096)
    first, again, other = (plan(lengths, 4096, "mix", seed=seed) for seed in (5, 5, 6))
    assert first.bins.equals(again.bins)
    assert first.fingerprint == again.fingerprint
    assert not first.bins.equals(other.bins)


@pytest.mark.parametrize("lengths", [[7], [8, 8], [1] * 50, [5] * 20, list(range(1, 9)) * 3])
def test_mix_on_corpora_with_nothing_to_mix(lengths):
    assert len(plan(lengths, 8, "mix").bins) == len(plan(lengths, 8).bins)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_no_documents(strategy):
    for lengths in ([], [0, 0]):
        made = plan(lengths, 8, strategy)
        assert len(made.bins) == 0
        assert made.efficiency == 1.0
        assert made.tokens == 0
        assert made.gather(Ragged(np.empty(0, np.uint16), np.zeros(len(lengths) + 1, int))).to_list() == []


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint32, np.int64, np.uint64])
def test_any_integer_lengths_are_taken(dtype):
    assert plan(np.array([5, 3, 8], dtype), 8).bins.to_list() == [[2], [0, 1]]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (([1], 0), "capacity 0"),
        (([1], 2**31), "capacity"),
        (([1, -2], 8), "document 1 has the negative length -2"),
        (([2**41], 8), "above"),
        (([1.5], 8), "integers"),
        (([[1]], 8), "vector"),
        (([1], 8, "worst-fit"), "'best-fit'"),
        (([1], 8, "best-fit", "wrap"), "'truncate'"),
        (([1], 8, "mix", "split", -1), "seed -1"),
    ],
)
def test_wrong_arguments_are_refused_with_what_is_allowed(arguments, words):
    with pytest.raises(UsageError, match=words):
        plan(*arguments)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_plans_can_be_saved(tmp_path, strategy):
    made = plan([5, 3, 8, 30, 0, 2], 8, strategy, seed=3)
    made.save(tmp_path / "plan.npz")
    back = PackPlan.load(tmp_path / "plan.npz")
    assert back.fingerprint == made.fingerprint
    assert back.bins.equals(made.bins)
    assert all(np.array_equal(a, b) for a, b in zip(back.pieces, made.pieces, strict=True))
    assert repr(back) == repr(made)


@pytest.mark.parametrize(
    "changes",
    [
        {"lengths": np.array([100, 100])},
        {"lengths": np.array([-1, 3])},
        {"bins": np.array([0, 0])},
        {"bins": np.array([0, 7])},
        {"bins": np.array([0.0, 1.0])},
        {"offsets": np.array([0, 5])},
        {"offsets": np.array([0, 2])},
        {"settings": np.frombuffer(b"[1]", np.uint8)},
        {"settings": np.frombuffer(b"{}", np.uint8)},
        {"settings": np.frombuffer(b"{", np.uint8)},
    ],
)
def test_plan_files_that_were_changed_are_refused(tmp_path, changes):
    plan([5, 6], 8).save(tmp_path / "plan.npz")
    with np.load(tmp_path / "plan.npz") as stored:
        content = dict(stored) | changes
    np.savez(tmp_path / "plan.npz", **content)
    with pytest.raises(PackError, match="not a saved plan"):
        PackPlan.load(tmp_path / "plan.npz")


def test_a_plan_does_not_change_with_the_buffer_it_was_made_from():
    lengths = np.full(1000, 5)
    made = plan(lengths, 8)
    fingerprint = made.fingerprint
    lengths[:] = 100_000
    assert made.pieces.stop.tolist() == [5] * 1000
    assert PackPlan(made.lengths, made.bins, 8, made.strategy, made.overflow, 0).fingerprint == fingerprint


def test_torch_ids_can_be_gathered():
    rows = plan([2, 3], 8).gather(documents_of([2, 3]).to_torch())
    assert rows.to_list() == [[1000, 1001, 1002, 0, 1]]


def test_files_that_are_no_plan_are_refused(tmp_path):
    (tmp_path / "empty.npz").write_bytes(b"")
    with pytest.raises(PackError, match="not a saved plan"):
        PackPlan.load(tmp_path / "empty.npz")
    plan([5, 6], 8).save(tmp_path / "torn.npz")
    (tmp_path / "torn.npz").write_bytes((tmp_path / "torn.npz").read_bytes()[:-30])
    with pytest.raises(PackError, match="a saved plan"):
        PackPlan.load(tmp_path / "torn.npz")
    (tmp_path / "plan.npz").write_bytes(b"something else")
    with pytest.raises(PackError, match="not a saved plan"):
        PackPlan.load(tmp_path / "plan.npz")
    with pytest.raises(PackError, match="cannot be read as a saved plan"):
        PackPlan.load(tmp_path / "missing.npz")


def test_gather_refuses_documents_that_were_not_planned():
    with pytest.raises(PackError, match="other documents"):
        plan([2, 3], 8).gather(documents_of([3, 2]))


def test_shuffling_changes_the_order_of_bins_only():
    made = plan(lognormal(500, 2048), 2048)
    shuffled = made.shuffled(1)
    assert sorted(map(tuple, shuffled.bins.to_list())) == sorted(map(tuple, made.bins.to_list()))
    assert not shuffled.bins.equals(made.bins)
    assert shuffled.bins.equals(made.shuffled(1).bins)


@pytest.mark.shared_data
def test_published_bin_packing_instances(shared):
    """Every plan is valid, none is worse than first-fit decreasing, and none beats a proven lower bound."""
    optima = {}
    for line in (shared / "fixtures/bpp/optima.tsv").read_text().splitlines()[1:]:
        fields = line.split("\t")
        optima[fields[0]] = fields
    stream = pa.CompressedInputStream(pa.OSFile(str(shared / "fixtures/bpp/instances.tar.zst")), "zstd")
    checked = 0
    with tarfile.open(fileobj=stream, mode="r|") as archive:
        for member in archive:
            if not member.isfile():
                continue
            numbers = [int(word) for word in archive.extractfile(member).read().split()]
            capacity, weights = numbers[1], np.array(numbers[2 : 2 + numbers[0]])
            for strategy in ("best-fit", "mix"):
                made = plan(weights, capacity, strategy)
                assert sorted(made.bins.values.tolist()) == list(range(len(weights)))
                assert np.add.reduceat(weights[made.bins.values], made.bins.offsets[:-1]).max() <= capacity
                assert len(made.bins) <= len(plan(weights, capacity, "first-fit").bins)
                assert len(made.bins) * capacity >= weights.sum()
            checked += 1
    assert checked == 1044 == len(optima)
