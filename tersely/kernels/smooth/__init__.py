"""Exponential smoothing along each document of packed values."""

from tersely.kernels.smooth.smooth import exponential_smoothing as exponential_smoothing
