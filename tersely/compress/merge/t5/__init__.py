"""MrT5 (arXiv 2410.20771) on packed values: T5 whose encoder deletes positions, the positions really gone."""

from tersely.compress.merge.t5.config import MergingByT5Config as MergingByT5Config
from tersely.compress.merge.t5.corrupt import Corrupted as Corrupted
from tersely.compress.merge.t5.corrupt import corrupt as corrupt
from tersely.compress.merge.t5.model import MergingByT5 as MergingByT5
from tersely.compress.merge.t5.model import MergingOutput as MergingOutput
