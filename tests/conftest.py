"""What all tests share: the shared corpora where they exist, small corpora where they do not."""

import json
import os
from pathlib import Path

import pytest
from hypothesis import settings
from small import TEXTS, tiny_bpe

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

# Compilation on first use makes timings of single examples meaningless.
settings.register_profile("tersely", deadline=None)
settings.load_profile("tersely")

SHARED = Path(os.environ.get("TERSELY_SHARED_DATA", "../shared/data"))
ROOT = Path(__file__).parent.parent


def pytest_collection_modifyitems(items):
    for item in items:
        if item.get_closest_marker("shared_data") and not SHARED.is_dir():
            item.add_marker(pytest.mark.skip(reason=f"the shared corpora are not at {SHARED}"))
        if item.get_closest_marker("gpu"):
            import torch

            if not torch.cuda.is_available():
                item.add_marker(pytest.mark.skip(reason="there is no CUDA device"))


@pytest.fixture(scope="session")
def shared():
    """The folder of shared corpora."""
    return SHARED.resolve()


@pytest.fixture
def root():
    """The root of the project."""
    return ROOT


@pytest.fixture
def write_jsonl(tmp_path):
    """Writes records as JSON lines and returns the path."""

    def write(records, name="docs.jsonl"):
        path = tmp_path / name
        path.write_text("".join(json.dumps(record) + "\n" for record in records))
        return path

    return write


@pytest.fixture
def corpus(tmp_path, write_jsonl):
    """A prepared folder of 120 small documents, byte tokens, rows of 256."""
    from tersely.corpus import find_sources, prepare

    sources, _ = find_sources([write_jsonl([{"text": text} for text in TEXTS])])
    out = tmp_path / "prepared"
    prepare(sources, out, "bytes", capacity=256)
    return out


@pytest.fixture(scope="session")
def bpe_json():
    """The content of a small tokenizer.json."""
    return tiny_bpe().to_str()
