"""Questions about scores: names, headings, and why one cannot be computed."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Int

from metric_learning.errors import InputError, check_choice
from metric_learning.evaluation.entries import Given, Score
from metric_learning.evaluation.scores import (
  MAX_PAIRS,
  SCORES,
  superclass_numbers,
)


def score_of(name: str) -> Score:
  """The entry of a score.

  >>> score_of("own/recall_at_16").name, score_of("own/eer").better
  ('recall_at_K', 'lower')

  Raises:
    InputError: if there is no such score; the message lists the names.
  """
  return find("score", name)[0]


def find(kind: str, name: str) -> tuple[Score, dict[str, Any]]:
  """The entry of a score, and the numbers in its name."""
  for score in (SCORES[name],) if name in SCORES else SCORES.values():
    numbers = score.numbers_in(name)
    if numbers is not None:
      return score, numbers
  check_choice(kind, name, names() - {name})
  raise AssertionError


def names() -> set[str]:
  """The names of all scores, each with usual numbers in it."""
  return {score.usual for score in SCORES.values()}


def is_slow(name: str) -> bool:
  """Whether `evaluate` computes a score only if it is named.

  These are the scores of clustering, few-shot, super-classes and
  identification.

  >>> is_slow("clustering/ami"), is_slow("own/map_at_r")
  (True, False)
  """
  return score_of(name).slow


def lower_is_better(name: str) -> bool:
  """Whether smaller values of a score are better.

  >>> lower_is_better("own/eer"), lower_is_better("own/map_at_r")
  (True, False)
  """
  return score_of(name).better == "lower"


def is_at_threshold(name: str) -> bool:
  """Whether a score needs a threshold that was learned on other pairs.

  >>> is_at_threshold("own/accuracy"), is_at_threshold("own/eer")
  (True, False)
  """
  return score_of(name).compute is None


def is_by_query(name: str) -> bool:
  """Whether a score is a mean over queries.

  >>> is_by_query("own/recall_at_4"), is_by_query("own/eer")
  (True, False)
  """
  return score_of(name).by_query is not None


def heading(name: str) -> str:
  """The heading of the column of a score in a table.

  >>> heading("own/few_shot_20_way_1_shot"), heading("geometry/alignment")
  ('20-way 1-shot', 'geometry/alignment')
  """
  score, numbers = find("column", name)
  return score.heading.format(**numbers) or name


def check_score(kind: str, name: str, *, at_threshold: bool = False) -> None:
  """Checks that there is a score of this name.

  Scores at a learned threshold are refused, unless `at_threshold` is set.

  >>> check_score("column", "own/recall_at_16")
  >>> check_score("column", "own/map_at_t")
  Traceback (most recent call last):
  metric_learning.errors.InputError: unknown column 'own/map_at_t'; did you \
mean 'own/map_at_r'? Known: ...

  Raises:
    InputError: if there is no such score; the message lists the names.
  """
  known = [s for s in SCORES.values() if s.compute is not None or at_threshold]
  if all(score.numbers_in(name) is None for score in known):
    check_choice(kind, name, [score.usual for score in known])


def check_ranks(kind: str, name: str) -> None:
  """Checks that a score can rank embeddings: higher or lower is better.

  >>> check_ranks("score", "own/eer")
  >>> check_ranks("score", "geometry/uniformity")
  Traceback (most recent call last):
  metric_learning.errors.InputError: score 'geometry/uniformity' only \
describes embeddings and cannot rank them: choose a score of retrieval, \
verification or clustering, such as own/map_at_r.

  Raises:
    InputError: if the score is only descriptive.
  """
  if score_of(name).better is None:
    raise InputError(
      f"{kind} {name!r} only describes embeddings and cannot rank them: choose"
      " a score of retrieval, verification or clustering, such as own/map_at_r."
    )


def why_absent(
  name: str,
  num_points: int,
  *,
  explicit_pairs: bool,
  gallery: bool,
  folds: bool = False,
  several_labels: bool = False,
  superclasses: bool = False,
) -> str | None:
  """Why a score cannot be computed for a set; None if it can.

  >>> why_absent("own/map_at_r", 9, explicit_pairs=True, gallery=False)
  'explicit pairs have no classes'
  >>> why_absent("own/eer", 9, explicit_pairs=True, gallery=False)
  >>> why_absent(
  ...   "clustering/nmi", 9, explicit_pairs=False, gallery=False,
  ...   several_labels=True,
  ... )
  'it takes one label of each item, and these have several'

  Args:
    name: the name of the score.
    num_points: the number of points of the set.
    explicit_pairs: whether the set is explicit pairs, for `evaluate_pairs`.
    gallery: whether points are queries to a gallery.
    folds: whether the explicit pairs have folds.
    several_labels: whether points have several labels.
    superclasses: whether classes have super-classes.

  Raises:
    InputError: if there is no such score.
  """
  given = Given(
    num_points, explicit_pairs, gallery, folds, several_labels, superclasses
  )
  return absent(score_of(name), given, MAX_PAIRS)


def absent(score: Score, given: Given, max_pairs: int) -> str | None:
  """Why a score cannot be computed for a set, from what is known beforehand."""
  if reason := score.absent(given):
    return reason
  if score.needs == "points":
    return None
  if given.explicit_pairs:
    reason = "explicit pairs have no classes"
    return None if score.needs == "pairs" else reason
  if given.several_labels and score.needs in (
    "classes",
    "one set",
    "superclasses",
  ):
    return "it takes one label of each item, and these have several"
  if score.needs == "superclasses" and not given.superclasses:
    return "its classes have no super-classes"
  if given.gallery and score.needs in ("pairs", "one set"):
    return "with a gallery, images are queries and do not form pairs"
  pairs = given.num_points * (given.num_points - 1) // 2
  if score.needs == "pairs" and pairs > max_pairs:
    return f"{pairs:,} pairs are more than the limit of {max_pairs:,}"
  return None


def why_no_choice(
  name: str,
  labels: Int[np.ndarray, " n *k"],
  *,
  groups: Int[np.ndarray, " n"] | None = None,
  same: Bool[np.ndarray, " p"] | None = None,
  superclasses: Sequence[str] | None = None,
) -> str | None:
  """Why a score cannot choose between embeddings of these points, or None.

  Such a score is NaN, or the same number, for all embeddings.

  >>> why_no_choice("own/map_at_r", np.array([0, 0, 1, 1]))
  >>> why_no_choice("own/map_at_r", np.array([0, 1, 2]))
  'no class has two images, so that no query has an answer'
  >>> why_no_choice("own/map_at_r", np.array([0, 0, 0]))
  'every image is of the class of every query: all neighbors are right'

  Args:
    name: the name of a score that passes `check_ranks`.
    labels: the labels of the points, as for `retrieval`.
    groups: the groups of the points, as for `retrieval`.
    same: which explicit pairs are genuine, if these are scored instead of all
      pairs.
    superclasses: `superclasses[label]` names the super-class of a class.
  """
  if not len(labels):
    return "there are no images"
  score, numbers = find("score", name)
  if score.needs == "superclasses" and superclasses is not None:
    labels = superclass_numbers(superclasses, labels)
  return score.no_choice(numbers, labels, groups, same)
