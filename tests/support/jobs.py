"""A small job of several tasks, for tests."""

from tersely.corpus import find_sources, prepare
from tersely.shards import verify

OPTIONS = dict(capacity=128, shard_tokens=5000, task_bytes=2500)


def job(inputs, out, **options):
    return prepare(find_sources([inputs], fields=["lang"])[0], out, "bytes", **OPTIONS | options)


def faults(folder):
    return [fault for _, fault in verify(folder) if fault]
