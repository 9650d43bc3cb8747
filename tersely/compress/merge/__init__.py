"""Fewer positions inside a model: which stay is a policy's decision, the rest is packed away and not computed.

policies/   who stays, or begins a group: learned gates and routers, rules, controls
"""
