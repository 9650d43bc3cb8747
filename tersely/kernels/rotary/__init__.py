"""Rotary position embedding on packed queries and keys, with positions that restart at each document."""

from tersely.kernels.rotary.rotary import rotary as rotary
