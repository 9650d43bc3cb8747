"""Portable Triton kernels of packed attention."""
