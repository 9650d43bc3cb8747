"""A running average inside each document; see README.md."""

from tersely.kernels.smooth.smooth import exponential_smoothing as exponential_smoothing
