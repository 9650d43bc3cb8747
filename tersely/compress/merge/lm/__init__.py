"""MergingLM: a decoder over bytes that merges.

``config`` its shape, ``body`` its layers, ``model`` all of it; ``running`` steps over caches, ``generate`` texts by them.
"""

from tersely.compress.merge.lm.config import MergingLMConfig as MergingLMConfig
from tersely.compress.merge.lm.model import MergingLM as MergingLM
