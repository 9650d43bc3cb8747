"""Who stays, or begins a group; one file for each policy, all behind ``BoundaryPolicy``."""

from tersely.compress.merge.policies.entropy import EntropyPolicy as EntropyPolicy
from tersely.compress.merge.policies.exact import exact_rate as exact_rate
from tersely.compress.merge.policies.fixed import FixedPolicy as FixedPolicy
from tersely.compress.merge.policies.gate import DeleteGate as DeleteGate
from tersely.compress.merge.policies.protocol import BoundaryPolicy as BoundaryPolicy
from tersely.compress.merge.policies.protocol import Choice as Choice
from tersely.compress.merge.policies.random import RandomPolicy as RandomPolicy
from tersely.compress.merge.policies.router import RouterPolicy as RouterPolicy
from tersely.compress.merge.policies.space import SpacePolicy as SpacePolicy
from tersely.compress.merge.policies.stride import StridePolicy as StridePolicy
