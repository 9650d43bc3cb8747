"""Who stays, or begins a group; one file for each policy, all behind ``BoundaryPolicy``."""

from tersely.compress.merge.policies.gate import DeleteGate as DeleteGate
from tersely.compress.merge.policies.protocol import BoundaryPolicy as BoundaryPolicy
from tersely.compress.merge.policies.protocol import Choice as Choice
