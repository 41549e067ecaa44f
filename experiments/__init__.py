"""Thin scripts: `python -m experiments.train`, `.sweep`, `.report`."""
