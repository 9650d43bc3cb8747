"""What holds a policy at a rate; one file for each way."""

from tersely.compress.merge.rate.pi import PIController as PIController
