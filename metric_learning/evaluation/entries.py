"""What an entry of the table of scores says, and what a score is given."""

import functools
import re
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Array

from metric_learning.distances import MetricName
from metric_learning.evaluation.open_set import OpenSet


class Points(NamedTuple):
  """What a score is computed of.

  metric: of the family "own" the one that was trained, else cosine.
  gallery: where queries look, and what they do not see: keywords of
    `retrieval`.
  pairs: explicit ones, as first rows, second rows, and whether they are of one
    class; such points have no labels.
  superclasses: `superclasses[label]` names the super-class of a class.
  open_set: how identification draws who is known.
  asked: the names with numbers that are asked for, without their family.
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
    """The labels, where each point has one; None where it has none or more."""
    return self.labels if np.ndim(self.labels) == 1 else None


class Given(NamedTuple):
  """What is known of a set before it is embedded."""

  num_points: int
  explicit_pairs: bool = False
  gallery: bool = False
  folds: bool = False
  several_labels: bool = False
  superclasses: bool = False


class Score(NamedTuple):
  """What is known of a score, before and after it is computed.

  name: a capital in it, as in "recall_at_K", stands for a whole number.
  family: "own" and "cosine" for scores under a metric, or another word.
  compute: from `Points` to the score, or to several by their names, which are
    entries that share the function. None: `evaluate` does not give it, since it
    takes a threshold that was learned on other pairs.
  better: which of two values is the better one; None where it only describes
    the embeddings, and neither is.
  heading: above its column, with {K} for the number; its name if empty.
  needs: "points", nothing but embeddings; "labels", one or several of each
    point; "classes", one label of each; "one set", classes of points that are
    no queries to a gallery; "superclasses", of classes; "pairs", of all points
    or explicit ones, which are the same if they have a label in common.
  slow: whether it takes seconds, and is computed only if it is named.
  by_query: from `Points` to what each query adds, where it is a mean over
    queries.
  numbers: of each capital in the name, the least number and a usual one.
  fixed: numbers that are in the name as they are, such as a rate F.
  absent: why a set does not give it, where `needs` does not say.
  no_choice: why it is the same for all embeddings of some points, from its
    numbers, labels, groups, and which explicit pairs are of one class.
  """

  name: str
  family: str
  compute: Callable[[Points], float | dict[str, float]] | None
  better: Literal["higher", "lower"] | None
  heading: str = ""
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
    """Its whole name, with usual numbers."""
    usual = {
      letter: str(number) for letter, (_, number) in self.numbers.items()
    }
    return f"{self.family}/{_replaced(self.name, usual)}"

  def numbers_in(self, name: str) -> dict[str, Any] | None:
    """The numbers of a whole name; None if it is that of another score."""
    match = _pattern(self.name, self.family, *self.numbers).fullmatch(name)
    if not match:
      return None
    found = {
      letter: int(number) for letter, number in match.groupdict().items()
    }
    if any(found[x] < least for x, (least, _) in self.numbers.items()):
      return None
    return {**self.fixed, **found}


def _replaced(name: str, letters: Mapping[str, str]) -> str:
  """A name, other text for its single letters.

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
