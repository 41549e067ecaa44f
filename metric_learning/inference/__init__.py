"""A finished run at work: embed, compare, search, verify, identify."""

from metric_learning.inference.files import image_labels, images_in
from metric_learning.inference.index import Hits, Identified, Index
from metric_learning.inference.loading import load
from metric_learning.inference.runs import Embedded, FinishedRun, Verdict
from metric_learning.inference.thresholds import Rate, Threshold, Validation

__all__ = [
  "Embedded",
  "FinishedRun",
  "Hits",
  "Identified",
  "Index",
  "Rate",
  "Threshold",
  "Validation",
  "Verdict",
  "image_labels",
  "images_in",
  "load",
]
