"""Counts of all lengths of context, weighed by what each was worth: a mixing model for building codes."""

from tersely.compress.equal_info.models.mixing.model import MixingModel as MixingModel
