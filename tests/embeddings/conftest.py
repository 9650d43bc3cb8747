"""For all tests of embeddings: one thread."""

import pytest
import torch


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    """Models as small as theirs are slower on several."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
