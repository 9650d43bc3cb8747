"""Inputs whose reading ends the process."""

import os

from tersely.corpus import Batch


class DyingSource:
    """Reading its second batch ends the process."""

    name, size, fields = "dying", 10, ()

    def spans(self, target):
        return [None]

    def batches(self, span=None):
        yield Batch(texts=["first"], lines=[1], bytes_at=[0], lines_read=1)
        os._exit(9)


class SometimesDying:
    """Dies twice, then never again: as a process would that lacked memory."""

    name, size, fields = "sometimes", 10, ()

    def __init__(self, folder):
        self.folder = folder

    def spans(self, target):
        return [None]

    def batches(self, span=None):
        deaths = len(list(self.folder.iterdir()))
        yield Batch(texts=["a document"], lines=[1], bytes_at=[0], lines_read=1)
        if deaths < 2:
            (self.folder / str(deaths)).write_text("")
            os._exit(9)
