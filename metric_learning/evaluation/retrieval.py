"""Ranking metrics: is the query's class among its nearest references?

Ranks are exact; see `neighbors` for ties. Distances are computed from float32
differences. float64 embeddings far from the origin are first centered in
float64. Cosine, angular and dot depend on the origin, so they get these
embeddings rounded instead.

With `groups`, such as cameras or sequences, a query does not see references
that share both its class *and* its group: these are too easy, and count neither
as right nor as wrong. References of its class in other groups are its R
relevant ones, and all references of other classes remain. This is the rule of
Market-1501.

If items have several labels, a reference is relevant if it shares a label with
the query. The mean of a class is over the queries that have its label.

Sources: R-Precision and MAP@R as in Musgrave et al., A Metric Learning
Reality Check, ECCV 2020; groups, Zheng et al., Scalable Person
Re-identification, ICCV 2015.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Array, Float, Int, Shaped

from metric_learning.distances import MetricName
from metric_learning.errors import InputError
from metric_learning.evaluation.neighbors import (
  for_each_nearest,
  places,
  shuffled,
)
from metric_learning.evaluation.tiles import (
  Codes,
  Keys,
  as_float32,
  check_embeddings,
  check_labels,
  check_whole,
  for_each_block,
)
from metric_learning.relevance import (
  check_kinds,
  count_answers,
  keys_of,
  related,
  related_at,
)


def retrieval(
  embeddings: Float[np.ndarray | Array, "n d"],
  labels: Int[np.ndarray | Array, " n *k"],
  *,
  metric: MetricName = "l2",
  ks: Sequence[int] = (1, 2, 4, 8),
  references: Float[np.ndarray | Array, "m d"] | None = None,
  reference_labels: Int[np.ndarray | Array, " m *k"] | None = None,
  exclude_self: bool | Int[np.ndarray | Array, " n"] = False,
  groups: Int[np.ndarray | Array, " n"] | None = None,
  reference_groups: Int[np.ndarray | Array, " m"] | None = None,
) -> dict[str, float]:
  """Recall@K, R-Precision, MAP@R and MRR, means over every row as a query.

  References are ranked r_1, r_2, ... by increasing distance, rel(i) is 1 if
  r_i has the query's class (or one of them), P(i) = Σ_{j≤i} rel(j) / i. With R
  relevant references, the scores of a query are

    recall_at_K   1 if one of the first K is relevant, else 0
    precision_at_1  rel(1)
    r_precision   Σ_{i≤R} rel(i) / R
    map_at_r      Σ_{i≤R} P(i) rel(i) / R  (by R, not by the number of hits)
    mrr           1 / (rank of the first relevant one), over all references

  Each of these names gives the mean over queries, and `macro_<name>` the mean
  over classes of class means. The other names are

    num_queries    the number of scored queries
    lone_queries   the number of queries without a score, because no reference
                   is relevant; they remain references of other queries
    tied_fraction  the share of queries whose two nearest references are equally
                   far; if it is not near 0, the embeddings have collapsed

  If no query is scored, every mean is NaN.

  >>> embeddings = np.array([[0.0], [1.0], [2.5], [3.0]])
  >>> scores = retrieval(embeddings, np.array([0, 0, 1, 0]), ks=(1, 2))
  >>> scores["recall_at_1"]  # of 0, 1 and 3; the nearest to 3 is 2.5
  0.666...
  >>> scores["map_at_r"]  # R = 2; (1/1 + 0)/2, (1/1 + 0)/2 and (0 + 1/2)/2
  0.416...
  >>> scores["lone_queries"]
  1.0

  Args and errors are those of `retrieval_per_query`.
  """
  values = retrieval_per_query(
    embeddings,
    labels,
    metric=metric,
    ks=ks,
    references=references,
    reference_labels=reference_labels,
    exclude_self=exclude_self,
    groups=groups,
    reference_groups=reference_groups,
  )
  return _means(values, labels)


def retrieval_per_query(
  embeddings: Float[np.ndarray | Array, "n d"],
  labels: Int[np.ndarray | Array, " n *k"],
  *,
  metric: MetricName = "l2",
  ks: Sequence[int] = (1, 2, 4, 8),
  references: Float[np.ndarray | Array, "m d"] | None = None,
  reference_labels: Int[np.ndarray | Array, " m *k"] | None = None,
  exclude_self: bool | Int[np.ndarray | Array, " n"] = False,
  groups: Int[np.ndarray | Array, " n"] | None = None,
  reference_groups: Int[np.ndarray | Array, " m"] | None = None,
) -> dict[str, Float[np.ndarray, " n"]]:
  """The scores of each query in `retrieval`; NaN for lone queries.

  >>> embeddings = np.array([[0.0], [1.0], [2.5], [3.0]])
  >>> values = retrieval_per_query(embeddings, np.array([0, 0, 1, 0]))
  >>> values["mrr"]  # from 3, the first of class 0 is the second, 1
  array([1. , 1. , nan, 0.5])

  Args:
    embeddings: one query per row.
    labels: the class of each query; or, if items have several labels, an array
      of 0 and 1 with a row for each item and a column for each class.
    metric: a name in `METRICS`, or `(name, {options})`.
    ks: the K of Recall@K.
    references: the points to search. None searches the other embeddings.
    reference_labels: the class of each reference, or its classes.
    exclude_self: for references that include queries: True if query i is
      reference i; or the index of each query among the references, -1 for a
      query that is not a reference. A query does not see itself.
    groups: the group of each query. A query does not see references that share
      its class and its group; other references of its class are its R.
    reference_groups: the group of each reference.

  Raises:
    InputError: if the metric is unknown, if embeddings are not finite, if
      labels or groups do not fit them, if a K is below 1, or if only one of
      references and reference_labels is given.
  """
  ks = _checked_ks(ks)
  sets = _checked(embeddings, labels, metric, references, reference_labels)
  seen = _seen(
    sets.labels,
    None if references is None else sets.gallery_labels,
    exclude_self=exclude_self,
    groups=groups,
    reference_groups=reference_groups,
  )
  return _values(metric, sets, seen, ks)


class _Sets(NamedTuple):
  """Queries and gallery as the metric compares them, with their labels."""

  queries: Float[np.ndarray, "n d"]
  gallery: Float[np.ndarray, "m d"]
  labels: Shaped[np.ndarray, " n *k"]
  gallery_labels: Shaped[np.ndarray, " m *k"]


def _checked(
  embeddings: Any,
  labels: Any,
  metric: MetricName,
  references: Any,
  reference_labels: Any,
) -> _Sets:
  queries = check_embeddings("embeddings", embeddings)
  labels = check_labels("labels", labels, len(queries), several=True)
  if (references is None) != (reference_labels is None):
    raise InputError(
      "references and reference_labels: give both or neither; without them, "
      "each row is a query to the other rows."
    )
  if references is None:
    (queries,) = as_float32(metric, queries)
    return _Sets(queries, queries, labels, labels)
  gallery = check_embeddings("references", references)
  reference_labels = check_labels(
    "reference_labels", reference_labels, len(gallery), several=True
  )
  if labels.shape[1:] != reference_labels.shape[1:]:
    raise InputError(
      f"labels and reference_labels: shapes {labels.shape} and"
      f" {reference_labels.shape} do not fit; give both one label for each"
      " item, or both the same columns of classes."
    )
  queries, gallery = as_float32(metric, queries, gallery)
  return _Sets(queries, gallery, labels, reference_labels)


def _checked_ks(ks: Sequence[int]) -> tuple[int, ...]:
  """Checks the K of Recall@K."""
  if np.ndim(ks) != 1 or not len(ks):
    raise InputError(
      f"ks={ks!r}: Recall@K needs a K of 1 or more, or several: ks=(1, 5)."
    )
  for k in ks:
    check_whole("ks: K", k, 1)
  return tuple(ks)


class _Seen(NamedTuple):
  """The references that queries see, in the order that breaks ties.

  order: the indices of the references in that order; a position is a place in
    this order.
  own: the position of each query, -1 if it is not a reference.
  keys: the keys of class and group, of references in that order.
  relevant: the number of relevant references that each query sees.
  """

  order: Int[np.ndarray, " m"]
  own: Int[np.ndarray, " n"] | None
  keys: Keys | None
  relevant: Int[np.ndarray, " n"]


def _seen(
  labels: Shaped[np.ndarray, " n *k"],
  reference_labels: Shaped[np.ndarray, " m *k"] | None,
  *,
  exclude_self: bool | Int[np.ndarray | Array, " n"] = False,
  groups: Int[np.ndarray | Array, " n"] | None,
  reference_groups: Int[np.ndarray | Array, " m"] | None,
) -> _Seen:
  if reference_labels is None:
    if exclude_self is not False:
      raise InputError(
        "exclude_self: give it only with references; without them, a query to"
        " the other rows never sees itself."
      )
    reference_labels, exclude_self = labels, True
    if reference_groups is not None:
      raise InputError("reference_groups: give them only with references.")
    reference_groups = groups
  elif (groups is None) != (reference_groups is None):
    raise InputError(
      "groups and reference_groups: with references, give both or neither."
    )
  check_kinds("labels", labels, reference_labels)
  order = shuffled(len(reference_labels))
  own = places(exclude_self, len(labels), order)
  in_order = reference_labels[order]
  if own is not None:
    _check_same(labels, in_order, own)
  keys = None
  if groups is not None and reference_groups is not None:
    groups = check_labels("groups", groups, len(labels))
    reference_groups = check_labels(
      "reference_groups", reference_groups, len(order)
    )
    keys = keys_of(labels, in_order, groups, reference_groups[order])
  relevant, _ = count_answers(labels, in_order, own, keys)
  return _Seen(order, own, keys and Keys(*keys), relevant)


def _values(
  metric: MetricName, sets: _Sets, seen: _Seen, ks: Sequence[int]
) -> dict[str, Float[np.ndarray, " n"]]:
  """The scores of each query."""
  lone = seen.relevant == 0
  names = [*(f"recall_at_{k}" for k in ks), "precision_at_1", "r_precision"]
  names += ["map_at_r", "mrr", "tied_fraction"]
  values = {name: np.full(len(lone), np.nan) for name in names}
  if lone.all():
    return values
  sets = sets._replace(
    gallery=sets.gallery[seen.order],
    gallery_labels=sets.gallery_labels[seen.order],
  )
  depth = min(max(int(seen.relevant.max()), *ks, 2), len(sets.gallery))

  def use(rows: np.ndarray, positions: np.ndarray, codes: np.ndarray) -> None:
    # References that a query does not see come after all its answers, where a
    # hit changes no score.
    hits = related_at(sets.labels[rows], sets.gallery_labels, positions)
    block = _scores(hits, seen.relevant[rows], ks)
    block["tied_fraction"] = (
      codes[:, 0] == codes[:, 1] if depth > 1 else np.zeros(len(codes))
    )
    for name, value in block.items():
      values[name][rows] = np.where(lone[rows], np.nan, value)

  for_each_nearest(
    use, metric, sets.queries, sets.gallery, depth, seen.own, seen.keys
  )
  # A few queries have no hit among their first neighbors. The rank of their
  # first hit is computed from all distances.
  missed = np.flatnonzero(np.isinf(values["mrr"]))
  if len(missed):
    values["mrr"][missed] = _ranks_of(missed, metric, sets, seen)
  return values


def _ranks_of(
  missed: Int[np.ndarray, " q"], metric: MetricName, sets: _Sets, seen: _Seen
) -> Float[np.ndarray, " q"]:
  """1 / rank of the first answer of the missed queries, from all distances."""
  answers_to = _finder(sets.gallery_labels)
  values = np.empty(len(missed))

  def rank(rows: slice, codes: Codes) -> None:
    answers = answers_to(sets.labels[missed[rows]])
    values[rows] = _reciprocal_ranks(np.asarray(codes), answers)

  own = None if seen.own is None else seen.own[missed]
  keys = seen.keys and seen.keys._replace(queries=seen.keys.queries[missed])
  for_each_block(rank, metric, sets.queries[missed], sets.gallery, own, keys)
  return values


def _check_same(
  labels: np.ndarray, reference_labels: np.ndarray, own: np.ndarray
) -> None:
  """Checks that a query has the same labels as itself among the references."""
  differ = labels != reference_labels[own]
  differ = (own >= 0) & differ.reshape(len(labels), -1).any(axis=1)
  if differ.any():
    raise InputError(
      f"exclude_self: {np.count_nonzero(differ)} of {len(labels)} queries have"
      f" another class than the reference with their index (the first is query"
      f" {np.argmax(differ)}, of class {labels[np.argmax(differ)]}): give the"
      " index of each query among the references."
    )


def _finder(
  reference_labels: Shaped[np.ndarray, " m *k"],
) -> Callable[[np.ndarray], Sequence[Int[np.ndarray, " _"]]]:
  """A function from labels of queries to the positions of their answers.

  An answer is a reference that shares a label. Positions are ascending.
  """
  if reference_labels.ndim > 1:
    return lambda labels: [
      np.flatnonzero(row) for row in related(labels, reference_labels)
    ]
  classes, first = np.unique(np.sort(reference_labels), return_index=True)
  grouped = np.split(np.argsort(reference_labels, kind="stable"), first[1:])
  members = dict(zip(classes.tolist(), grouped, strict=True))
  return lambda labels: [members[label] for label in labels.tolist()]


def _scores(
  hits: np.ndarray, relevant_count: Int[np.ndarray, " b"], ks: Sequence[int]
) -> dict[str, np.ndarray]:
  """The scores of queries, computed from their first neighbors.

  The reciprocal rank is infinite if there is no hit among these.
  """
  # A lone query divides by 1 instead of 0; its scores are dropped.
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
    # argmin returns the lowest position among equal distances.
    first = members[np.argmin(row[members])]
    closer = np.count_nonzero(row < row[first])
    tied_before = np.count_nonzero(row[:first] == row[first])
    result[i] = 1 / (1 + closer + tied_before)
  return result


def _means(
  values: Mapping[str, Float[np.ndarray, " n"]],
  labels: Int[np.ndarray | Array, " n *k"],
) -> dict[str, float]:
  """The means over scored queries, and the means over their class means."""
  scored = np.isfinite(values["mrr"])
  classes = np.asarray(labels)[scored]
  scores = {name: _mean(value[scored]) for name, value in values.items()}
  for name, value in values.items():
    if name != "tied_fraction":
      scores[f"macro_{name}"] = _mean(_class_means(value[scored], classes))
  scores["num_queries"] = float(np.count_nonzero(scored))
  scores["lone_queries"] = float(np.count_nonzero(~scored))
  return scores


def _class_means(
  values: Float[np.ndarray, " n"], labels: Shaped[np.ndarray, " n *k"]
) -> Float[np.ndarray, " c"]:
  """The mean value of each class; a query counts in each class it has."""
  if labels.ndim > 1:
    sizes = labels.sum(axis=0)
    return (labels.T @ values)[sizes > 0] / sizes[sizes > 0]
  _, index = np.unique(labels, return_inverse=True)
  return np.bincount(index, values) / np.bincount(index)


def _mean(values: Float[np.ndarray, " n"]) -> float:
  return float(values.mean()) if len(values) else float("nan")
