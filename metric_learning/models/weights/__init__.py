"""Files of pretrained weights: reading, checking, writing.

A file becomes a flat dict of NumPy arrays; nothing in it is run, and torch is
not needed. A `Layout` says where the tensors of a file belong in a network.
"""

from metric_learning.models.weights.files import digest_of, read, write
from metric_learning.models.weights.layouts import Dialect, Layout, fill
from metric_learning.models.weights.scales import SCALES

__all__ = [
  "SCALES",
  "Dialect",
  "Layout",
  "digest_of",
  "fill",
  "read",
  "write",
]
