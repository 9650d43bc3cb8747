"""What holds a policy at a rate; one file for each way, all behind ``RateControl``."""

from tersely.compress.merge.rate.exact import ExactRate as ExactRate
from tersely.compress.merge.rate.pi import PIController as PIController
from tersely.compress.merge.rate.protocol import RateControl as RateControl
from tersely.compress.merge.rate.ratio import RatioLoss as RatioLoss
