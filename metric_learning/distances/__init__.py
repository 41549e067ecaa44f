"""Distances between two embeddings, and distance matrices in little memory.

A larger number always means farther: `cosine` is 1 - cos, and `dot` is the
negated dot product. Distances are computed in float32 or wider, whatever the
type of the embeddings. Normalization is a separate choice (`NORMALIZATIONS`).
"""

from metric_learning.distances.metrics import (
  METRICS,
  Metric,
  MetricName,
  angular,
  cosine,
  dot,
  l1,
  l2,
  linf,
  lp,
  mahalanobis,
  pairwise,
  project,
  snr,
  split_metric,
  squared_l2,
  squared_mahalanobis,
  unit_cosine,
)
from metric_learning.distances.normalization import (
  NORMALIZATIONS,
  l1_normalize,
  l2_normalize,
)
from metric_learning.distances.numerics import (
  absolute,
  comparable,
  safe_sqrt,
  widen,
)
from metric_learning.distances.tiled import (
  l1_matrix,
  linf_matrix,
  lp_matrix,
  squared_l2_matrix,
)

__all__ = [
  "METRICS",
  "NORMALIZATIONS",
  "Metric",
  "MetricName",
  "absolute",
  "angular",
  "comparable",
  "cosine",
  "dot",
  "l1",
  "l1_matrix",
  "l1_normalize",
  "l2",
  "l2_normalize",
  "linf",
  "linf_matrix",
  "lp",
  "lp_matrix",
  "mahalanobis",
  "pairwise",
  "project",
  "safe_sqrt",
  "snr",
  "split_metric",
  "squared_l2",
  "squared_l2_matrix",
  "squared_mahalanobis",
  "unit_cosine",
  "widen",
]
