"""Ours beside rivals: `python -m experiments.benchmarks.speed`."""
