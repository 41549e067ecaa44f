"""Uses a finished run: embed, compare, search, verify, identify, export."""

from metric_learning.inference.files import image_labels, images_in
from metric_learning.inference.index import Hits, Identified, Index
from metric_learning.inference.items import (
  Items,
  check_output,
  embed_input,
  own_indices,
  read_pairs,
  write_csv,
  write_items,
)
from metric_learning.inference.loading import load
from metric_learning.inference.runs import BATCH, Embedded, FinishedRun, Verdict
from metric_learning.inference.thresholds import Rate, Threshold, Validation

__all__ = [
  "BATCH",
  "Embedded",
  "FinishedRun",
  "Hits",
  "Identified",
  "Index",
  "Items",
  "Rate",
  "Threshold",
  "Validation",
  "Verdict",
  "check_output",
  "embed_input",
  "image_labels",
  "images_in",
  "load",
  "own_indices",
  "read_pairs",
  "write_csv",
  "write_items",
]
