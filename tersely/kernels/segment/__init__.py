"""Reduce packed values over their segments, expand one value for each back to its tokens, and say where tokens stand."""

from tersely.kernels.segment.expand import segment_expand as segment_expand
from tersely.kernels.segment.places import positions_of_tokens as positions_of_tokens
from tersely.kernels.segment.places import segments_of_tokens as segments_of_tokens
from tersely.kernels.segment.places import slack_rows as slack_rows
from tersely.kernels.segment.reduce import Reduce as Reduce
from tersely.kernels.segment.reduce import segment_reduce as segment_reduce
