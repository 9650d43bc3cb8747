"""What the page of byte models says of words runs as it stands there."""

import re

import torch


def test_the_examples_of_the_page_run(root, tmp_path, monkeypatch):
    page = (root / "docs/byte_models.md").read_text()
    monkeypatch.chdir(tmp_path)
    names = {}
    for section in ("Word pooling", "Lexinvariant embeddings"):
        text = re.search(rf"^## {section}$(.*?)(?=^## |\Z)", page, re.M | re.S).group(1)
        exec(re.search(r"```python\n(.*?)```", text, re.S).group(1), names)
    assert 8 < names["bits_per_byte"] < 20
    assert names["labels"].tolist() == [0, 1, 2, 0, 0, 1, 2, 1, 3, 4, 1]
    assert torch.equal(names["vectors"][0], names["vectors"][3])
    assert len(names["texts"]) == 1
