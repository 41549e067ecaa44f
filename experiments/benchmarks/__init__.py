"""Measurements of a machine: `python -m experiments.benchmarks.accelerator`."""
