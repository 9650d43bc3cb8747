"""The whole job on a Ray cluster of two nodes, one of which is killed in the middle: the same bytes."""

import json
import os
import sys
import threading
import time

import pytest
from killing import contents
from small import TEXTS

from tersely.corpus import find_sources, prepare
from tersely.corpus.executors import RayExecutor

pytest.importorskip("ray", reason="Ray is not installed: pip install 'tersely[ray]'")


@pytest.fixture
def cluster(monkeypatch):
    """A cluster whose two nodes have a processor each, at RAY_ADDRESS; ``cluster.worker`` is the one to kill."""
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if path))
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    made.worker = made.add_node(num_cpus=1, include_dashboard=False)
    monkeypatch.setenv("RAY_ADDRESS", made.address)
    yield made
    made.shutdown()


def test_a_node_that_is_killed_in_the_middle_costs_no_byte(cluster, tmp_path):
    path = tmp_path / "docs.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS * 4) + "{\n")
    options = dict(capacity=128, task_bytes=2500)
    whole = prepare(find_sources([path])[0], tmp_path / "whole", **options)
    assert len(whole.shards) > 15
    out = tmp_path / "out"
    killed_after = []

    def kill():
        while len(done := list(out.glob("data-*"))) < 3:
            time.sleep(0.002)
        cluster.remove_node(cluster.worker, allow_graceful=False)
        killed_after.append(len(done))

    killer = threading.Thread(target=kill)
    killer.start()
    manifest = prepare(find_sources([path])[0], out, executor=RayExecutor(), **options)
    killer.join()
    assert killed_after[0] < len(whole.shards)
    assert manifest == whole
    assert contents(out) == contents(tmp_path / "whole")
