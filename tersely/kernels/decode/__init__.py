"""Attention of single queries over caches of different lengths, as decoding needs it."""

from tersely.kernels.decode.decode import decode_attention as decode_attention
