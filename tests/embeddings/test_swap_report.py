"""What the report of a swap says beyond its sums."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from small_tokenizers import BERT_PARTS, SENTENCES, byte_level, fast, wordpiece

from tersely.corpus import read_texts
from tersely.embeddings import swap_tokenizer
from tersely.embeddings.transfer.folder import pooling_of
from tersely.embeddings.transfer.passages import Spread
from tersely.embeddings.transfer.quality import Pooling, compare_states
from tersely.errors import EmbeddingError, UsageError


def bert(tokenizer):
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    small = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    return BertModel(BertConfig(**small, vocab_size=len(tokenizer), pad_token_id=0)).eval()


@pytest.fixture(scope="module")
def piece():
    return fast(wordpiece(), **BERT_PARTS)


def test_tokens_per_byte_are_told_by_language_of_what_is_held_out(piece):
    target = byte_level()
    corpus = {"one": [" ".join(SENTENCES[:40])] * 4, "short": ["a fox"], "two": iter(["the dog " * 800])}
    _, report = swap_tokenizer(bert(piece), piece, target, "mean", corpus)
    assert set(report.languages) == {"one", "two"}
    repeated = "the dog " * 50
    two = report.languages["two"]
    assert two.tokens_per_byte_before == pytest.approx(2 / 8, rel=0.02)
    ids = target.encode(repeated.strip()).ids
    assert two.tokens_per_byte_after == pytest.approx(len(ids) / 400, rel=0.05)
    assert report.to_dict()["languages"]["two"]["passages"] == two.passages
    assert "  two: 0.2" in str(report)


def test_each_token_tells_its_pieces(piece):
    _, report = swap_tokenizer(bert(piece), piece, byte_level(), "mean")
    rows = list(report.tokens)
    assert [row["id"] for row in rows] == list(range(len(report.tokenizer)))
    by_token = {row["token"]: row for row in rows}
    assert by_token[" the"]["pieces"] == [" the"]
    assert by_token["[CLS]"]["pieces"] == ["[CLS]"]
    assert by_token["\\xff"]["origin"] == "average"
    assert sum(row["origin"] == "copied" for row in rows) == report.counts["copied"]


def test_similarities_that_keep_their_order_have_a_rank_correlation_of_one():
    angles = torch.tensor([0.0, 0.1, 0.3, 0.7, 1.5])
    first, second = (torch.stack([torch.cos(part), torch.sin(part)], 1) for part in (angles, angles * 0.9))
    assert compare_states(first, second).spearman == pytest.approx(1)
    backwards = compare_states(first, first[torch.tensor([2, 0, 4, 1, 3])]).spearman
    pairs = np.triu_indices(5, 1)
    ranks = [
        np.argsort(np.argsort((part @ part.T).numpy()[pairs])) for part in (first, first[[2, 0, 4, 1, 3]])
    ]
    assert backwards == pytest.approx(np.corrcoef(*ranks)[0, 1])


def test_the_pooling_is_that_of_the_folder(tmp_path):
    assert pooling_of(tmp_path) is Pooling.MEAN
    (tmp_path / "1_Pooling").mkdir()
    file = tmp_path / "1_Pooling/config.json"
    file.write_text(json.dumps({"pooling_mode_cls_token": True}))
    assert pooling_of(tmp_path) is Pooling.CLS
    file.write_text("{")
    with pytest.raises(EmbeddingError, match="1_Pooling"):
        pooling_of(tmp_path)


def test_paths_are_not_taken_for_texts(piece):
    for corpus in (Path("a.txt"), [Path("a.txt")]):
        with pytest.raises(UsageError, match="read_texts"):
            swap_tokenizer(bert(piece), piece, byte_level(), "mean", corpus)


def test_texts_of_files_go_by_their_names(tmp_path, write_jsonl):
    (tmp_path / "more").mkdir()
    (tmp_path / "fr.txt").write_text("un")
    (tmp_path / "more/fr.v2.txt").write_text("deux")
    (tmp_path / "en.txt").write_text("one")
    found = {name: sorted(texts) for name, texts in read_texts([tmp_path]).items()}
    assert found == {"fr": ["deux", "un"], "en": ["one"]}


def test_some_of_a_stream_come_from_all_over_it():
    spread = Spread(10)
    for number in range(1000):
        spread.add(str(number))
    chosen = [int(number) for number in spread.chosen()]
    assert len(chosen) == 10
    assert max(np.diff(chosen)) <= 2 * min(np.diff(chosen))
    few = Spread(10)
    few.add("a")
    assert few.chosen() == ["a"]
