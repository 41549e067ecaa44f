"""Computes the scores of a set of embeddings, or of explicit pairs of them."""

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
from jaxtyping import Array, Bool, Float, Int

from metric_learning.distances import MetricName
from metric_learning.errors import InputError
from metric_learning.evaluation.computing import compute
from metric_learning.evaluation.entries import Points
from metric_learning.evaluation.geometry import check_normalized
from metric_learning.evaluation.open_set import DEFAULT, OpenSet
from metric_learning.evaluation.scores import MAX_PAIRS
from metric_learning.evaluation.tiles import check_embeddings


def evaluate(
  embeddings: Float[np.ndarray | Array, "n d"],
  labels: Int[np.ndarray | Array, " n *k"],
  metric: MetricName,
  *,
  asked: Collection[str] | None = None,
  alone: bool = False,
  normalized: str = "none",
  ks: Sequence[int] = (1, 2, 4, 8),
  max_pairs: int = MAX_PAIRS,
  references: Float[np.ndarray | Array, "m d"] | None = None,
  reference_labels: Int[np.ndarray | Array, " m *k"] | None = None,
  exclude_self: bool | Int[np.ndarray | Array, " n"] = False,
  groups: Int[np.ndarray | Array, " n"] | None = None,
  reference_groups: Int[np.ndarray | Array, " m"] | None = None,
  superclasses: Sequence[str] | None = None,
  open_set: OpenSet = DEFAULT,
) -> dict[str, float]:
  """All scores of one set of embeddings, as a run records them.

  `own/<name>` is a score under the trained metric, `cosine/<name>` a score
  under cosine, which is the same for every run, and `geometry/<name>` describes
  the embeddings themselves. The names are those of `retrieval`, `verification`,
  `geometry` and `intra_inter_ratio`. Verification keeps all pairs in memory and
  is skipped above `max_pairs`. With a gallery (`references`), verification,
  identification and `intra_inter_ratio` are skipped. With several labels per
  item, scores that need one label are skipped.

  `asked` names the scores that the caller uses. All other fast scores are
  computed as well unless `alone` is set; verification scores of a family,
  however, only if one of them is named. Slow scores are computed only if they
  are named: `clustering/<name>`; `own/few_shot_N_way_K_shot` with
  `…_interval`, NaN if there are too few images or classes;
  `own/superclass_recall_at_K` and `own/superclass_map_at_r`; and the scores of
  `open_set`, `own/identification_<name>`, NaN if no gallery can be drawn.

  >>> embeddings = np.array([[0.0, 1.0], [0.1, 1.0], [1.0, 0.0], [1.0, 0.2]])
  >>> scores = evaluate(embeddings, np.array([0, 0, 1, 1]), "l1")
  >>> scores["own/recall_at_1"], scores["cosine/eer"]
  (1.0, 0.0)

  Args:
    embeddings, labels: one point per row, and its class or classes.
    metric: the trained metric.
    asked: names of scores; None for all scores that are not slow.
    alone: whether to compute only the scores in `asked`, and those that the
      same functions return.
    normalized: how the embeddings are normalized; class means are normalized
      in the same way.
    ks: the K of Recall@K.
    max_pairs: the most pairs of points for verification.
    references, reference_labels, exclude_self, groups, reference_groups: as
      for `retrieval`; other scores ignore groups.
    superclasses: `superclasses[label]` names the super-class of a class.
    open_set: how identification draws the known classes.

  Raises:
    InputError: if a metric or score is unknown, if embeddings are not finite or
      not normalized as `normalized` says, or if labels do not fit them.
  """
  embeddings = check_embeddings("embeddings", embeddings)
  check_normalized(embeddings, normalized)
  gallery = {
    "references": references,
    "reference_labels": reference_labels,
    "exclude_self": exclude_self,
    "groups": groups,
    "reference_groups": reference_groups,
  }
  points = Points(embeddings, labels, metric, normalized, tuple(ks), gallery)
  points = points._replace(superclasses=superclasses, open_set=open_set)
  return compute(points, asked, max_pairs, alone)


def evaluate_pairs(
  embeddings: Float[np.ndarray | Array, "n d"],
  first: Int[np.ndarray | Array, " p"],
  second: Int[np.ndarray | Array, " p"],
  same: Bool[np.ndarray, " p"],
  metric: MetricName,
) -> dict[str, float]:
  """The scores of explicit pairs of embeddings whose classes are unknown.

  `own/<name>` and `cosine/<name>` are the scores of `verification`,
  `geometry/<name>` the scores of `geometry`.

  >>> embeddings = np.array([[0.0, 1.0], [0.1, 1.0], [1.0, 0.0]])
  >>> pairs = np.array([0, 0]), np.array([1, 2]), np.array([True, False])
  >>> evaluate_pairs(embeddings, *pairs, "l1")["own/eer"]
  0.0

  Raises:
    InputError: if the metric is unknown, if embeddings are not finite, or if
      pairs are not pairs of rows of the embeddings.
  """
  embeddings = check_embeddings("embeddings", embeddings)
  first, second = (
    _checked_rows(name, rows, len(embeddings))
    for name, rows in (("first", first), ("second", second))
  )
  if not len(first) == len(second) == np.size(same):
    raise InputError(
      f"first, second and same: {len(first)}, {len(second)} and"
      f" {np.size(same)} entries; give one of each for every pair."
    )
  points = Points(embeddings, metric=metric, pairs=(first, second, same))
  return compute(points, None)


def _checked_rows(name: str, rows: Any, count: int) -> Int[np.ndarray, " p"]:
  """Checks indices of rows: there is at least one, and all are in range."""
  rows = np.asarray(rows)
  if rows.ndim != 1 or not len(rows) or rows.dtype.kind not in "iu":
    raise InputError(
      f"{name}: shape {rows.shape} of {rows.dtype}; give the row of an"
      " embedding for each pair, as integers of shape (p,), for at least one"
      " pair."
    )
  if rows.min() < 0 or rows.max() >= count:
    raise InputError(
      f"{name}: rows from {rows.min()} to {rows.max()}; there are {count}"
      f" embeddings, with rows 0 to {count - 1}."
    )
  return rows
