"""Our values beside theirs: `python -m experiments.benchmarks.parity`."""
