"""Open-set identification with random known and unknown classes.

Known and unknown classes are drawn from the classes of a set, and the gallery
from the items of the known ones. All other items are probes.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Array, Float, Int

from metric_learning.distances import MetricName
from metric_learning.errors import InputError
from metric_learning.evaluation.identification import (
  Probes,
  identification_of,
  probes_of,
)
from metric_learning.evaluation.tiles import (
  check_embeddings,
  check_labels,
  check_whole,
)


class OpenSet(NamedTuple):
  """How known and unknown classes of a set are drawn.

  unknown: the share of the classes that are not in the gallery, in [0, 1).
  gallery: the number of gallery images of each known class.
  draws: the number of draws.
  """

  unknown: float = 0.5
  gallery: int = 1
  draws: int = 20

  def num_known(self, num_classes: int) -> int:
    """The number of known classes, at least one.

    >>> OpenSet(unknown=0.5).num_known(25)
    13
    """
    return max(1, num_classes - round(self.unknown * num_classes))


DEFAULT = OpenSet()


class TooFewForGalleryError(InputError):
  """Too few classes have enough images for a gallery and a probe."""


def check_open_set(where: str, protocol: OpenSet) -> None:
  """Raises `InputError` for invalid numbers; `where` prefixes their names."""
  if not 0 <= protocol.unknown < 1:
    raise InputError(
      f"{where}.unknown={protocol.unknown} is the share of classes that are not"
      " in the gallery, in [0, 1): choose 0.5, or 0 for a closed set."
    )
  check_whole(f"{where}.gallery", protocol.gallery, 1)
  check_whole(f"{where}.draws", protocol.draws, 2)


def check_gallery(labels: Int[np.ndarray, " n"], protocol: OpenSet) -> None:
  """Checks that a gallery and probes can be drawn.

  Raises:
    TooFewForGalleryError: if they cannot.
  """
  _, counts = np.unique(labels, return_counts=True)
  needed = protocol.num_known(len(counts))
  eligible = int(np.count_nonzero(counts > protocol.gallery))
  if eligible < needed:
    raise TooFewForGalleryError(
      f"{needed} of {len(counts)} classes must be known, with"
      f" {protocol.gallery} gallery images and at least one probe each, but"
      f" only {eligible} classes have enough images: choose a smaller gallery,"
      " or a larger share of unknown classes."
    )


def draws_of(
  embeddings: Float[np.ndarray | Array, "n d"],
  labels: Any,
  metric: MetricName,
  protocol: OpenSet,
  seed: int = 0,
) -> Iterator[Probes]:
  """The probes of each draw; the draws do not depend on the embeddings.

  Known classes are drawn from the classes that have more images than the
  gallery takes of a class; all other classes are unknown. All items that are
  not in the gallery are probes.

  Raises:
    InputError: as for `probes_of`, and if no gallery can be drawn.
  """
  embeddings = check_embeddings("embeddings", embeddings)
  labels = check_labels("labels", labels, len(embeddings))
  check_open_set("protocol", protocol)
  check_gallery(labels, protocol)
  classes, counts = np.unique(labels, return_counts=True)
  eligible = classes[counts > protocol.gallery]
  rng = np.random.default_rng(seed)
  for _ in range(protocol.draws):
    known = rng.permutation(eligible)[: protocol.num_known(len(classes))]
    rows = np.concatenate(
      [
        rng.permutation(np.flatnonzero(labels == label))[: protocol.gallery]
        for label in known
      ]
    )
    # All items are ranked, then the gallery is removed: each draw then has the
    # same shape, and only one shape is compiled.
    items = probes_of(
      embeddings, labels, embeddings[rows], labels[rows], metric
    )
    is_probe = np.ones(len(labels), bool)
    is_probe[rows] = False
    yield Probes(*(field[is_probe] for field in items))


def open_set(
  embeddings: Float[np.ndarray | Array, "n d"],
  labels: Any,
  *,
  metric: MetricName = "l2",
  protocol: OpenSet = DEFAULT,
  ks: Sequence[int] = (1, 5),
  seed: int = 0,
) -> dict[str, float]:
  """The scores of `identification`, as means over draws of known classes.

  For each score, `…_interval` is 1.96 σ / √draws, with σ the sample standard
  deviation over draws. It covers other draws from these classes, not other
  classes. A rate is NaN if any draw has too few unknown probes for it.

  >>> points = np.array([[0.0], [0.1], [5.0], [5.1]])
  >>> scores = open_set(points, np.array([0, 0, 1, 1]), ks=(1,))
  >>> scores["rank_1"], scores["auroc"], scores["auroc_interval"]
  (1.0, 1.0, 0.0)

  Args:
    embeddings, labels: one item per row, and its class.
    metric: a name in `METRICS`, or `(name, {options})`.
    protocol: what is drawn, and how many times.
    ks: the ranks K.
    seed: fixes the draws.

  Raises:
    InputError: as for `draws_of`, and if a K is below 1.
  """
  draws = draws_of(embeddings, labels, metric, protocol, seed)
  scores_of_draws = [identification_of(probes, ks) for probes in draws]
  scores = {}
  for name in scores_of_draws[0]:
    values = np.array([each[name] for each in scores_of_draws])
    scores[name] = float(values.mean())
    if name.startswith("num_"):
      continue
    spread = float(values.std(ddof=1))
    scores[f"{name}_interval"] = 1.96 * spread / len(values) ** 0.5
  return scores
