"""Training on packed rows gives the losses of the same documents one by one: torch, HF Trainer, TRL."""

import pytest
import torch
from small import tiny_bpe, tiny_llama
from torch.utils.data import DataLoader

from tersely.errors import PackError
from tersely.pack import PackedCollator, PackedDataset

STEPS = 4
RATE = 0.05


def losses_unpacked(batches):
    """Trains a fresh model on the documents of each batch, each in a forward pass of its own."""
    model = tiny_llama()
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE)
    losses = []
    for batch in batches:
        starts = torch.flatten(torch.nonzero(batch["position_ids"][0] == 0)).tolist()
        documents = torch.tensor_split(batch["input_ids"][0], starts[1:])
        assert len(documents) > 1
        optimizer.zero_grad()
        loss = torch.zeros(())
        for document in documents:
            logits = model(input_ids=document[None], use_cache=False).logits[0, :-1]
            loss = loss + torch.nn.functional.cross_entropy(logits, document[1:], reduction="sum")
        loss = loss / sum(len(document) - 1 for document in documents)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def assert_equal_and_learning(packed, batches):
    assert len(packed) == STEPS
    unpacked = losses_unpacked(batches)
    assert packed == pytest.approx(unpacked, abs=1e-4)
    assert packed[-1] < packed[0] - 0.05


def recording(trainer_class):
    """The trainer, with the batches it trained on and their losses written down."""

    class Recording(trainer_class):
        batches: list = []
        losses: list = []

        def training_step(self, model, inputs, *args, **kwargs):
            self.batches.append({key: inputs[key].clone() for key in ("input_ids", "position_ids")})
            loss = super().training_step(model, inputs, *args, **kwargs)
            self.losses.append(loss.item())
            return loss

    return Recording


def arguments(folder, **more):
    shared = dict(
        output_dir=str(folder),
        max_steps=STEPS,
        per_device_train_batch_size=2,
        learning_rate=RATE,
        optim="sgd",
        lr_scheduler_type="constant",
        max_grad_norm=0,
        use_cpu=True,
        bf16=False,
        report_to=[],
        save_strategy="no",
        disable_tqdm=True,
        remove_unused_columns=False,
    )
    return shared | more


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_under_a_torch_dataloader(corpus, attention):
    model = tiny_llama(attention)
    loader = DataLoader(PackedDataset(corpus), batch_size=2, collate_fn=PackedCollator(model))
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE)
    losses, batches = [], []
    for batch, _ in zip(loader, range(STEPS), strict=False):
        optimizer.zero_grad()
        loss = model(**batch).loss  # the cache is on, as it is by default
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        batches.append(batch)
    assert_equal_and_learning(losses, batches)


def test_hf_trainer_that_takes_the_boundaries_away_is_stopped(corpus, tmp_path):
    from transformers import Trainer, TrainingArguments

    model = tiny_llama()
    options = arguments(tmp_path) | {"remove_unused_columns": True}
    collator = PackedCollator(model)
    trainer = Trainer(model, TrainingArguments(**options), collator, PackedDataset(corpus))
    with pytest.raises(PackError, match="remove_unused_columns=False"):
        trainer.train()


def test_under_hf_trainer(corpus, tmp_path):
    from transformers import Trainer, TrainingArguments

    model = tiny_llama()
    trainer = recording(Trainer)(
        model=model,
        args=TrainingArguments(**arguments(tmp_path)),
        train_dataset=PackedDataset(corpus),
        data_collator=PackedCollator(model),
    )
    trainer.train()
    assert_equal_and_learning(trainer.losses, trainer.batches)


@pytest.fixture
def processing_class():
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(
        tokenizer_object=tiny_bpe(), eos_token="<|endoftext|>", pad_token="<|endoftext|>"
    )


def test_under_trl_with_our_dataset_and_collator(corpus, tmp_path, processing_class):
    from trl import SFTConfig, SFTTrainer

    model = tiny_llama()
    trainer = recording(SFTTrainer)(
        model=model,
        args=SFTConfig(**arguments(tmp_path, dataset_kwargs={"skip_prepare_dataset": True}, max_length=None)),
        train_dataset=PackedDataset(corpus).to_hf(),
        data_collator=PackedCollator(model),
        processing_class=processing_class,
    )
    trainer.train()
    assert_equal_and_learning(trainer.losses, trainer.batches)


def test_under_trl_padding_free_with_the_folder_itself(corpus, tmp_path, processing_class):
    """TRL's own collator reads ``seq_lengths`` from the folder; our rows are packed already."""
    import datasets
    from trl import SFTConfig, SFTTrainer

    folder = datasets.load_from_disk(str(corpus))
    trainer = recording(SFTTrainer)(
        model=tiny_llama(),
        args=SFTConfig(
            **arguments(
                tmp_path,
                dataset_kwargs={"skip_prepare_dataset": True},
                padding_free=True,
                max_length=None,
                remove_unused_columns=True,
            )
        ),
        train_dataset=folder,
        processing_class=processing_class,
    )
    trainer.train()
    assert_equal_and_learning(trainer.losses, trainer.batches)
