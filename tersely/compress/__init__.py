"""Fewer ids or bytes for the same text."""
