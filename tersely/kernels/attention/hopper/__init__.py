"""Gluon kernels of packed attention for Hopper."""

from __future__ import annotations


def why_not_with(version: str) -> str | None:
    """Why these kernels do not run with this version of Triton, or None."""
    return f"there is none for triton {version} yet"
