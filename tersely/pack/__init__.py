"""Documents to bins, and bins to batches, without padding and without leaks."""

from tersely.pack.pieces import Overflow as Overflow
from tersely.pack.pieces import Pieces as Pieces
from tersely.pack.plan import PackPlan as PackPlan
from tersely.pack.plan import Strategy as Strategy
from tersely.pack.plan import Waste as Waste
from tersely.pack.plan import plan as plan
