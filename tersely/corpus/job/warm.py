"""Imported by the fork server of a job: what every worker needs is then loaded, compiled code included."""

from __future__ import annotations

import numpy as np

from tersely.corpus.job import task as task
from tersely.pack import plan
from tersely.ragged import Ragged

_SOME = Ragged(np.zeros(6000, np.uint16), [0, 1, 6000])  # enough for compiled code
plan(_SOME.lengths, 4).gather(_SOME)
