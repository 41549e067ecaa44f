"""The one table of scores: what each says, needs, and is computed by.

A new score is a function of `Points` and one entry of `SCORES`.
"""

import functools
import re
from collections.abc import (
  Callable,
  Collection,
  Iterator,
  Mapping,
  Sequence,
)
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Array, Bool, Int

from metric_learning.distances import MetricName
from metric_learning.errors import InputError, check_choice
from metric_learning.evaluation import choosing
from metric_learning.evaluation.clustering import clustering
from metric_learning.evaluation.few_shot import TooFewImagesError, few_shot
from metric_learning.evaluation.geometry import geometry, intra_inter_ratio
from metric_learning.evaluation.retrieval import retrieval, retrieval_per_query
from metric_learning.evaluation.verification import (
  FRR_AT_FAR,
  TAR_AT_FAR,
  pair_distances,
  pairs_of,
  verification,
)

# More unordered pairs than this are not kept for verification.
MAX_PAIRS = 5_000_000


class Points(NamedTuple):
  """What a score is computed of.

  metric: of the family "own" the one that was trained, else cosine.
  gallery: where queries look, and what they do not see: keywords of
    `retrieval`.
  pairs: explicit ones, as first rows, second rows, and whether they are of one
    class; such points have no labels.
  asked: the names with numbers that are asked for, without their family.
  """

  embeddings: np.ndarray | Array
  labels: Any = None
  metric: MetricName = "l2"
  normalized: str = "none"
  ks: tuple[int, ...] = (1,)
  gallery: Mapping[str, Any] = {}
  pairs: tuple[Any, Any, Any] | None = None
  asked: tuple[str, ...] = ()


class Given(NamedTuple):
  """What is known of a set before it is embedded."""

  num_points: int
  explicit_pairs: bool = False
  gallery: bool = False
  folds: bool = False


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
  needs: "points", nothing but embeddings; "classes"; "one set", classes that
    are no queries to a gallery; "pairs", of all points or explicit ones.
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
  needs: Literal["points", "classes", "one set", "pairs"] = "classes"
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


# --- How they are computed --------------------------------------------------


def _retrieval(points: Points) -> dict[str, float]:
  return retrieval(
    points.embeddings,
    points.labels,
    metric=points.metric,
    ks=points.ks,
    **points.gallery,
  )


def _per_query(points: Points) -> Mapping[str, np.ndarray]:
  return retrieval_per_query(
    points.embeddings,
    points.labels,
    metric=points.metric,
    ks=points.ks,
    **points.gallery,
  )


def _verification(points: Points) -> dict[str, float]:
  x, metric = points.embeddings, points.metric
  if points.pairs is None:
    return verification(*pairs_of(x, points.labels, metric))
  first, second, same = points.pairs
  return verification(pair_distances(x[first], x[second], metric), same)


def _intra_inter_ratio(points: Points) -> float:
  return intra_inter_ratio(
    points.embeddings,
    points.labels,
    metric=points.metric,
    normalized=points.normalized,
  )


def _few_shot(points: Points) -> dict[str, float]:
  scores = {}
  for name in points.asked:
    if match := re.match(r"few_shot_(\d+)_way_(\d+)_shot", name):
      found = _episodes(points, int(match[1]), int(match[2]))
      scores[match[0]] = found["accuracy"]
      scores[f"{match[0]}_interval"] = found["interval"]
  return scores


def _episodes(points: Points, ways: int, shots: int) -> dict[str, float]:
  x, labels = points.embeddings, points.labels
  try:
    return few_shot(x, labels, ways=ways, shots=shots, metric=points.metric)
  except TooFewImagesError:
    return {"accuracy": float("nan"), "interval": float("nan")}


def _geometry(points: Points) -> dict[str, float]:
  return geometry(points.embeddings, points.labels)


def _clustering(points: Points) -> dict[str, float]:
  return clustering(points.embeddings, points.labels)


# --- The table --------------------------------------------------------------

_K = {"K": (1, 1)}
_EPISODES = {
  "N": (2, 5),
  "K": (1, 1),
}  # One class is named rightly by anything.


def _retrieval_scores(family: str) -> Iterator[Score]:
  ranks: dict[str, Any] = {"no_choice": choosing.no_ranks}
  for name, short in (
    ("recall_at_K", "R@{K}"),
    ("precision_at_1", ""),
    ("r_precision", ""),
    ("map_at_r", "MAP@R"),
    ("mrr", ""),
  ):
    ranks["numbers"] = _K if name == "recall_at_K" else {}
    above = f"{short} {family}" if short else ""
    yield Score(
      *(name, family, _retrieval, "higher", above),
      by_query=_per_query,
      **ranks,
    )
    yield Score(f"macro_{name}", family, _retrieval, "higher", **ranks)
  for name in ("tied_fraction", "num_queries", "lone_queries"):
    yield Score(name, family, _retrieval, None)


def _verification_scores(family: str) -> Iterator[Score]:
  of = "" if family == "own" else f" {family}"
  pairs: dict[str, Any] = {"needs": "pairs", "no_choice": choosing.no_rates}
  yield Score("auc", family, _verification, "higher", f"AUC{of}", **pairs)
  yield Score("eer", family, _verification, "lower", f"EER{of}", **pairs)
  kinds: tuple[tuple[str, Any, tuple[float, ...]], ...] = (
    ("FRR", "lower", FRR_AT_FAR),
    ("TAR", "higher", TAR_AT_FAR),
  )
  for kind, better, rates in kinds:
    for rate in rates:
      yield Score(
        f"{kind.lower()}_at_far_{rate}",
        family,
        _verification,
        better,
        f"{kind} at FAR {100 * rate:g} %{of}",
        fixed={"F": rate},
        **pairs,
      )
  for name in ("num_genuine", "num_impostor"):
    yield Score(name, family, _verification, None, needs="pairs")


def _few_shot_scores(family: str) -> Iterator[Score]:
  of = "" if family == "own" else f" {family}"
  name = "few_shot_N_way_K_shot"
  episodes: dict[str, Any] = {"slow": True, "numbers": _EPISODES}
  yield Score(
    *(name, family, _few_shot, "higher", f"{{N}}-way {{K}}-shot{of}"),
    no_choice=choosing.no_episodes,
    **episodes,
  )
  yield Score(f"{name}_interval", family, _few_shot, None, **episodes)


def _without_folds(given: Given) -> str | None:
  none = "it is over folds of pairs, and there are none"
  return None if given.folds else none


def _with_folds(given: Given) -> str | None:
  return "each fold of the pairs has one of its own" if given.folds else None


def _table() -> Iterator[Score]:
  for family in ("own", "cosine"):
    yield from _retrieval_scores(family)
    yield from _verification_scores(family)
    yield from _few_shot_scores(family)
    yield Score(
      "intra_inter_ratio", family, _intra_inter_ratio, None, needs="one set"
    )
  for name in (
    *("effective_rank", "rho_spectrum_1", "embedding_norm_mean"),
    *("embedding_norm_std", "collapsed", "uniformity"),
  ):
    yield Score(name, "geometry", _geometry, None, needs="points")
  yield Score("alignment", "geometry", _geometry, None)
  for name in ("nmi", "ami", "f1"):
    yield Score(
      *(name, "clustering", _clustering, "higher", name.upper()),
      slow=True,
      no_choice=choosing.no_clusters,
    )
  # At a threshold that was learned on other pairs: no checkpoint is chosen by
  # them.
  yield Score("accuracy", "own", None, "higher", "accuracy", needs="pairs")
  yield Score(
    *("accuracy_standard_error", "own", None, None),
    needs="pairs",
    absent=_without_folds,
  )
  yield Score("threshold", "own", None, None, needs="pairs", absent=_with_folds)


SCORES: dict[str, Score] = {f"{s.family}/{s.name}": s for s in _table()}


# --- Readings of the table --------------------------------------------------


def score_of(name: str) -> Score:
  """The entry of a score.

  >>> score_of("own/recall_at_16").name, score_of("own/eer").better
  ('recall_at_K', 'lower')

  Raises:
    InputError: with the names that there are.
  """
  return _find("score", name)[0]


def _find(kind: str, name: str) -> tuple[Score, dict[str, Any]]:
  """The entry of a score, and the numbers in its name."""
  for score in (SCORES[name],) if name in SCORES else SCORES.values():
    numbers = score.numbers_in(name)
    if numbers is not None:
      return score, numbers
  check_choice(kind, name, names() - {name})
  raise AssertionError


def names() -> set[str]:
  """All scores, with one usual number where there are numbers in a name."""
  return {score.usual for score in SCORES.values()}


def is_slow(name: str) -> bool:
  """Whether `evaluate` takes seconds for it: clustering and few-shot.

  >>> is_slow("clustering/ami"), is_slow("own/map_at_r")
  (True, False)
  """
  return score_of(name).slow


def lower_is_better(name: str) -> bool:
  """Whether a smaller value of this score is the better one.

  >>> lower_is_better("own/eer"), lower_is_better("own/map_at_r")
  (True, False)
  """
  return score_of(name).better == "lower"


def is_at_threshold(name: str) -> bool:
  """Whether it takes a threshold that was learned on other pairs.

  >>> is_at_threshold("own/accuracy"), is_at_threshold("own/eer")
  (True, False)
  """
  return score_of(name).compute is None


def is_by_query(name: str) -> bool:
  """Whether it is a mean over queries.

  >>> is_by_query("own/recall_at_4"), is_by_query("own/eer")
  (True, False)
  """
  return score_of(name).by_query is not None


def heading(name: str) -> str:
  """What stands above its column in a table.

  >>> heading("own/few_shot_20_way_1_shot"), heading("geometry/alignment")
  ('20-way 1-shot', 'geometry/alignment')
  """
  score, numbers = _find("column", name)
  return score.heading.format(**numbers) or name


def check_score(kind: str, name: str, *, at_threshold: bool = False) -> None:
  """Checks that there is a score of this name.

  Those at a learned threshold are none, unless `at_threshold` says so.

  >>> check_score("column", "own/recall_at_16")
  >>> check_score("column", "own/map_at_t")
  Traceback (most recent call last):
  metric_learning.errors.InputError: unknown column 'own/map_at_t'; did you \
mean 'own/map_at_r'? Known: ...

  Raises:
    InputError: with the names that there are.
  """
  known = [s for s in SCORES.values() if s.compute is not None or at_threshold]
  if all(score.numbers_in(name) is None for score in known):
    check_choice(kind, name, [score.usual for score in known])


def check_ranks(kind: str, name: str) -> None:
  """Checks that one value of a score is better than another.

  >>> check_ranks("score", "own/eer")
  >>> check_ranks("score", "geometry/uniformity")
  Traceback (most recent call last):
  metric_learning.errors.InputError: score 'geometry/uniformity' describes \
embeddings, and says of none that they are better: take one of retrieval, \
verification or clustering, such as own/map_at_r.

  Raises:
    InputError: if it only describes.
  """
  if score_of(name).better is None:
    raise InputError(
      f"{kind} {name!r} describes embeddings, and says of none that they are"
      " better: take one of retrieval, verification or clustering, such as"
      " own/map_at_r."
    )


def why_absent(
  name: str,
  num_points: int,
  *,
  explicit_pairs: bool,
  gallery: bool,
  folds: bool = False,
) -> str | None:
  """Why a set does not give this score; None if it does.

  >>> why_absent("own/map_at_r", 9, explicit_pairs=True, gallery=False)
  'explicit pairs have no classes'
  >>> why_absent("own/eer", 9, explicit_pairs=True, gallery=False)

  Args:
    name: of a score.
    num_points: of the set.
    explicit_pairs: whether these are scored, by `evaluate_pairs`.
    gallery: whether points are queries that look there.
    folds: whether the explicit pairs have some.

  Raises:
    InputError: for a score that there is not.
  """
  given = Given(num_points, explicit_pairs, gallery, folds)
  return _why_absent(score_of(name), given, MAX_PAIRS)


def _why_absent(score: Score, given: Given, max_pairs: int) -> str | None:
  if reason := score.absent(given):
    return reason
  if score.needs == "points":
    return None
  if given.explicit_pairs:
    none = "explicit pairs have no classes"
    return None if score.needs == "pairs" else none
  if given.gallery and score.needs in ("pairs", "one set"):
    return "with a gallery, images are queries and make no pairs"
  pairs = given.num_points * (given.num_points - 1) // 2
  if score.needs == "pairs" and pairs > max_pairs:
    return f"{pairs:,} pairs are more than the {max_pairs:,} that are kept"
  return None


def why_no_choice(
  name: str,
  labels: Int[np.ndarray, " n"],
  *,
  groups: Int[np.ndarray, " n"] | None = None,
  same: Bool[np.ndarray, " p"] | None = None,
) -> str | None:
  """Why a score of these points cannot choose between embeddings of them.

  It is NaN, or the same number, for all embeddings. None if it can choose.

  >>> why_no_choice("own/map_at_r", np.array([0, 0, 1, 1]))
  >>> why_no_choice("own/map_at_r", np.array([0, 1, 2]))
  'no class has two images, so that no query has an answer'
  >>> why_no_choice("own/map_at_r", np.array([0, 0, 0]))
  'every image is of the class of every query: all neighbors are right'

  Args:
    name: a score that `check_ranks` takes.
    labels: the classes of the points.
    groups: as `retrieval` takes them.
    same: of explicit pairs, which are scored instead of all pairs.
  """
  if not len(labels):
    return "there are no images"
  score, numbers = _find("score", name)
  return score.no_choice(numbers, labels, groups, same)


# --- Computing --------------------------------------------------------------


def compute(
  points: Points, asked: Collection[str] | None, max_pairs: int = MAX_PAIRS
) -> dict[str, float]:
  """The scores of points that are quick, and those that are asked for.

  Verification comes only if one of its scores is asked for, or if `asked` is
  None.
  """
  given = Given(
    len(points.embeddings),
    points.pairs is not None,
    points.gallery.get("references") is not None,
  )
  named = [(name, *_find("score in asked", name)) for name in asked or ()]
  verifies = asked is None or any(s.needs == "pairs" for _, s, _ in named)
  points = points._replace(ks=_ks(points.ks, named))

  def is_wanted(score: Score) -> bool:
    if score.compute is None or _why_absent(score, given, max_pairs):
      return False
    if score.slow:
      return any(other is score for _, other, _ in named)
    return verifies or score.needs != "pairs"

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
    if score.compute is _retrieval and "K" in numbers
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
  named = [(column, *_find("column", column)) for column in columns]
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
