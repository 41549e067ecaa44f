"""Ranking metrics: is the query's class among its nearest references?"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Array, Float, Int

from metric_learning.distances import MetricName
from metric_learning.errors import InputError
from metric_learning.evaluation.neighbours import for_each_nearest, shuffled
from metric_learning.evaluation.tiles import (
  Codes,
  check_embeddings,
  check_labels,
  check_metric,
  for_each_block,
)


def retrieval(
  embeddings: Float[np.ndarray | Array, "n d"],
  labels: Int[np.ndarray | Array, " n"],
  *,
  metric: MetricName = "l2",
  ks: Sequence[int] = (1, 2, 4, 8),
  references: Float[np.ndarray | Array, "m d"] | None = None,
  reference_labels: Int[np.ndarray | Array, " m"] | None = None,
) -> dict[str, float]:
  """Recall@K, R-Precision, MAP@R and MRR of every row as a query.

  References are ranked r_1, r_2, ... by increasing distance, rel(i) is 1 if
  r_i has the query's class and P(i) = Σ_{j≤i} rel(j) / i. With R references
  of the query's class, each query scores

    recall_at_K   1 if one of the first K is relevant, else 0
    precision_at_1  rel(1)
    r_precision   Σ_{i≤R} rel(i) / R
    map_at_r      Σ_{i≤R} P(i) rel(i) / R  (by R, not by the number of hits)
    mrr           1 / (rank of the first relevant one), over all references

  The value under each of these names is the mean over queries, under
  `macro_<name>` the mean over classes of class means. Also: `num_queries`,
  those scored; `lone_queries`, those dropped because no reference has their
  class (they stay references of the others); `tied_fraction`, the share of
  queries whose nearest two references are equally far: where it is not near
  0, the embeddings have collapsed. Without a scored query every mean is NaN.

  Ranks are exact: see `neighbours` for the rule of ties.

  >>> embeddings = np.array([[0.0], [1.0], [2.5], [3.0]])
  >>> scores = retrieval(embeddings, np.array([0, 0, 1, 0]), ks=(1, 2))
  >>> scores["recall_at_1"]  # of 0, 1 and 3; the nearest to 3 is 2.5
  0.666...
  >>> scores["map_at_r"]  # R = 2; (1/1 + 0)/2, (1/1 + 0)/2 and (0 + 1/2)/2
  0.416...
  >>> scores["lone_queries"]
  1.0

  Args:
    embeddings: one query a row.
    labels: their classes.
    metric: a name in `METRICS`, or `(name, {options})`.
    ks: the K of Recall@K.
    references: where to look. None: among the embeddings, without the query.
    reference_labels: their classes.

  Raises:
    InputError: for an unknown metric, embeddings that are not finite, labels
      that do not fit them, a K below 1, or one of references and
      reference_labels without the other.

  Source: R-Precision and MAP@R as in Musgrave et al., A Metric Learning
  Reality Check, ECCV 2020.
  """
  values = retrieval_per_query(
    embeddings,
    labels,
    metric=metric,
    ks=ks,
    references=references,
    reference_labels=reference_labels,
  )
  scored = np.isfinite(values["mrr"])
  classes = np.asarray(labels)[scored]
  scores = {name: _mean(value[scored]) for name, value in values.items()}
  for name, value in values.items():
    if name != "tied_fraction":
      scores[f"macro_{name}"] = _mean(_class_means(value[scored], classes))
  scores["num_queries"] = float(np.count_nonzero(scored))
  scores["lone_queries"] = float(np.count_nonzero(~scored))
  return scores


def retrieval_per_query(
  embeddings: Float[np.ndarray | Array, "n d"],
  labels: Int[np.ndarray | Array, " n"],
  *,
  metric: MetricName = "l2",
  ks: Sequence[int] = (1, 2, 4, 8),
  references: Float[np.ndarray | Array, "m d"] | None = None,
  reference_labels: Int[np.ndarray | Array, " m"] | None = None,
) -> dict[str, Float[np.ndarray, " n"]]:
  """What each query adds to the means of `retrieval`; NaN for lone queries.

  >>> embeddings = np.array([[0.0], [1.0], [2.5], [3.0]])
  >>> values = retrieval_per_query(embeddings, np.array([0, 0, 1, 0]))
  >>> values["mrr"]  # from 3, the first of class 0 is the second, 1
  array([1. , 1. , nan, 0.5])

  Raises:
    InputError: as `retrieval`.
  """
  check_metric(metric)
  if (references is None) != (reference_labels is None):
    raise InputError(
      "references and reference_labels: give both or neither; without them "
      "each row is looked for among the other rows."
    )
  if not ks or min(ks) < 1:
    raise InputError(f"ks={tuple(ks)}: Recall@K needs K of 1 or more.")
  queries = check_embeddings("embeddings", embeddings)
  query_labels = check_labels("labels", labels, len(queries))
  if references is None or reference_labels is None:
    gallery, gallery_labels = queries, query_labels
  else:
    gallery = check_embeddings("references", references)
    gallery_labels = check_labels(
      "reference_labels", reference_labels, len(gallery)
    )
  order = shuffled(len(gallery))
  gallery, gallery_labels = gallery[order], gallery_labels[order]
  members = _members(gallery_labels)
  relevant_count = np.array(
    [len(members.get(label, ())) for label in query_labels.tolist()], int
  )
  available, own = len(gallery), None
  if references is None:
    relevant_count, available = relevant_count - 1, available - 1
    own = np.argsort(order)
  lone = relevant_count < 1

  names = [*(f"recall_at_{k}" for k in ks), "precision_at_1", "r_precision"]
  names += ["map_at_r", "mrr", "tied_fraction"]
  values = {name: np.full(len(queries), np.nan) for name in names}
  if lone.all():
    return values

  depth = min(max(int(relevant_count.max()), *ks, 2), available)

  def use(rows, positions, codes) -> None:
    hits = gallery_labels[positions] == query_labels[rows, None]
    block = _scores(hits, relevant_count[rows], ks)
    block["tied_fraction"] = (
      codes[:, 0] == codes[:, 1] if depth > 1 else np.zeros(len(codes))
    )
    for name, value in block.items():
      values[name][rows] = np.where(lone[rows], np.nan, value)

  for_each_nearest(use, metric, queries, gallery, depth, own)

  # Few queries have no hit among their first neighbours: they are looked at
  # again, for the rank of their first one.
  missed = np.flatnonzero(np.isinf(values["mrr"]))

  def rank(rows: slice, codes: Codes) -> None:
    some = missed[rows]
    values["mrr"][some] = _reciprocal_ranks(
      np.asarray(codes), [members[x] for x in query_labels[some].tolist()]
    )

  if len(missed):
    own = None if own is None else own[missed]
    for_each_block(rank, metric, queries[missed], gallery, own)
  return values


def _members(labels: Int[np.ndarray, " m"]) -> dict[int, Int[np.ndarray, " _"]]:
  """The positions of each class, in ascending order."""
  classes, first = np.unique(np.sort(labels), return_index=True)
  grouped = np.split(np.argsort(labels, kind="stable"), first[1:])
  return dict(zip(classes.tolist(), grouped, strict=True))


def _scores(
  hits: np.ndarray, relevant_count: Int[np.ndarray, " b"], ks: Sequence[int]
) -> dict[str, np.ndarray]:
  """The scores that follow from the first neighbours.

  The reciprocal rank is infinite where there is no hit among them.
  """
  # A lone query divides by 1 here; its scores are dropped.
  r = np.maximum(relevant_count, 1)
  scores = {f"recall_at_{k}": hits[:, :k].any(axis=1) for k in ks}
  rank = np.arange(1, hits.shape[1] + 1)
  within = hits & (rank <= r[:, None])
  precision = np.cumsum(hits, axis=1) / rank
  return scores | {
    "precision_at_1": hits[:, 0],
    "r_precision": within.sum(axis=1) / r,
    "map_at_r": (precision * within).sum(axis=1) / r,
    "mrr": np.where(hits.any(axis=1), 1 / (1 + hits.argmax(axis=1)), np.inf),
  }


def _reciprocal_ranks(
  codes: Int[np.ndarray, "b m"], relevant: Sequence[Int[np.ndarray, " _"]]
) -> Float[np.ndarray, " b"]:
  """1 / rank of the nearest relevant reference, among all references."""
  result = np.empty(len(codes))
  for i, (row, members) in enumerate(zip(codes, relevant, strict=True)):
    # argmin takes the lowest position among equal distances.
    first = members[np.argmin(row[members])]
    closer = np.count_nonzero(row < row[first])
    tied_before = np.count_nonzero(row[:first] == row[first])
    result[i] = 1 / (1 + closer + tied_before)
  return result


def _class_means(
  values: Float[np.ndarray, " n"], labels: Int[np.ndarray, " n"]
) -> Float[np.ndarray, " c"]:
  _, index = np.unique(labels, return_inverse=True)
  return np.bincount(index, values) / np.bincount(index)


def _mean(values: Float[np.ndarray, " n"]) -> float:
  return float(values.mean()) if len(values) else float("nan")
