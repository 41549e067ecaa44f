"""The entries of the table of scores, and the inputs of a score."""

import functools
import re
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Array

from metric_learning.distances import MetricName
from metric_learning.evaluation.open_set import OpenSet


class Points(NamedTuple):
  """The inputs of a score.

  metric: the trained metric for the family "own", cosine for "cosine".
  gallery: keywords of `retrieval` that say where queries search, and what they
    do not see.
  pairs: explicit pairs, as first rows, second rows, and whether both have the
    same class; such points have no labels.
  superclasses: `superclasses[label]` names the super-class of a class.
  open_set: how identification draws the known classes.
  asked: the requested names that contain numbers, without their family.
  """

  embeddings: np.ndarray | Array
  labels: Any = None
  metric: MetricName = "l2"
  normalized: str = "none"
  ks: tuple[int, ...] = (1,)
  gallery: Mapping[str, Any] = {}
  pairs: tuple[Any, Any, Any] | None = None
  superclasses: Any = None
  open_set: OpenSet = OpenSet()
  asked: tuple[str, ...] = ()

  @property
  def classes(self) -> Any:
    """The labels if each point has exactly one, else None."""
    return self.labels if np.ndim(self.labels) == 1 else None


class Given(NamedTuple):
  """The properties of a set that are known before it is embedded."""

  num_points: int
  explicit_pairs: bool = False
  gallery: bool = False
  folds: bool = False
  several_labels: bool = False
  superclasses: bool = False


class Score(NamedTuple):
  """An entry of the table: the properties of a score, and how to compute it.

  name: a capital in the name, as in "recall_at_K", stands for an integer.
  family: "own" and "cosine" for scores under a metric, or another word.
  compute: maps `Points` to the score, or to several scores by name, whose
    entries share the function. None for scores that `evaluate` does not
    compute, since they need a threshold learned on other pairs.
  better: which of two values is better; None for descriptive scores, of which
    neither direction is better.
  heading: the heading of its column, with {K} for the number; the name if
    empty.
  about: its meaning, in one line.
  needs: "points" for embeddings only; "labels" for one or several labels of
    each point; "classes" for exactly one label of each point; "one set" for one
    label of each point, without a gallery; "superclasses" for super-classes of
    the labels; "pairs" for pairs of all points, or explicit pairs, which are
    genuine if their points share a label.
  slow: whether the score takes seconds; it is computed only if it is named.
  by_query: maps `Points` to the value of each query, for a mean over queries.
  numbers: for each capital in the name, the least number and a usual number.
  fixed: numbers that the name spells out, such as a rate F.
  absent: the reason why a set does not have the score, beyond `needs`; or None.
  no_choice: the reason why the score is the same for all embeddings of a set,
    or None; it gets the numbers of the score, the labels, the groups, and which
    explicit pairs are genuine.
  """

  name: str
  family: str
  compute: Callable[[Points], float | dict[str, float]] | None
  better: Literal["higher", "lower"] | None
  heading: str = ""
  about: str = ""
  needs: Literal[
    "points", "labels", "classes", "one set", "superclasses", "pairs"
  ] = "classes"
  slow: bool = False
  by_query: Callable[[Points], Mapping[str, np.ndarray]] | None = None
  numbers: Mapping[str, tuple[int, int]] = {}
  fixed: Mapping[str, Any] = {}
  absent: Callable[[Given], str | None] = lambda given: None
  no_choice: Callable[..., str | None] = lambda *_: None

  @property
  def usual(self) -> str:
    """The full name of the score, with usual numbers."""
    usual = {
      letter: str(number) for letter, (_, number) in self.numbers.items()
    }
    return f"{self.family}/{_replaced(self.name, usual)}"

  def numbers_in(self, name: str) -> dict[str, Any] | None:
    """The numbers in a full name; None if the name is of another score."""
    match = _pattern(self.name, self.family, *self.numbers).fullmatch(name)
    if not match:
      return None
    values = {
      letter: int(number) for letter, number in match.groupdict().items()
    }
    if any(values[x] < least for x, (least, _) in self.numbers.items()):
      return None
    return {**self.fixed, **values}


def _replaced(name: str, letters: Mapping[str, str]) -> str:
  """Replaces the single letters of a name by texts.

  >>> _replaced("few_shot_N_way_K_shot", {"N": "5", "K": "1"})
  'few_shot_5_way_1_shot'
  """
  return "_".join(letters.get(word, word) for word in name.split("_"))


@functools.cache
def _pattern(name: str, family: str, *letters: str) -> re.Pattern[str]:
  numbers = {letter: rf"(?P<{letter}>[1-9]\d*)" for letter in letters}
  return re.compile(
    re.escape(f"{family}/") + _replaced(re.escape(name), numbers)
  )
