"""The one table of scores: their meaning, their needs, and their functions.

A new score needs a function of `Points` and one entry of `SCORES`.
"""

import re
from collections.abc import (
  Iterator,
  Mapping,
)
from typing import Any

import numpy as np
from jaxtyping import Int

from metric_learning.errors import InputError
from metric_learning.evaluation import choosing
from metric_learning.evaluation.clustering import clustering
from metric_learning.evaluation.entries import Given, Points, Score
from metric_learning.evaluation.few_shot import TooFewImagesError, few_shot
from metric_learning.evaluation.geometry import geometry, intra_inter_ratio
from metric_learning.evaluation.identification_scores import (
  identification_scores,
)
from metric_learning.evaluation.retrieval import retrieval, retrieval_per_query
from metric_learning.evaluation.verification import (
  FRR_AT_FAR,
  TAR_AT_FAR,
  pair_distances,
  pairs_of,
  verification,
)

# The most unordered pairs that verification keeps: those of 5,000 items.
MAX_PAIRS = 12_500_000


# --- The functions of scores ------------------------------------------------


def of_retrieval(points: Points) -> dict[str, float]:
  """All scores of retrieval, which are computed at once."""
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


_OF_SUPERCLASSES = (("recall_at_K", "R@{K}"), ("map_at_r", "MAP@R"))


def _by_superclass(points: Points) -> dict[str, float]:
  """Retrieval where references of the super-class of the query are relevant."""
  gallery = dict(points.gallery)
  if gallery.get("references") is not None:
    labels = gallery["reference_labels"]
    gallery["reference_labels"] = superclass_numbers(
      points.superclasses, labels
    )
  ks = [int(name.rpartition("_")[2]) for name in points.asked] or [1]
  scores = retrieval(
    points.embeddings,
    superclass_numbers(points.superclasses, points.labels),
    metric=points.metric,
    ks=ks,
    **gallery,
  )
  names = [*(f"recall_at_{k}" for k in ks), "map_at_r"]
  return {f"superclass_{name}": scores[name] for name in names}


def superclass_numbers(superclasses: Any, labels: Any) -> Int[np.ndarray, " n"]:
  """The super-class of each label, as an integer."""
  labels = np.asarray(labels)
  if labels.dtype.kind not in "iu" or not (
    0 <= labels.min() <= labels.max() < len(superclasses)
  ):
    raise InputError(
      f"superclasses are those of {len(superclasses)} classes: give labels as"
      f" integers from 0 to {len(superclasses) - 1}."
    )
  _, numbers = np.unique(list(superclasses), return_inverse=True)
  return numbers[labels]


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
      result = _episodes(points, int(match[1]), int(match[2]))
      scores[match[0]] = result["accuracy"]
      scores[f"{match[0]}_interval"] = result["interval"]
  return scores


def _episodes(points: Points, ways: int, shots: int) -> dict[str, float]:
  x, labels = points.embeddings, points.labels
  try:
    return few_shot(x, labels, ways=ways, shots=shots, metric=points.metric)
  except TooFewImagesError:
    return {"accuracy": float("nan"), "interval": float("nan")}


def _geometry(points: Points) -> dict[str, float]:
  return geometry(points.embeddings, points.classes)


def _clustering(points: Points) -> dict[str, float]:
  return clustering(points.embeddings, points.labels)


# --- The table --------------------------------------------------------------

_K = {"K": (1, 1)}
# At least two classes: any classifier is right if there is only one.
_EPISODES = {"N": (2, 5), "K": (1, 1)}


def _retrieval_scores(family: str) -> Iterator[Score]:
  ranks: dict[str, Any] = {"no_choice": choosing.no_ranks, "needs": "labels"}
  for name, short, about in (
    (
      *("recall_at_K", "R@{K}"),
      "The share of queries with a relevant item among the K nearest.",
    ),
    (
      *("precision_at_1", ""),
      "The share of queries whose nearest item is relevant.",
    ),
    (
      *("r_precision", ""),
      "The share of relevant items among the R nearest; R are relevant in all.",
    ),
    (
      *("map_at_r", "MAP@R"),
      "Σ_{i≤R} P(i) rel(i) / R: the precision at each relevant item, up to R.",
    ),
    ("mrr", "", "The mean of 1 / the rank of the first relevant item."),
  ):
    ranks["numbers"] = _K if name == "recall_at_K" else {}
    above = f"{short} {family}" if short else ""
    yield Score(
      *(name, family, of_retrieval, "higher", above, about),
      by_query=_per_query,
      **ranks,
    )
    yield Score(
      *(f"macro_{name}", family, of_retrieval, "higher"),
      about=f"{name}, as the mean over classes of the mean of each class.",
      **ranks,
    )
  for name, about in (
    (
      "tied_fraction",
      "The share of queries whose two nearest items are equally far.",
    ),
    ("num_queries", "The number of queries with a relevant item."),
    ("lone_queries", "The number of queries without a relevant item."),
  ):
    yield Score(
      *(name, family, of_retrieval, None), about=about, needs="labels"
    )


def _superclass_scores(family: str) -> Iterator[Score]:
  for name, short in _OF_SUPERCLASSES:
    yield Score(
      *(f"superclass_{name}", family, _by_superclass, "higher"),
      f"{short} super-class {family}",
      f"{name}, where items of the query's super-class are relevant.",
      needs="superclasses",
      slow=True,
      numbers=_K if name == "recall_at_K" else {},
      no_choice=choosing.no_ranks,
    )


def _verification_scores(family: str) -> Iterator[Score]:
  of = "" if family == "own" else f" {family}"
  pairs: dict[str, Any] = {"needs": "pairs", "no_choice": choosing.no_rates}
  yield Score(
    *("auc", family, _verification, "higher", f"AUC{of}"),
    "The probability that a genuine pair is nearer than an impostor pair.",
    **pairs,
  )
  yield Score(
    *("eer", family, _verification, "lower", f"EER{of}"),
    "The rate of errors at the threshold where FAR and FRR are equal.",
    **pairs,
  )
  kinds: tuple[tuple[str, Any, tuple[float, ...], str], ...] = (
    ("FRR", "lower", FRR_AT_FAR, "genuine pairs that are rejected"),
    ("TAR", "higher", TAR_AT_FAR, "genuine pairs that are accepted"),
  )
  for kind, better, rates, share in kinds:
    for rate in rates:
      yield Score(
        f"{kind.lower()}_at_far_{rate}",
        family,
        _verification,
        better,
        f"{kind} at FAR {100 * rate:g} %{of}",
        f"The share of {share}, if at most {100 * rate:g} % of impostors are"
        " accepted.",
        fixed={"F": rate},
        **pairs,
      )
  for name, about in (
    ("num_genuine", "The number of pairs of one class."),
    ("num_impostor", "The number of pairs of two classes."),
  ):
    yield Score(
      *(name, family, _verification, None), about=about, needs="pairs"
    )


def _few_shot_scores(family: str) -> Iterator[Score]:
  of = "" if family == "own" else f" {family}"
  name = "few_shot_N_way_K_shot"
  episodes: dict[str, Any] = {"slow": True, "numbers": _EPISODES}
  yield Score(
    *(name, family, _few_shot, "higher", f"{{N}}-way {{K}}-shot{of}"),
    about="The accuracy among N new classes with K examples each.",
    no_choice=choosing.no_episodes,
    **episodes,
  )
  yield Score(
    *(f"{name}_interval", family, _few_shot, None),
    about="The half-width of its 95 % interval over episodes.",
    **episodes,
  )


def _without_folds(given: Given) -> str | None:
  reason = "it needs folds of pairs, and there are none"
  return None if given.folds else reason


def _with_folds(given: Given) -> str | None:
  return "each fold of the pairs has its own" if given.folds else None


def _table() -> Iterator[Score]:
  for family in ("own", "cosine"):
    yield from _retrieval_scores(family)
    yield from _superclass_scores(family)
    yield from _verification_scores(family)
    yield from _few_shot_scores(family)
    yield from identification_scores(family)
    yield Score(
      *("intra_inter_ratio", family, _intra_inter_ratio, None),
      about="The mean distance within a class, over that of class means.",
      needs="one set",
    )
  for name, about in (
    ("effective_rank", "The number of directions that embeddings use."),
    ("rho_spectrum_1", "How unequal their singular values are; 0: all equal."),
    ("embedding_norm_mean", "The mean of their norms."),
    ("embedding_norm_std", "The standard deviation of their norms."),
    ("collapsed", "1 if embeddings are practically a point or a line, else 0."),
    ("uniformity", "The log of the mean exp(-2 ∣x - y∣²) on the unit sphere."),
  ):
    yield Score(name, "geometry", _geometry, None, about=about, needs="points")
  yield Score(
    *("alignment", "geometry", _geometry, None),
    about="The mean ∣x - y∣² of two items of a class on the unit sphere.",
  )
  for name, about in (
    ("nmi", "Normalized mutual information of k-means and classes."),
    ("ami", "The same, adjusted for chance."),
    ("f1", "F1 of pairs: in one cluster of k-means, and of one class."),
  ):
    yield Score(
      *(name, "clustering", _clustering, "higher", name.upper(), about),
      slow=True,
      no_choice=choosing.no_clusters,
    )
  # Scores at a threshold that was learned on other pairs. They never choose a
  # checkpoint.
  yield Score(
    *("accuracy", "own", None, "higher", "accuracy"),
    about="The share of pairs decided correctly by a threshold of other pairs.",
    needs="pairs",
  )
  yield Score(
    *("accuracy_standard_error", "own", None, None),
    about="Its standard error over folds of pairs.",
    needs="pairs",
    absent=_without_folds,
  )
  yield Score(
    *("threshold", "own", None, None),
    about="The threshold, learned on validation classes.",
    needs="pairs",
    absent=_with_folds,
  )


SCORES: dict[str, Score] = {f"{s.family}/{s.name}": s for s in _table()}
