"""The loader: every document once an epoch, the same rows whatever the workers, and exact resumption."""

import itertools
import json
import pickle

import numpy as np
import pytest
from small import TEXTS
from torch.utils.data import DataLoader
from torchdata.stateful_dataloader import StatefulDataLoader

from tersely import load_tokenizer
from tersely.corpus import find_sources, prepare
from tersely.errors import FingerprintError, PackError, ShardError, UsageError
from tersely.pack import PackedCollator, PackedDataset
from tersely.tokenize import ByteTokenizer


def key(row):
    return row["input_ids"].tobytes(), row["seq_lengths"].tobytes()


def keys(rows):
    return [key(row) for row in rows]


def first(rows):
    return rows[0]


def documents_in(rows):
    tok = ByteTokenizer()
    found = []
    for row in rows:
        for part in np.split(row["input_ids"], np.cumsum(row["seq_lengths"])[:-1]):
            found += tok.decode(tok.encode([]).from_rows([part]))
    return found


@pytest.mark.parametrize("strategy", ["best-fit", "next-fit", "mix", "first-fit"])
def test_every_document_is_there_once(corpus, strategy):
    rows = list(PackedDataset(corpus, capacity=512, strategy=strategy))
    assert sorted(documents_in(rows)) == sorted(text.encode() for text in TEXTS)
    assert max(len(row["input_ids"]) for row in rows) <= 512


def test_documents_that_were_split_are_whole_again(corpus, tmp_path, write_jsonl):
    texts = ["x" * 700 + "y" * 300, "short", "z" * 513]
    out = tmp_path / "split"
    prepare(find_sources([write_jsonl([{"text": t} for t in texts], "s.jsonl")])[0], out, capacity=64)
    rows = list(PackedDataset(out, capacity=0))
    assert sorted(documents_in(rows)) == sorted(text.encode() for text in texts)
    halves = list(PackedDataset(out, capacity=500))
    assert sorted(n for row in halves for n in row["seq_lengths"]) == [1, 6, 14, 500, 500, 500]
    assert b"".join(sorted(documents_in(halves))).count(b"x") == 700


def test_the_defaults_are_those_of_the_folder(corpus):
    dataset = PackedDataset(corpus)
    assert (dataset.capacity, str(dataset.strategy), str(dataset.overflow)) == (256, "best-fit", "split")
    assert len(dataset) == len(list(dataset))


def test_seed_and_epoch_decide_the_order(corpus):
    dataset = PackedDataset(corpus, seed=1)
    rows = keys(dataset)
    assert keys(dataset) == rows
    dataset.set_epoch(1)
    again = keys(dataset)
    assert again != rows
    assert sorted(again) == sorted(rows)
    assert keys(PackedDataset(corpus, seed=2)) != rows


@pytest.mark.parametrize("workers", [0, 1, 2, 3])
def test_rows_are_the_same_with_any_number_of_workers(corpus, workers):
    dataset = PackedDataset(corpus, capacity=128)
    loader = DataLoader(dataset, batch_size=1, num_workers=workers, collate_fn=first)
    assert keys(loader) == keys(dataset)


@pytest.mark.parametrize("world_size", [1, 2, 3, 7])
def test_ranks_have_equally_many_rows_and_together_all(corpus, world_size):
    whole = keys(PackedDataset(corpus))
    shares = [keys(PackedDataset(corpus, rank=rank, world_size=world_size)) for rank in range(world_size)]
    assert len({len(share) for share in shares}) == 1
    dealt = [row for step in zip(*shares, strict=True) for row in step]
    assert dealt[: len(whole)] == whole
    assert dealt[len(whole) :] == whole[: len(dealt) - len(whole)]
    assert len(PackedDataset(corpus, world_size=world_size)) == len(shares[0])


def take(iterator, n):
    return [key(next(iterator)) for _ in range(n)]


def test_resumed_twice_it_gives_the_rows_of_an_uninterrupted_run(corpus):
    expected = keys(PackedDataset(corpus, capacity=128, seed=3))
    got, state = [], None
    for stop in (5, 9, None):
        dataset = PackedDataset(corpus, capacity=128, seed=3)
        assert dataset.state_dict()["base"] == 0
        if state:
            dataset.load_state_dict(json.loads(json.dumps(state)))
        rows = iter(dataset)
        got += take(rows, stop) if stop else keys(rows)
        state = dataset.state_dict()
    assert got == expected


@pytest.mark.parametrize("workers", [0, 2])
def test_resumed_twice_under_a_stateful_loader(corpus, workers):
    def loader():
        dataset = PackedDataset(corpus, capacity=128, seed=3)
        return StatefulDataLoader(dataset, batch_size=1, num_workers=workers, collate_fn=first)

    expected = keys(PackedDataset(corpus, capacity=128, seed=3))
    got, state = [], None
    for stop in (5, 8, None):
        fresh = loader()
        if state:
            fresh.load_state_dict(state)
        rows = iter(fresh)
        got += take(rows, stop) if stop else keys(rows)
        state = pickle.loads(pickle.dumps(fresh.state_dict()))
    assert got == expected


def test_batches_of_several_rows_resume_too(corpus):
    def loader():
        dataset = PackedDataset(corpus, capacity=128)
        return StatefulDataLoader(dataset, batch_size=3, num_workers=2, collate_fn=PackedCollator())

    expected = [batch["input_ids"].tolist() for batch in loader()]
    part = loader()
    rows = iter(part)
    got = [next(rows)["input_ids"].tolist() for _ in range(3)]
    rest = loader()
    rest.load_state_dict(part.state_dict())
    assert got + [batch["input_ids"].tolist() for batch in rest] == expected


@pytest.mark.parametrize(("before", "after", "workers"), [(1, 3, 0), (3, 2, 0), (2, 1, 2), (1, 1, 3)])
def test_a_state_of_the_main_process_fits_other_ranks_and_workers(corpus, before, after, workers):
    whole = keys(PackedDataset(corpus, capacity=128))
    old = [PackedDataset(corpus, capacity=128, rank=rank, world_size=before) for rank in range(before)]
    iterators = [iter(dataset) for dataset in old]
    steps = 4
    for _ in range(steps):
        for rows in iterators:
            next(rows)
    shares = []
    for rank in range(after):
        dataset = PackedDataset(corpus, capacity=128, rank=rank, world_size=after)
        dataset.load_state_dict(old[0].state_dict())
        shares.append(keys(DataLoader(dataset, batch_size=1, num_workers=workers, collate_fn=first)))
    dealt = [row for step in zip(*shares, strict=True) for row in step]
    left = whole[steps * before :]
    assert dealt[: len(left)] == left
    assert len(dealt) - len(left) < after


def test_a_state_at_the_end_of_an_epoch_leads_into_the_next(corpus):
    dataset = PackedDataset(corpus)
    rows = iter(dataset)
    for _ in range(len(dataset)):
        next(rows)
    resumed = PackedDataset(corpus)
    resumed.load_state_dict(dataset.state_dict())
    assert resumed.state_dict() == dataset.state_dict()
    assert keys(resumed) == []
    resumed.set_epoch(1)
    dataset.set_epoch(1)
    assert keys(resumed) == keys(dataset) != []


def test_states_of_other_plans_are_refused(corpus):
    state = PackedDataset(corpus, capacity=128).state_dict()
    for other in (dict(capacity=129), dict(capacity=128, seed=1), dict(capacity=128, strategy="mix")):
        with pytest.raises(PackError, match="another plan"):
            PackedDataset(corpus, **other).load_state_dict(state)
    with pytest.raises(PackError, match="version"):
        PackedDataset(corpus, capacity=128).load_state_dict(state | {"version": 9})


def test_a_worker_state_refuses_another_number_of_workers(corpus):
    def loader(workers):
        dataset = PackedDataset(corpus, capacity=128)
        return StatefulDataLoader(dataset, batch_size=1, num_workers=workers, collate_fn=first)

    part = loader(2)
    next(iter(part))
    worker_states = [
        state["fetcher_state"]["dataset_iter_state"] or state["dataset_state"]
        for state in part.state_dict()["_snapshot"]["_worker_snapshots"].values()
    ]
    dataset = PackedDataset(corpus, capacity=128)
    dataset.load_state_dict(next(state for state in worker_states if state and state["workers"] == 2))
    with pytest.raises(PackError, match="num_workers"):
        next(iter(dataset))


def test_a_folder_of_another_tokenizer_is_refused(corpus):
    PackedDataset(corpus, tokenizer=load_tokenizer(corpus / "tokenizer"))
    with pytest.raises(FingerprintError, match="bytes"):
        PackedDataset(corpus, tokenizer=ByteTokenizer("blt"))


def test_folders_that_are_none_are_refused(corpus, tmp_path):
    with pytest.raises(ShardError, match="no such folder"):
        PackedDataset(tmp_path / "missing")
    (corpus / "data-00000-00000.arrow").write_bytes(b"short")
    with pytest.raises(ShardError, match="bytes, the manifest says"):
        PackedDataset(corpus)


def test_ranks_that_do_not_exist_are_refused(corpus):
    with pytest.raises(UsageError, match="rank 2"):
        PackedDataset(corpus, rank=2, world_size=2)


def test_an_empty_corpus_has_no_rows(tmp_path, write_jsonl):
    out = tmp_path / "empty"
    prepare(find_sources([write_jsonl([{"text": ""}])])[0], out)
    assert list(PackedDataset(out)) == []
    assert list(PackedDataset(out, capacity=0)) == []
    assert len(PackedDataset(out, world_size=2)) == 0


def test_it_reaches_worker_processes_without_its_plan(corpus):
    dataset = PackedDataset(corpus)
    expected = keys(dataset)
    sent = pickle.dumps(dataset)
    assert len(sent) < 2000
    assert keys(pickle.loads(sent)) == expected


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_as_a_datasets_iterable_it_has_the_same_rows_in_every_epoch(corpus, workers):
    mine, theirs = PackedDataset(corpus, capacity=128), PackedDataset(corpus, capacity=128).to_hf()
    for epoch in (0, 1, 2):
        mine.set_epoch(epoch)
        theirs.set_epoch(epoch)
        loader = DataLoader(theirs, batch_size=1, num_workers=workers, collate_fn=first)
        assert [row["input_ids"] for row in loader] == [row["input_ids"].tolist() for row in mine]


def test_each_iterator_starts_at_the_beginning_and_a_state_serves_once(corpus):
    dataset = PackedDataset(corpus, capacity=128)
    rows = keys(dataset)
    assert take(iter(dataset), 3) == take(iter(dataset), 3) == rows[:3]
    state = dataset.state_dict()
    dataset.load_state_dict(state)
    dataset.set_epoch(0)
    assert dataset.state_dict() == state
    assert keys(dataset) == rows[3:]
    assert keys(dataset) == rows
    dataset.load_state_dict(state)
    dataset.set_epoch(1)
    assert len(keys(dataset)) == len(rows)


def test_workers_that_live_on_see_the_epoch(corpus):
    dataset = PackedDataset(corpus, capacity=128)
    loader = DataLoader(dataset, batch_size=1, num_workers=2, collate_fn=first, persistent_workers=True)
    for epoch in (0, 1, 2):
        dataset.set_epoch(epoch)
        assert keys(loader) == keys(dataset)


def test_a_datasets_iterable_resumes_by_its_own_state(corpus):
    expected = [row["input_ids"].tolist() for row in PackedDataset(corpus, capacity=128)]
    rows = PackedDataset(corpus, capacity=128).to_hf()
    part = [row["input_ids"] for row in itertools.islice(rows, 3)]
    state = rows.state_dict()
    rows.load_state_dict(state)
    assert part + [row["input_ids"] for row in rows] == expected


def test_states_are_json_whatever_integers_came_in(corpus):
    state = PackedDataset(corpus, np.int64(128), seed=np.int64(3)).state_dict()
    assert json.loads(json.dumps(state)) == state


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(("first_rows", "second_rows"), [(5, 0), (5, 1), (0, 3), (4, 2)])
def test_states_saved_shortly_after_resuming_are_right(corpus, workers, first_rows, second_rows):
    def loader():
        dataset = PackedDataset(corpus, capacity=128)
        return StatefulDataLoader(dataset, batch_size=1, num_workers=workers, collate_fn=first)

    expected, got, state = keys(PackedDataset(corpus, capacity=128)), [], None
    for stop in (first_rows, second_rows, None):
        fresh = loader()
        if state:
            fresh.load_state_dict(state)
        rows = iter(fresh)
        got += keys(rows) if stop is None else take(rows, stop)
        state = pickle.loads(pickle.dumps(fresh.state_dict()))
    assert got == expected


def test_a_state_is_that_of_the_iterator_from_its_first_moment(corpus):
    dataset, resumed = PackedDataset(corpus, capacity=128), PackedDataset(corpus, capacity=128)
    take(iter(dataset), 4)
    resumed.load_state_dict(dataset.state_dict())
    iter(resumed)
    assert resumed.state_dict()["base"] == 4
    keys(dataset)
    iter(dataset)
    assert dataset.state_dict()["base"] == 0


@pytest.mark.parametrize("workers", [0, 2])
def test_after_a_state_of_an_ended_epoch_comes_the_epoch_that_was_set(corpus, workers):
    def loader():
        dataset = PackedDataset(corpus, capacity=128)
        return dataset, StatefulDataLoader(dataset, batch_size=1, num_workers=workers, collate_fn=first)

    _, ended = loader()
    list(ended)
    dataset, resumed = loader()
    resumed.load_state_dict(ended.state_dict())
    dataset.set_epoch(1)
    expected = PackedDataset(corpus, capacity=128)
    expected.set_epoch(1)
    assert keys(resumed) == keys(expected)


def test_states_that_lack_something_are_refused(corpus):
    state = PackedDataset(corpus).state_dict()
    del state["base"]
    with pytest.raises(PackError, match="lacks base"):
        PackedDataset(corpus).load_state_dict(state)


def test_a_changed_id_is_found_on_request(corpus):
    path = corpus / "data-00000-00000.arrow"
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)
    assert len(list(PackedDataset(corpus))) > 0
    with pytest.raises(ShardError, match="its bytes have changed"):
        PackedDataset(corpus, verify=True)
