"""Fewer positions inside a model: which stay is a policy's decision, the rest is packed away and not computed.

policies/   who stays, or begins a group: learned gates and routers, rules, controls
rate/       what holds a policy at a rate
groups.py   positions cut into groups; reduce.py, expand.py: to a vector for each group, and back
lm/         a decoder over bytes that merges; causality.py: whether one looks ahead
t5/         T5 whose encoder deletes (MrT5)
similar/    merging of what is alike, without training, for encoders
"""
