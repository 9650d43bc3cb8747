"""Reduce packed values over their segments, and expand one value for each segment back to its tokens."""

from tersely.kernels.segment.expand import segment_expand as segment_expand
from tersely.kernels.segment.reduce import Reduce as Reduce
from tersely.kernels.segment.reduce import segment_reduce as segment_reduce
