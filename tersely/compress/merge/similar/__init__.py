"""Merging what is alike, without training, for encoders: ``match`` finds it, ``encoder`` runs a model with it."""

from tersely.compress.merge.similar.encoder import MergedStates as MergedStates
from tersely.compress.merge.similar.encoder import merge_encoder as merge_encoder
from tersely.compress.merge.similar.match import Matching as Matching
from tersely.compress.merge.similar.match import match_similar as match_similar
