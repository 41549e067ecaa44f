"""Scores that are means over queries, so that test classes can be resampled."""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from metric_learning import evaluation

_BY_QUERY = re.compile(
  r"(own|cosine)/(recall_at_(\d+)|precision_at_1|r_precision|map_at_r|mrr)"
)


def is_by_query(column: str) -> bool:
  """Whether a column is a mean over queries.

  >>> is_by_query("own/recall_at_4"), is_by_query("own/eer")
  (True, False)
  """
  return _BY_QUERY.fullmatch(column) is not None


def per_query(
  columns: Sequence[str],
  points: np.ndarray,
  labels: np.ndarray,
  metric: str,
  **references: Any,
) -> dict[str, np.ndarray]:
  """What each query adds to those of the columns that are means over queries.

  Args:
    columns: names of scores.
    points: embeddings of the queries.
    labels: their classes.
    metric: of the columns "own/…".
    references: keywords of `evaluation.retrieval_per_query`.
  """
  found = [match for c in columns if (match := _BY_QUERY.fullmatch(c))]
  values = {
    kind: evaluation.retrieval_per_query(
      points,
      labels,
      metric=metric if kind == "own" else kind,
      ks=sorted({int(match[3] or 1) for match in found if match[1] == kind}),
      **references,
    )
    for kind in sorted({match[1] for match in found})
  }
  return {match[0]: values[match[1]][match[2]] for match in found}
