"""The names of all scores, which are slow, and which a set cannot give."""

import re
from collections.abc import Iterable

import numpy as np
from jaxtyping import Bool, Int

from metric_learning.errors import InputError, check_choice
from metric_learning.evaluation.few_shot import TooFewImagesError, check_images
from metric_learning.evaluation.retrieval import answers
from metric_learning.evaluation.verification import (
  FRR_AT_FAR,
  TAR_AT_FAR,
  refusal,
)

# More unordered pairs than this are not kept for verification.
MAX_PAIRS = 5_000_000

_NUMBER = r"([1-9]\d*)"
_FAR = re.compile(r"(?:own|cosine)/(?:frr|tar)_at_far_(.*)")
# Two classes at least: one would be named rightly by anything.
_WAYS = rf"(?!1_){_NUMBER}"
RECALL = re.compile(rf"(?:own|cosine)/(?:macro_)?recall_at_{_NUMBER}")
FEW_SHOT = re.compile(rf"(own|cosine)/few_shot_{_WAYS}_way_{_NUMBER}_shot")

# Of test pairs, at a threshold that was learned on others: no checkpoint is
# chosen by them.
AT_THRESHOLD = frozenset(
  ("own/accuracy", "own/accuracy_standard_error", "own/threshold")
)
_VERIFICATION = (
  "auc",
  "eer",
  *(f"frr_at_far_{f}" for f in FRR_AT_FAR),
  *(f"tar_at_far_{f}" for f in TAR_AT_FAR),
  "num_genuine",
  "num_impostor",
)
VERIFICATION = frozenset(
  f"{family}/{name}" for family in ("own", "cosine") for name in _VERIFICATION
)
_MEANS = ("recall_at_1", "precision_at_1", "r_precision", "map_at_r", "mrr")
_UNDER_A_METRIC = (
  *_MEANS,
  *(f"macro_{name}" for name in _MEANS),
  "tied_fraction",
  "num_queries",
  "lone_queries",
  "intra_inter_ratio",
  "few_shot_5_way_1_shot",
)
# With one K of Recall@K, and one N and K of few-shot.
SCORES = VERIFICATION | {
  *(f"own/{name}" for name in _UNDER_A_METRIC),
  *(f"cosine/{name}" for name in _UNDER_A_METRIC),
  "geometry/effective_rank",
  "geometry/rho_spectrum_1",
  "geometry/embedding_norm_mean",
  "geometry/embedding_norm_std",
  "geometry/collapsed",
  "geometry/uniformity",
  "geometry/alignment",
  "clustering/nmi",
  "clustering/ami",
  "clustering/f1",
}


def is_slow(score: str) -> bool:
  """Whether `evaluate` takes seconds for it: clustering and few-shot.

  >>> is_slow("clustering/ami"), is_slow("own/map_at_r")
  (True, False)
  """
  return score.startswith("clustering/") or bool(FEW_SHOT.match(score))


def check_score(kind: str, name: str, others: Iterable[str] = ()) -> None:
  """Checks that `evaluate` gives a score of this name, or that it is another.

  >>> check_score("column", "own/recall_at_16")
  >>> check_score("column", "own/map_at_t")
  Traceback (most recent call last):
  metric_learning.errors.InputError: unknown column 'own/map_at_t'; did you \
mean 'own/map_at_r'? Known: ...

  Raises:
    InputError: with the names that there are.
  """
  episodes = name.removesuffix("_interval")
  if not (RECALL.fullmatch(name) or FEW_SHOT.fullmatch(episodes)):
    check_choice(kind, name, {*SCORES, *others})


# Of which neither more nor less is better: they describe, and choose nothing.
_DESCRIBES = re.compile(
  r"geometry/.*|own/accuracy_standard_error|own/threshold|.*_interval"
  r"|(own|cosine)/(tied_fraction|num_.*|lone_queries|intra_inter_ratio)"
)


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
  if _DESCRIBES.fullmatch(name):
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
  check_score("score", name, AT_THRESHOLD)
  if name == "own/accuracy_standard_error" and not folds:
    return "it is over folds of pairs, and there are none"
  if name == "own/threshold" and folds:
    return "each fold of the pairs has one of its own"
  of_pairs = name in VERIFICATION | AT_THRESHOLD
  if explicit_pairs:
    of_points = name.startswith("geometry/") and name != "geometry/alignment"
    given = of_pairs or of_points
    return None if given else "explicit pairs have no classes"
  if gallery and (of_pairs or name.endswith("/intra_inter_ratio")):
    return "with a gallery, images are queries and make no pairs"
  pairs = num_points * (num_points - 1) // 2
  if of_pairs and pairs > MAX_PAIRS:
    return f"{pairs:,} pairs are more than the {MAX_PAIRS:,} that are kept"
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
  if name in VERIFICATION:
    return _why_no_rates(name, labels, same)
  if match := FEW_SHOT.fullmatch(name):
    try:
      check_images(labels, int(match[2]), int(match[3]))
    except TooFewImagesError as error:
      return str(error)
    return None
  if name.startswith("clustering/"):
    return _why_no_clusters(labels)
  return _why_no_ranks(name, labels, groups)


def _why_no_rates(
  name: str,
  labels: Int[np.ndarray, " n"],
  same: Bool[np.ndarray, " p"] | None,
) -> str | None:
  if same is None:
    _, counts = np.unique(labels, return_counts=True)
    genuine = int(np.sum(counts * (counts - 1) // 2))
    impostors = len(labels) * (len(labels) - 1) // 2 - genuine
  else:
    genuine = int(np.count_nonzero(same))
    impostors = len(same) - genuine
  if not genuine:
    return "no pair is genuine, of one class"
  if not impostors:
    return "no pair is an impostor, of two classes"
  match = _FAR.fullmatch(name)
  return refusal(float(match[1]), impostors) if match else None


def _why_no_clusters(labels: Int[np.ndarray, " n"]) -> str | None:
  classes = len(np.unique(labels))
  if classes < 2:
    return "there are not two classes to tell apart"
  if classes == len(labels):
    return "each image is a class, and so each is a cluster"
  return None


def _why_no_ranks(
  name: str,
  labels: Int[np.ndarray, " n"],
  groups: Int[np.ndarray, " n"] | None,
) -> str | None:
  relevant, strangers = answers(labels, groups=groups)
  if not relevant.any():
    if groups is not None:
      return "no query has an answer: an image of its class in another group"
    return "no class has two images, so that no query has an answer"
  most = int(strangers[relevant > 0].max())
  if not most:
    return "every image is of the class of every query: all neighbors are right"
  match = RECALL.fullmatch(name)
  if match and int(match[1]) > most:
    return (
      f"it is 1 whatever the embeddings are: no query has more than {most}"
      " images of other classes that could be nearer"
    )
  return None
