"""attn_implementation="tersely": the results of eager attention, for padded and packed batches, training and generating."""

import pytest
import torch
import torch._dynamo.testing
from families import DECODERS, small
from small import tiny_llama

from tersely.errors import KernelError
from tersely.kernels import Boundaries, register_with_transformers
from tersely.pack import PackedCollator, check_isolation

LENGTHS = (23, 40, 1, 17)


@pytest.fixture(autouse=True, scope="module")
def _registered():
    register_with_transformers()


def padded(side, lengths=LENGTHS, vocabulary=96):
    generator = torch.Generator().manual_seed(1)
    mask = torch.zeros(len(lengths), max(lengths), dtype=torch.int64)
    for row, length in zip(mask, lengths, strict=True):
        row[:length] = 1
        if side == "left":
            row.copy_(row.flip(0))
    ids = torch.randint(2, vocabulary, mask.shape, generator=generator) * mask
    return ids, mask


@pytest.mark.parametrize(
    ("family", "side"), [(family, ("left", "right")[i % 2]) for i, family in enumerate(DECODERS)]
)
def test_padded_batches_give_what_eager_attention_gives(family, side):
    ids, mask = padded(side)
    results = []
    for attention in ("eager", "tersely"):
        model = small(family, attention)
        logits = model(input_ids=ids, attention_mask=mask).logits
        loss = torch.logsumexp(logits[mask.bool()], -1).sum()
        loss.backward()
        results.append((logits[mask.bool()], [p.grad for p in model.parameters() if p.grad is not None]))
    assert torch.allclose(results[0][0], results[1][0], atol=2e-5)
    for a, b in zip(results[0][1], results[1][1], strict=True):
        assert torch.allclose(a, b, atol=1e-4 * max(1.0, float(a.abs().max())))


@pytest.mark.parametrize("family", DECODERS)
def test_packed_rows_do_not_leak_in_any_mode(family):
    model = small(family, "tersely")
    for collator in (None, without_boundaries(PackedCollator())):
        report = check_isolation(model, collator, lengths=(7, 12), training=(False,))
        assert report, str(report)


def without_boundaries(collator):
    """Rows whose documents show in their position ids only."""

    def collate(rows):
        batch = collator(rows)
        return {key: batch[key] for key in ("input_ids", "position_ids")}

    return collate


def test_an_all_ones_mask_does_not_join_packed_documents():
    model = tiny_llama("tersely").eval()
    documents = [torch.randint(2, 384, (n,)) for n in (9, 30)]
    packed = PackedCollator()([{"input_ids": torch.cat(documents), "seq_lengths": [9, 30]}])
    ids, positions = packed["input_ids"], packed["position_ids"]
    logits = model(input_ids=ids, position_ids=positions, attention_mask=torch.ones_like(ids)).logits[0]
    alone = torch.cat([model(input_ids=d[None]).logits[0] for d in documents])
    assert torch.allclose(logits, alone, atol=1e-5)


@pytest.mark.parametrize("family", ["Llama", "Gemma2", "GptOss", "Mistral"])
def test_generation_gives_the_tokens_of_eager_attention(family):
    ids, mask = padded("left", (5, 12, 1))
    generated = [
        small(family, attention).generate(
            input_ids=ids, attention_mask=mask, max_new_tokens=12, do_sample=False, eos_token_id=None
        )
        for attention in ("eager", "tersely")
    ]
    assert torch.equal(*generated)


def test_a_prompt_continued_in_pieces_gives_what_it_gives_whole():
    model = tiny_llama("tersely").eval()
    ids = torch.randint(2, 384, (2, 60))
    whole = model(input_ids=ids).logits
    cache, parts = None, []
    for part in (ids[:, :20], ids[:, 20:55], ids[:, 55:]):
        out = model(input_ids=part, past_key_values=cache, use_cache=True)
        cache = out.past_key_values
        parts.append(out.logits)
    assert torch.allclose(torch.cat(parts, 1), whole, atol=1e-5)


@pytest.mark.parametrize("side", ["left", "right"])
def test_encoders_see_both_ways_and_no_padding(side):
    ids, mask = padded(side)
    results = []
    for attention in ("eager", "tersely"):
        model = small("Bert", attention, "Model", hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
        results.append(model(input_ids=ids, attention_mask=mask).last_hidden_state[mask.bool()])
    assert torch.allclose(*results, atol=1e-5)


def test_bidirectional_windows_are_those_of_eager_attention():
    ids, mask = padded("right")
    changes = dict(
        local_attention=8, global_attn_every_n_layers=2, num_hidden_layers=2, cls_token_id=2, sep_token_id=3
    )
    results = [
        small("ModernBert", attention, "Model", **changes)(
            input_ids=ids, attention_mask=mask
        ).last_hidden_state[mask.bool()]
        for attention in ("eager", "tersely")
    ]
    assert torch.allclose(*results, atol=1e-5)


def test_holes_in_a_mask_are_refused_by_name():
    model = tiny_llama("tersely")
    mask = torch.tensor([[1, 1, 0, 1, 1]])
    with pytest.raises(KernelError, match="padding between real tokens"):
        model(input_ids=torch.ones_like(mask), attention_mask=mask)


def test_four_dimensional_masks_are_refused_by_name():
    model = tiny_llama("tersely")
    ids = torch.ones(1, 5, dtype=torch.int64)
    with pytest.raises(KernelError, match="give a 2-D mask"):
        model(input_ids=ids, attention_mask=torch.zeros(1, 1, 5, 5))


def test_dropout_of_weights_is_refused_by_name():
    model = tiny_llama("tersely", attention_dropout=0.1).train()
    with pytest.raises(KernelError, match="attention_dropout"):
        model(input_ids=torch.ones(1, 5, dtype=torch.int64))


def test_masks_of_other_shapes_are_refused_by_name():
    from transformers.masking_utils import causal_mask_function, chunked_causal_mask_function, or_masks

    from tersely.kernels.transformers import document_numbers

    chunked = chunked_causal_mask_function(4, torch.zeros(1, dtype=torch.int64))
    for mask_function in (chunked, or_masks(causal_mask_function, causal_mask_function)):
        with pytest.raises(KernelError, match="does not know"):
            document_numbers(kv_length=8, mask_function=mask_function)


def test_a_model_compiles_without_graph_breaks_for_packed_rows_of_all_lengths():
    torch._dynamo.reset()
    counter = torch._dynamo.testing.CompileCounterWithBackend("aot_eager")
    plain = tiny_llama("tersely")
    compiled = torch.compile(plain, backend=counter, fullgraph=True)
    for lengths in ([20, 12], [7, 25], [30, 2]):
        batch = PackedCollator()([{"input_ids": torch.randint(2, 384, (32,)), "seq_lengths": lengths}])
        given = {key: batch[key] for key in ("input_ids", "position_ids", "cu_seq_lens_q")}
        assert torch.allclose(
            compiled(**given, use_cache=False).logits, plain(**given, use_cache=False).logits, atol=1e-5
        )
    assert counter.frame_count == 1


def test_boundaries_made_beforehand_are_those_of_every_layer_that_sees_so():
    model = small("Gemma2", "tersely")  # layers with a window, and without
    cu_seqlens = torch.tensor([0, 20, 32], dtype=torch.int32)
    ids, places = torch.randint(2, 96, (1, 32)), torch.cat([torch.arange(20), torch.arange(12)])[None]
    window = (model.config.sliding_window - 1, 0)
    made = (
        Boundaries.from_cu_seqlens(cu_seqlens, 32, causal=True),
        Boundaries.from_cu_seqlens(cu_seqlens, 32, window=window),
    )
    with torch.no_grad():
        expected = model(ids, position_ids=places, cu_seq_lens_q=cu_seqlens, use_cache=False).logits
        given = model(ids, position_ids=places, boundaries=made, use_cache=False).logits
        with pytest.raises(KernelError, match="none among the boundaries"):
            model(ids, position_ids=places, boundaries=made[0], use_cache=False)
        with pytest.raises(KernelError, match="32 queries and 32 keys, but a layer has 31"):
            model(ids[:, 1:], position_ids=places[:, 1:], boundaries=made, use_cache=False)
    assert torch.equal(expected, given)


def test_a_model_reads_a_prefix_tree():
    model = tiny_llama("tersely")
    prompt, first, second = (torch.randint(2, 384, (1, n)) for n in (9, 4, 6))
    ends = torch.tensor([19] * 9 + [13] * 4 + [19] * 6)
    places = torch.tensor([*range(13), *range(9, 15)])[None]
    with torch.no_grad():
        tree = model(
            torch.cat([prompt, first, second], 1), position_ids=places, boundaries=Boundaries.from_tree(ends),
            use_cache=False,
        ).logits  # fmt: skip
        alone = [model(torch.cat([prompt, x], 1), use_cache=False).logits[:, 9:] for x in (first, second)]
    assert torch.allclose(tree[:, 9:], torch.cat(alone, 1), atol=1e-5)


def test_a_compiled_forward_takes_boundaries_made_beforehand():
    torch._dynamo.reset()
    plain = tiny_llama("tersely")
    compiled = torch.compile(plain, backend="aot_eager", fullgraph=True)
    cu_seqlens = torch.tensor([0, 20, 32], dtype=torch.int32)
    ids, places = torch.randint(2, 384, (1, 32)), torch.cat([torch.arange(20), torch.arange(12)])[None]
    made = Boundaries.from_cu_seqlens(cu_seqlens, 32, causal=True)
    with torch.no_grad():
        expected = plain(ids, position_ids=places, cu_seq_lens_q=cu_seqlens, use_cache=False).logits
        assert torch.allclose(
            compiled(ids, position_ids=places, boundaries=made, use_cache=False).logits, expected, atol=1e-5
        )
