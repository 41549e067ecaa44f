"""Reasons why a score of a set is constant, or NaN, for all embeddings."""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Bool, Int

from metric_learning.evaluation.few_shot import TooFewImagesError, check_images
from metric_learning.evaluation.verification import refusal
from metric_learning.relevance import answers

Labels = Int[np.ndarray, "n *k"]
Groups = Int[np.ndarray, " n"] | None
Same = Bool[np.ndarray, " p"] | None
Numbers = Mapping[str, Any]


def no_rates(
  numbers: Numbers, labels: Labels, groups: Groups, same: Same
) -> str | None:
  """Error rates need genuine pairs, and enough impostor pairs for the FAR."""
  del groups
  if same is None:
    genuine = int(answers(labels)[0].sum()) // 2  # counted from both items
    impostors = len(labels) * (len(labels) - 1) // 2 - genuine
  else:
    genuine = int(np.count_nonzero(same))
    impostors = len(same) - genuine
  if not genuine:
    return "no pair is genuine, of one class"
  if not impostors:
    return "no pair is an impostor, of two classes"
  return refusal(numbers["F"], impostors) if "F" in numbers else None


def no_clusters(
  numbers: Numbers, labels: Labels, groups: Groups, same: Same
) -> str | None:
  """Clusters need two classes, and a class with two images."""
  del numbers, groups, same
  classes = len(np.unique(labels))
  if classes < 2:
    return "there are not two classes to tell apart"
  if classes == len(labels):
    return "each image is a class of its own, and so becomes a cluster"
  return None


def no_episodes(
  numbers: Numbers, labels: Labels, groups: Groups, same: Same
) -> str | None:
  """Few-shot needs N classes, each with K images and the queries."""
  del groups, same
  try:
    check_images(labels, int(numbers["N"]), int(numbers["K"]))
  except TooFewImagesError as error:
    return str(error)
  return None


def no_draws(
  numbers: Numbers, labels: Labels, groups: Groups, same: Same
) -> str | None:
  """Identification draws known classes only from test classes."""
  del numbers, labels, groups, same
  return (
    "identification draws known classes only from test classes; choose"
    " own/recall_at_1 or own/eer, which rank embeddings much as it does"
  )


def too_few(name: str, scores: Mapping[str, float]) -> str | None:
  """Why a rate at a FAR is NaN: it had too few trials. None otherwise.

  >>> too_few("own/frr_at_far_0.01", {"own/num_impostor": 500.0})
  'FAR 0.01 needs 1000 impostor pairs (10 accepted ones), and there are 500.'
  >>> too_few("own/eer", {"own/num_impostor": 500.0})
  """
  match = re.fullmatch(r"(\w+)/(\w+)_at_far_([\d.]+)", name)
  if not match:
    return None
  family, kind, far = match.groups()
  count, unit = "num_impostor", "impostor pairs"
  if kind.startswith("identification_"):
    count, unit = "identification_num_unknown", "unknown probes"
  trials = scores.get(f"{family}/{count}", np.inf)
  return refusal(float(far), int(trials), unit) if np.isfinite(trials) else None


def no_ranks(
  numbers: Numbers, labels: Labels, groups: Groups, same: Same
) -> str | None:
  """Ranks need a query with an answer, and wrong images that may be nearer."""
  del same
  relevant, strangers = answers(labels, groups=groups)
  if not relevant.any():
    if groups is not None:
      return "no query has an answer: an image of its class in another group"
    return "no class has two images, so that no query has an answer"
  most = int(strangers[relevant > 0].max())
  if not most:
    return "every image is of the class of every query: all neighbors are right"
  if numbers.get("K", 0) > most:
    return (
      f"it is 1 whatever the embeddings are: no query has more than {most}"
      " images of other classes that could be nearer"
    )
  return None
