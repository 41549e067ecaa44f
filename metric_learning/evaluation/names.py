"""The names of all scores, which are slow, and which a set cannot give."""

import re
from collections.abc import Iterable

from metric_learning.errors import InputError, check_choice
from metric_learning.evaluation.verification import FRR_AT_FAR, TAR_AT_FAR

# More unordered pairs than this are not kept for verification.
MAX_PAIRS = 5_000_000

_NUMBER = r"([1-9]\d*)"
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
  """
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
