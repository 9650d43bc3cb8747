"""Packed attention: every document by itself, forward and backward, without padding. See README.md."""

from tersely.kernels.attention.attention import varlen_attention as varlen_attention
from tersely.kernels.attention.backend import Backend as Backend
from tersely.kernels.attention.boundaries import Boundaries as Boundaries
