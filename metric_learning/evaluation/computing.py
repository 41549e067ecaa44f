"""Computes scores of points from the entries of the table `SCORES`."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from metric_learning.errors import InputError
from metric_learning.evaluation.entries import Given, Points, Score
from metric_learning.evaluation.score_questions import absent, find
from metric_learning.evaluation.scores import MAX_PAIRS, SCORES, of_retrieval


def compute(
  points: Points,
  asked: Collection[str] | None,
  max_pairs: int = MAX_PAIRS,
  alone: bool = False,
) -> dict[str, float]:
  """Computes all fast scores of points, and the scores that are asked for.

  Verification scores of a family are computed only if `asked` names one of
  them or is None. With `alone`, only the functions of the scores in `asked`
  run; a function may return further scores.

  Raises:
    InputError: if a name is not a score, or if `asked` is a single string.
  """
  if isinstance(asked, str):
    raise InputError(f"asked={asked!r}: pass a list of names, [{asked!r}].")
  given = Given(
    len(points.embeddings),
    points.pairs is not None,
    points.gallery.get("references") is not None,
    several_labels=np.ndim(points.labels) > 1,
    superclasses=points.superclasses is not None,
  )
  named = [(name, *find("score in asked", name)) for name in asked or ()]
  sources = {(score.family, score.compute) for _, score, _ in named}
  verified = {score.family for _, score, _ in named if score.needs == "pairs"}
  points = points._replace(ks=_ks(points.ks, named))

  def is_wanted(score: Score) -> bool:
    if score.compute is None or absent(score, given, max_pairs):
      return False
    if score.slow:
      return any(other is score for _, other, _ in named)
    if score.needs == "pairs" and asked is not None:
      return score.family in verified
    return not alone or (score.family, score.compute) in sources

  wanted = [score for score in SCORES.values() if is_wanted(score)]
  results: dict[Any, Mapping[str, float]] = {}
  scores: dict[str, float] = {}
  for score in wanted:
    assert score.compute is not None
    inputs = _in_family(points, score, named)
    # Each function runs once for all its scores. If cosine was trained, it runs
    # once for both families.
    key = score.compute, str(inputs.metric), inputs.asked
    if key not in results:
      value = score.compute(inputs)
      results[key] = value if isinstance(value, dict) else {score.name: value}
    scores |= {f"{score.family}/{k}": v for k, v in results[key].items()}
  return scores


Named = tuple[str, Score, dict[str, Any]]


def _ks(ks: Collection[int], named: Sequence[Named]) -> tuple[int, ...]:
  """The K of Recall@K, including those in the names of scores."""
  asked = {
    int(numbers["K"])
    for _, score, numbers in named
    if score.compute is of_retrieval and "K" in numbers
  }
  return tuple(sorted({*ks, *asked}))


def _in_family(points: Points, score: Score, named: Sequence[Named]) -> Points:
  """The points that the function of a score is called with."""
  asked = tuple(
    name.partition("/")[2]
    for name, other, _ in named
    if other.numbers
    and (other.family, other.compute) == (score.family, score.compute)
  )
  metric = points.metric if score.family == "own" else "cosine"
  return points._replace(metric=metric, asked=asked)


def per_query(
  columns: Collection[str], points: Points
) -> dict[str, np.ndarray]:
  """The value of each query, for the columns that are means over queries.

  >>> points = Points(np.array([[0.0], [1.0], [3.0]]), np.array([0, 0, 0]))
  >>> per_query(["own/mrr", "own/eer"], points)
  {'own/mrr': array([1., 1., 1.])}
  """
  named = [(column, *find("column", column)) for column in columns]
  named = [one for one in named if one[1].by_query is not None]
  results: dict[Any, Mapping[str, np.ndarray]] = {}
  values = {}
  for column, score, _ in named:
    assert score.by_query is not None
    key = score.family, score.by_query
    if key not in results:
      family = [one for one in named if one[1].family == score.family]
      ks = _ks((), family) or (1,)
      results[key] = score.by_query(
        _in_family(points, score, family)._replace(ks=ks)
      )
    values[column] = results[key][column.partition("/")[2]]
  return values
