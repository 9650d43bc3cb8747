"""Packed batches: the right numbers, no loss across a boundary, padding that is no document."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small import tiny_llama
from torch.utils.data import DataLoader

from tersely.errors import PackError
from tersely.pack import PackedCollator, PackedDataset

ROWS = st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=5), min_size=1, max_size=4)


def rows_of(lengths):
    """Rows of documents of these lengths; tokens count up from 1."""
    rows, token = [], 1
    for row in lengths:
        rows.append({"input_ids": np.arange(token, token + sum(row), dtype=np.uint16), "seq_lengths": row})
        token += sum(row)
    return rows


@given(lengths=ROWS, multiple=st.sampled_from([None, 1, 4, 64]))
def test_every_key_says_what_the_documents_are(lengths, multiple):
    batch = PackedCollator(pad_to_multiple_of=multiple)(rows_of(lengths))
    flat = [n for row in lengths for n in row]
    total = sum(flat)
    padding = -total % (multiple or 1)
    segments = flat + [padding] * (padding > 0)
    assert batch["input_ids"].tolist() == [list(range(1, total + 1)) + [0] * padding]
    assert batch["position_ids"].tolist() == [[place for n in segments for place in range(n)]]
    assert batch["seq_idx"].tolist() == [[i for i, n in enumerate(segments) for _ in range(n)]]
    assert batch["cu_seq_lens_q"].tolist() == np.cumsum([0, *segments]).tolist()
    assert torch.equal(batch["cu_seq_lens_q"], batch["cu_seq_lens_k"])
    assert (batch["max_length_q"], batch["max_length_k"]) == (max(segments),) * 2
    assert type(batch["max_length_q"]) is int
    assert batch["cu_seq_lens_q"].dtype == batch["seq_idx"].dtype == torch.int32
    assert batch["input_ids"].dtype == batch["labels"].dtype == torch.int64
    labels, token = [], 1
    for n in flat:
        labels += [-100, *range(token + 1, token + n)]
        token += n
    assert batch["labels"].tolist() == [labels + [-100] * padding]


def test_padding_is_one_segment_without_labels_and_not_one_for_each_token():
    batch = PackedCollator(pad_to_multiple_of=8, pad_id=7)(rows_of([[3, 2]]))
    assert batch["input_ids"].tolist() == [[1, 2, 3, 4, 5, 7, 7, 7]]
    assert batch["cu_seq_lens_q"].tolist() == [0, 3, 5, 8]
    assert batch["position_ids"].tolist() == [[0, 1, 2, 0, 1, 0, 1, 2]]
    assert batch["labels"].tolist() == [[-100, 2, 3, -100, 5, -100, -100, -100]]


def test_padding_changes_no_document():
    model = tiny_llama().eval()
    plain, padded = PackedCollator(model), PackedCollator(model, pad_to_multiple_of=64, pad_id=9)
    with torch.no_grad():
        before, after = (
            model(**collate(rows_of([[7, 20, 1]])), use_cache=True) for collate in (plain, padded)
        )
    assert torch.allclose(before.logits, after.logits[:, :28], atol=1e-6)
    assert torch.allclose(before.loss, after.loss, atol=1e-6)


def test_given_labels_are_kept_but_for_the_first_of_a_document():
    row = {"input_ids": [5, 6, 7, 8], "labels": [-100, 6, 70, 80], "seq_lengths": [2, 2]}
    assert PackedCollator()([row])["labels"].tolist() == [[-100, 6, -100, 80]]


def test_rows_with_labels_and_rows_without_go_into_one_batch():
    masked = {
        "input_ids": np.array([5, 6, 7], np.uint16),
        "labels": np.array([5, -100, 7], np.int32),
        "seq_lengths": np.array([3], np.int32),
    }
    batch = PackedCollator(pad_to_multiple_of=4, pad_id=9)(
        [masked, {"input_ids": [1, 2], "seq_lengths": [1, 1]}]
    )
    assert batch["labels"].tolist() == [[-100, -100, 7, -100, -100, -100, -100, -100]]
    assert batch["labels"].dtype == torch.int64


def test_rows_may_be_lists_arrays_or_tensors():
    rows = [
        {"input_ids": [1, 2], "seq_lengths": [2]},
        {"input_ids": torch.tensor([3]), "seq_lengths": torch.tensor([1])},
        {"input_ids": np.array([4, 5], np.uint8), "seq_lengths": np.array([1, 1])},
    ]
    assert PackedCollator()(rows)["cu_seq_lens_q"].tolist() == [0, 2, 3, 4, 5]


def test_split_gives_the_tokens_of_each_segment():
    batch = PackedCollator()(rows_of([[2, 3]]))
    assert [part.tolist() for part in batch.split(batch["input_ids"])] == [[1, 2], [3, 4, 5]]
    assert batch.to("cpu")["input_ids"].tolist() == batch["input_ids"].tolist()


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([{"input_ids": [1, 2], "seq_lengths": [3]}], "row 0 has 2 ids"),
        ([{"input_ids": [1, 2], "labels": [1], "seq_lengths": [2]}], "1 labels"),
        ([{"input_ids": [1, 2]}], "remove_unused_columns=False"),
        ([{"input_ids": [1, 2], "seq_lengths": None}], "no seq_lengths"),
        ([{"input_ids": [1, 2], "seq_lengths": [3, -1]}], "sum to 2"),
        ([{"input_ids": [], "seq_lengths": []}], "no tokens"),
        ([], "no tokens"),
    ],
)
def test_rows_that_do_not_fit_are_refused(rows, words):
    with pytest.raises(PackError, match=words):
        PackedCollator()(rows)


def test_the_mask_is_the_one_the_attention_needs():
    rows = rows_of([[2, 3]])
    eager = PackedCollator(tiny_llama("eager"))(rows)["attention_mask"]
    assert eager.dtype == torch.float32
    sdpa = PackedCollator(tiny_llama("sdpa"))(rows)["attention_mask"]
    assert sdpa.dtype == torch.bool
    block = torch.block_diag(torch.ones(2, 2), torch.ones(3, 3)).tril().bool()
    assert torch.equal(sdpa[0, 0], block)
    assert torch.equal(eager[0, 0] == 0, block)
    assert type(PackedCollator(tiny_llama("flex_attention"))(rows)["attention_mask"]).__name__ == "BlockMask"
    assert "attention_mask" not in PackedCollator()(rows)


def test_attention_without_a_mask_is_refused_and_not_trusted():
    from transformers import AttentionInterface
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    AttentionInterface.register("mine", sdpa_attention_forward)
    collate = PackedCollator(tiny_llama("mine"))
    assert "attention_mask" not in collate(rows_of([[5]]))  # one document has nobody to see
    with pytest.raises(PackError, match="no mask for the attention 'mine'"):
        collate(rows_of([[2, 3]]))


def test_models_that_cannot_be_packed_are_refused_by_name():
    from transformers import FalconConfig, FalconForCausalLM

    small = dict(vocab_size=64, hidden_size=32, num_hidden_layers=1, num_attention_heads=2)
    with pytest.raises(PackError, match="ALiBi"):
        PackedCollator(FalconForCausalLM(FalconConfig(**small, alibi=True)))
    model = tiny_llama()
    model.config.output_router_logits = True
    with pytest.raises(PackError, match="output_router_logits"):
        PackedCollator(model)


def test_models_that_attend_both_ways_are_refused_by_name():
    from transformers import BertConfig, BertForMaskedLM, T5Config, T5ForConditionalGeneration

    small = dict(
        vocab_size=64, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32
    )
    with pytest.raises(PackError, match="BertForMaskedLM"):
        PackedCollator(BertForMaskedLM(BertConfig(**small)))
    with pytest.raises(PackError, match="T5ForConditionalGeneration"):
        config = T5Config(vocab_size=64, d_model=32, d_kv=8, d_ff=32, num_layers=1, num_heads=2)
        PackedCollator(T5ForConditionalGeneration(config))


@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_the_collator_works_in_worker_processes_where_its_mask_can(corpus, context):
    sdpa, flex = PackedCollator(tiny_llama("sdpa")), PackedCollator(tiny_llama("flex_attention"))
    dataset = PackedDataset(corpus)
    loader = DataLoader(dataset, 2, num_workers=1, collate_fn=sdpa, multiprocessing_context=context)
    batch = next(iter(loader))
    assert batch["attention_mask"].shape[-1] == batch["input_ids"].shape[-1]
    loader = DataLoader(dataset, 2, num_workers=1, collate_fn=flex, multiprocessing_context=context)
    with pytest.raises(PackError, match="num_workers=0"):
        next(iter(loader))
