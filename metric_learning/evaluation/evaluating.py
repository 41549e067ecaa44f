"""All scores of a set of embeddings, or of explicit pairs of them."""

from collections.abc import Collection, Sequence

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

  `own/<name>` is under the metric that was trained, `cosine/<name>` under
  cosine, the same for every run; `geometry/<name>` is about the embeddings
  themselves. The names are those of `retrieval`, `verification`, `geometry` and
  `intra_inter_ratio`. Verification keeps all pairs: it is left out above
  `max_pairs`. With `references`, a gallery, retrieval alone is computed.

  `asked` names scores that a caller looks at. What else is quick comes too,
  unless they are asked for `alone`, but verification of a family only if one of
  its scores is named. Slow ones come only if they are named:
  `clustering/<name>`; `own/few_shot_N_way_K_shot`, NaN if images or classes are
  too few, with `…_interval`; `own/superclass_recall_at_K` and
  `own/superclass_map_at_r`; those of `open_set`, `own/identification_<name>`,
  NaN if no gallery can be drawn. Of several labels, scores of one are left out.

  >>> embeddings = np.array([[0.0, 1.0], [0.1, 1.0], [1.0, 0.0], [1.0, 0.2]])
  >>> scores = evaluate(embeddings, np.array([0, 0, 1, 1]), "l1")
  >>> scores["own/recall_at_1"], scores["cosine/eer"]
  (1.0, 0.0)

  Args:
    embeddings, labels: one point a row, and its class, or several.
    metric: the one that was trained.
    normalized: how the embeddings are normalized already; here class means are.
    asked: names of scores, None for all that are not slow.
    alone: whether nothing comes beside them but what is found with them.
    ks: K of Recall@K.
    references, reference_labels, exclude_self, groups, reference_groups: as
      `retrieval` takes them; other scores do not see groups.
    superclasses: `superclasses[label]` names the super-class of a class.
    open_set: how identification draws who is known.

  Raises:
    InputError: for an unknown metric or score, embeddings that are not finite
      or not normalized as is said, or labels that do not fit them.
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
  """The scores of explicit pairs, where no classes are known.

  `own/<name>` and `cosine/<name>` are those of `verification`,
  `geometry/<name>` those of `geometry`.

  >>> embeddings = np.array([[0.0, 1.0], [0.1, 1.0], [1.0, 0.0]])
  >>> pairs = np.array([0, 0]), np.array([1, 2]), np.array([True, False])
  >>> evaluate_pairs(embeddings, *pairs, "l1")["own/eer"]
  0.0

  Raises:
    InputError: for an unknown metric, embeddings that are not finite, or pairs
      that are not pairs of their rows.
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


def _checked_rows(name, rows, count) -> Int[np.ndarray, " p"]:
  """Indices of rows, at least one and none that is not there."""
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
