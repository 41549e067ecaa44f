"""Scores of points, computed from the entries of the table."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from metric_learning.errors import InputError
from metric_learning.evaluation.entries import Given, Points, Score
from metric_learning.evaluation.scores import (
  MAX_PAIRS,
  SCORES,
  absent,
  find,
  of_retrieval,
)


def compute(
  points: Points,
  asked: Collection[str] | None,
  max_pairs: int = MAX_PAIRS,
  alone: bool = False,
) -> dict[str, float]:
  """The scores of points that are quick, and those that are asked for.

  Verification of a family comes only if one of its scores is asked for, or if
  `asked` is None. `alone`: nothing comes but what is asked for, and what one
  function gives with it.

  Raises:
    InputError: for a name that is no score, and for one text instead of names.
  """
  if isinstance(asked, str):
    raise InputError(f"asked={asked!r}: give a list of names, [{asked!r}].")
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
  found: dict[Any, Mapping[str, float]] = {}
  scores: dict[str, float] = {}
  for score in wanted:
    assert score.compute is not None
    own = _in_family(points, score, named)
    # Once for all scores of a function; where cosine was trained, for both
    # families.
    key = score.compute, str(own.metric), own.asked
    if key not in found:
      value = score.compute(own)
      found[key] = value if isinstance(value, dict) else {score.name: value}
    scores |= {f"{score.family}/{k}": v for k, v in found[key].items()}
  return scores


Named = tuple[str, Score, dict[str, Any]]


def _ks(ks: Collection[int], named: Sequence[Named]) -> tuple[int, ...]:
  """The K of Recall@K, with those in names."""
  asked = {
    int(numbers["K"])
    for _, score, numbers in named
    if score.compute is of_retrieval and "K" in numbers
  }
  return tuple(sorted({*ks, *asked}))


def _in_family(points: Points, score: Score, named: Sequence[Named]) -> Points:
  """The points as the function of a score sees them."""
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
  """What each query adds to those of the columns that are means over queries.

  >>> points = Points(np.array([[0.0], [1.0], [3.0]]), np.array([0, 0, 0]))
  >>> per_query(["own/mrr", "own/eer"], points)
  {'own/mrr': array([1., 1., 1.])}
  """
  named = [(column, *find("column", column)) for column in columns]
  named = [one for one in named if one[1].by_query is not None]
  found: dict[Any, Mapping[str, np.ndarray]] = {}
  values = {}
  for column, score, _ in named:
    assert score.by_query is not None
    key = score.family, score.by_query
    if key not in found:
      family = [one for one in named if one[1].family == score.family]
      ks = _ks((), family) or (1,)
      found[key] = score.by_query(
        _in_family(points, score, family)._replace(ks=ks)
      )
    values[column] = found[key][column.partition("/")[2]]
  return values
