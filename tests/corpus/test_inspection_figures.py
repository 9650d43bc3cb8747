"""The figures of a prepared folder against plain counts of what was put into it, and plans against the planner."""

import json
import weakref
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from text_folders import make_folder

from tersely.corpus.inspection import inspect_folder, inspected, survey
from tersely.corpus.inspection import lengths as counting
from tersely.corpus.inspection import quarantine as rejecting
from tersely.corpus.inspection.choices import Pieces, choices, chopped, cut
from tersely.corpus.inspection.lengths import LengthCounter
from tersely.errors import ShardError
from tersely.pack import Overflow, Strategy, plan
from tersely.ragged import Ragged
from tersely.shards import Packing, Shard, ShardFolder

NAMES = ("a.jsonl", "b.jsonl", "nothing.jsonl")
texts = st.binary(min_size=1, max_size=40)
shards = st.lists(st.lists(st.tuples(st.integers(0, 1), texts), max_size=12), min_size=1, max_size=3)


def odd(text):
    """Which bytes of a text are trained on."""
    return [byte % 2 == 1 for byte in text]


def plain_figures(folder, number, trained):
    """What a source gave, counted one piece after another."""
    opened = ShardFolder(folder)
    capacity = opened.manifest.packing.capacity
    tokens = learnt = 0
    padding = 0.0
    pieces = Counter()
    for row in range(opened.manifest.rows):
        stored = opened.row(row)
        filled = len(stored.input_ids.values)
        end = 0
        for place in stored.places:
            start, end = end, end + place.length
            if place.source == NAMES[number]:
                tokens += place.length
                pieces[place.document] += 1
                padding += max(capacity - filled, 0) * place.length / filled
                if trained:
                    learnt += sum(label != -100 for label in stored.labels[start:end].tolist())
    return {
        "tokens": tokens,
        "cut": sum(count > 1 for count in pieces.values()),
        "stored": len(pieces),
        "padding": padding / (padding + tokens) if tokens else 0,
        "trained": learnt / max(tokens, 1) if trained else None,
    }


@settings(max_examples=60)
@given(
    shards,
    st.sampled_from([0, 1, 7, 16, 64]),
    st.sampled_from(["best-fit", "concat", "next-fit"]),
    st.sampled_from(list(Overflow)),
    st.booleans(),
)
def test_every_figure_is_what_a_plain_count_gives(documents, capacity, strategy, overflow, trained):
    with TemporaryDirectory() as temporary:
        folder = make_folder(
            Path(temporary) / "folder",
            documents,
            names=NAMES,
            capacity=capacity,
            strategy=strategy,
            overflow=str(overflow),
            trained=odd if trained else None,
        )
        found = inspect_folder(folder)
        for number, figures in enumerate(found.sources):
            plain = plain_figures(folder, number, trained)
            given_texts = [text for shard in documents for source, text in shard if source == number]
            assert (figures.tokens, figures.cut) == (plain["tokens"], plain["cut"])
            assert figures.padding == pytest.approx(plain["padding"])
            assert figures.trained == plain["trained"]
            assert (figures.documents, figures.bytes) == (len(given_texts), sum(map(len, given_texts)))
            assert figures.dropped == len(given_texts) - plain["stored"]
            whole = sum(len(text) + 1 for text in given_texts)
            if figures.bytes_per_token is not None:
                assert figures.bytes_per_token == 1.0
                assert figures.tokens == whole
            elif given_texts:
                assert overflow is not Overflow.SPLIT
        lengths = ShardFolder(folder).document_lengths
    assert sorted(lengths.tolist()) == np.repeat(found.lengths.length, found.lengths.count).tolist()
    assert found.lengths.tokens == found.manifest.tokens == found.all_sources.tokens
    if any(documents):
        assert found.bytes_per_token == 1.0


@given(st.lists(st.integers(0, 5000) | st.integers(0, 2**40), max_size=80), st.integers(1, 1000))
def test_percentiles_are_the_least_lengths_that_suffice(values, tenths):
    counter = LengthCounter()
    counter.add(np.array(values, np.int64))
    lengths, percent = counter.lengths(), tenths / 10
    if not values:
        assert lengths.percentile(percent) == lengths.longest == 0
        return
    wanted = [v for v in sorted(values) if 1000 * sum(w <= v for w in values) >= tenths * len(values)]
    assert lengths.percentile(percent) == wanted[0]
    if sum(values):
        held = [v for v in sorted(values) if 1000 * sum(w for w in values if w <= v) >= tenths * sum(values)]
        assert lengths.token_percentile(percent) == held[0]
    assert lengths.longest == max(values)


@given(st.lists(st.integers(0, 5000) | st.integers(0, 2**40), min_size=1))
def test_every_length_is_in_the_step_of_the_histogram_that_holds_it(values):
    counter = LengthCounter()
    counter.add(np.array(values, np.int64))
    steps = counter.lengths().histogram()
    assert [step[1] for step in steps[:-1]] == [step[0] for step in steps[1:]]
    for start, stop, documents, tokens in steps:
        inside = [value for value in values if start <= value < stop]
        assert (documents, tokens) == (len(inside), sum(inside))
    assert sum(step[2] for step in steps) == len(values)
    assert steps[0][2]
    assert steps[-1][2]


@given(st.lists(st.lists(st.integers(0, 50))), st.integers(0, 20))
def test_lengths_may_come_in_amounts_of_any_size(amounts, waiting):
    counter = LengthCounter()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(counting, "_WAITING", waiting)
        for amount in amounts:
            counter.add(np.array(amount, np.int32))
        lengths = counter.lengths()
    counts = Counter(length for amount in amounts for length in amount)
    assert dict(zip(lengths.length.tolist(), lengths.count.tolist(), strict=True)) == counts


@given(
    st.lists(st.integers(1, 90), min_size=1, max_size=60),
    st.integers(1, 100),
    st.sampled_from([Strategy.BEST_FIT, Strategy.MIX, Strategy.NEXT_FIT, Strategy.CONCAT]),
    st.sampled_from(list(Overflow)),
)
def test_choices_are_what_the_planner_makes_of_the_documents(lengths, capacity, strategy, overflow):
    lengths = np.array(lengths)
    made = plan(lengths, capacity, strategy, overflow)
    sizes = made.pieces.stop - made.pieces.start
    pieces_of = np.bincount(made.pieces.document, sizes, minlength=len(lengths))
    alone = np.bincount(made.pieces.document, minlength=len(lengths)) == 1
    whole = int((alone & (pieces_of == lengths)).sum())
    expected = Pieces(len(lengths) - whole, int(sizes.sum()), float(np.square(sizes.astype(float)).sum()))
    concat = strategy is Strategy.CONCAT
    assert (chopped(lengths, capacity) if concat else cut(lengths, capacity, overflow)) == expected
    packing = Packing(capacity=capacity, strategy=str(strategy), overflow=str(overflow), seed=0)
    own = next(choice for choice in choices(lengths, int(lengths.sum()), packing) if choice.present)
    assert own.rows == len(made.bins)
    assert own.padding == pytest.approx(1 - made.efficiency)
    assert own.lost == pytest.approx(1 - made.tokens / lengths.sum())
    seen = [before for size in sizes.tolist() for before in range(size)]
    assert own.context == pytest.approx(np.mean(seen) if seen else 0)
    places = max(len(made.bins), 1) * capacity
    assert own.attention == pytest.approx(expected.squares / (places * capacity))


def test_capacities_are_those_that_make_rows_enough_and_the_folders_own():
    packing = Packing(capacity=3000, strategy="first-fit", overflow="split", seed=0)
    found = choices(np.full(100, 400), 40_000, packing)
    assert sorted({choice.capacity for choice in found}) == [512, 1024, 2048, 3000]
    assert [choice.strategy for choice in found if choice.present] == [Strategy.FIRST_FIT]
    assert choices(np.empty(0, np.int64), 0, packing) == []
    unpacked = Packing(capacity=0, strategy="best-fit", overflow="split", seed=0)
    assert {choice.capacity for choice in choices(np.array([5]), 5, unpacked)} == {512}


def test_of_many_documents_a_stretch_of_each_shard_stands_for_all(tmp_path, monkeypatch):
    monkeypatch.setattr(survey, "MOST_PLANNED", 31)
    documents = [[(0, b"x" * (7 + i % 2)) for i in range(size)] for size in (40, 1, 0, 59)]
    found = inspect_folder(make_folder(tmp_path / "many", documents, capacity=9))
    assert found.planned == 31
    rows = {choice.strategy: choice.rows for choice in found.choices if choice.present}
    assert rows == {Strategy.BEST_FIT: pytest.approx(100, abs=3)}
    everything = inspect_folder(make_folder(tmp_path / "few", documents[1:2], capacity=9))
    assert everything.planned == 1


def test_one_shard_at_a_time_is_mapped(tmp_path, monkeypatch):
    folder = make_folder(tmp_path / "folder", [[(0, b"text")]] * 20)
    real, alive, most = survey.read_shard, [], 0

    def watched(*arguments):
        nonlocal most
        shard = real(*arguments)
        alive.append(weakref.ref(shard))
        most = max(most, sum(reference() is not None for reference in alive))
        return shard

    monkeypatch.setattr(survey, "read_shard", watched)
    assert inspect_folder(folder).lengths.documents == len(alive) == 20
    assert most <= 2


def test_words_are_counted(tmp_path):
    documents = [[(0, b"three short words"), (1, b"one")], [(1, b"two words")]]
    found = inspect_folder(make_folder(tmp_path / "words", documents, names=NAMES, words=True))
    opened = ShardFolder(found.folder)
    rows = [opened.row(row) for row in range(opened.manifest.rows)]
    assert found.all_sources.words == sum(len(row.word_lengths) for row in rows)
    assert found.sources[0].words == 3 + 1
    assert found.sources[2].words == 0


@pytest.mark.parametrize("documents", [[[]], [[(0, b"x")]], [[(0, b"x" * 99)]]])
@pytest.mark.parametrize("capacity", [0, 8])
def test_odd_folders_have_figures(tmp_path, documents, capacity):
    found = inspect_folder(make_folder(tmp_path / "odd", documents, capacity=capacity, overflow="drop"))
    assert json.loads(json.dumps(found.to_dict()))["all_sources"]["documents"] == len(documents[0])
    dropped = sum(0 < capacity < len(text) for _, text in documents[0])
    assert found.lengths.documents == len(documents[0]) - dropped


def test_sources_beyond_the_largest_are_shown_together(tmp_path, monkeypatch):
    monkeypatch.setattr(inspected, "MOST_SOURCES", 2)
    names = [f"{i}.jsonl" for i in range(6)]
    documents = [[(i, b"x" * (10 * i % 7 + 1)) for i in range(6)]]
    found = inspect_folder(make_folder(tmp_path / "sources", documents, names=names))
    assert [one.name for one in found.largest] == ["2.jsonl", "4.jsonl"]
    assert found.rest.documents == 4
    assert found.rest.tokens + sum(one.tokens for one in found.largest) == found.all_sources.tokens
    assert len(found.to_dict()["by_source"]) == 6
    assert len(found.to_page_dict()["by_source"]) == 3


def reject(source, line, reason):
    return {"source": source, "line": line, "byte": 10 * line, "reason": reason, "sha256": "", "excerpt": "{"}


def test_the_quarantine_is_grouped_by_reason_without_its_numbers(tmp_path):
    lines = [reject("only", i, f"not JSON at byte {i}" if i % 3 else "no text") for i in range(1, 31)]
    found = inspect_folder(make_folder(tmp_path / "bad", [[(0, b"x")]], rejects=lines)).quarantine
    assert [(kind.reason, kind.records) for kind in found.kinds] == [
        ("not JSON at byte #", 20),
        ("no text", 10),
    ]
    assert [example.line for example in found.kinds[0].examples] == [1, 2, 4]
    assert found.kinds[0].examples[0].reason == "not JSON at byte 1"
    assert (found.records, found.others) == (30, 0)


def test_reasons_without_end_are_counted_together(tmp_path, monkeypatch):
    monkeypatch.setattr(rejecting, "_MOST_KINDS", 3)
    lines = [reject("only", i, "reason " + "x" * (i % 9)) for i in range(1, 91)]
    found = inspect_folder(make_folder(tmp_path / "bad", [[]], rejects=lines)).quarantine
    assert [kind.records for kind in found.kinds] == [10, 10, 10]
    assert found.others == 60


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda path: path.unlink(), "is missing"),
        (lambda path: path.write_text("{}\n"), "line 1, is no record"),
        (lambda path: path.write_bytes(b"\xff\n"), "line 1, is no record"),
        (lambda path: path.write_text(path.read_text() * 2), "has 2 lines, the manifest says 1"),
    ],
)
def test_a_damaged_quarantine_is_named(tmp_path, damage, words):
    folder = make_folder(tmp_path / "bad", [[]], rejects=[reject("only", 1, "r")])
    damage(folder / "quarantine.jsonl")
    with pytest.raises(ShardError, match=words):
        inspect_folder(folder)


@pytest.mark.parametrize(
    ("column", "words"), [("document_ids", "a document outside"), ("source_ids", "a source outside")]
)
def test_shards_that_name_what_is_not_there_are_refused(tmp_path, column, words, monkeypatch):
    folder = make_folder(tmp_path / "folder", [[(0, b"text")]])
    real = survey.read_shard

    def wrong(*arguments):
        columns = dict(real(*arguments).columns)
        columns[column] = Ragged(columns[column].values + 1, columns[column].offsets)
        return Shard(**columns)

    monkeypatch.setattr(survey, "read_shard", wrong)
    with pytest.raises(ShardError, match=words):
        inspect_folder(folder)
