"""Benchmarks: figures beside peers, from runs that alternate; nothing here asserts anything about time."""
