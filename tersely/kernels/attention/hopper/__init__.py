"""Packed attention on Hopper GPUs (sm_90): copy engine, warp specialisation, asynchronous matrix products.

`launch.supports` says whether a call can run here; `launch.forward` and `launch.backward` run it. The kernels are
built on first use.
"""
