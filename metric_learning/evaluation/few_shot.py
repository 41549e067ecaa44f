"""N-way K-shot classification: N classes with K examples each."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from metric_learning.distances import MetricName, pairwise, split_metric
from metric_learning.errors import InputError, check_choice
from metric_learning.evaluation.tiles import (
  as_float32,
  check_embeddings,
  check_labels,
  check_whole,
)

RULES = ("prototype", "nearest")

# The number of images of each class that an episode classifies.
QUERIES = 5

# The number of episodes scored at a time.
_EPISODES = 10


class TooFewImagesError(InputError):
  """No episode of this size can be drawn; the message gives the reason."""


def few_shot(
  embeddings: Float[np.ndarray | Array, "n d"],
  labels: Int[np.ndarray | Array, " n"],
  *,
  ways: int = 5,
  shots: int = 1,
  queries: int = QUERIES,
  episodes: int = 1000,
  metric: MetricName = "l2",
  rule: str = "prototype",
  seed: int = 0,
) -> dict[str, float]:
  """Mean accuracy over episodes of N unseen classes with K examples each.

  An episode draws `ways` classes. From each class it draws `shots` examples and
  `queries` other images, which are classified by the nearest class mean
  ("prototype") or the nearest example ("nearest") under the metric. Ties go to
  the class that was drawn first, so collapsed embeddings score 1 / ways.

    accuracy  mean over episodes of the share of correctly classified queries
    interval  1.96 σ / √episodes, σ the sample standard deviation: how much
              other episodes could change the accuracy of this one model

  >>> points = np.array([[0.0], [0.1], [5.0], [5.1]])
  >>> labels = np.array([0, 0, 1, 1])
  >>> few_shot(points, labels, ways=2, queries=1, episodes=10)
  {'accuracy': 1.0, 'interval': 0.0}

  Args:
    embeddings: one image per row.
    labels: the class of each image.
    ways, shots, queries: the size of an episode, as above.
    episodes: the number of episodes, at least 2.
    metric: a name in `METRICS`, or `(name, {options})`.
    rule: "prototype" or "nearest".
    seed: fixes the draws, which do not depend on the embeddings.

  Raises:
    InputError: if the metric or rule is unknown, if embeddings are not finite,
      if labels do not fit them, if there are fewer classes than `ways`, or if a
      class has fewer than `shots + queries` images.

  Source: prototypes as class means of embeddings, Snell et al., Prototypical
  Networks, NeurIPS 2017.
  """
  check_choice("rule", rule, RULES)
  (embeddings,) = as_float32(metric, check_embeddings("embeddings", embeddings))
  labels = check_labels("labels", labels, len(embeddings))
  check_whole("episodes", episodes, 2)
  check_images(labels, ways, shots, queries)
  drawn = _draw(labels, (episodes, ways, shots + queries), seed)
  name, options = split_metric(metric)
  settings = name, tuple(sorted(options.items())), rule, shots
  arrays = jnp.asarray(embeddings), jnp.asarray(drawn)
  accuracies = np.asarray(_accuracies(*settings, *arrays), np.float64)
  return {
    "accuracy": float(accuracies.mean()),
    "interval": float(1.96 * accuracies.std(ddof=1) / np.sqrt(episodes)),
  }


def check_images(
  labels: Int[np.ndarray, " n"], ways: int, shots: int, queries: int = QUERIES
) -> None:
  """Checks that episodes can be drawn from images with these labels.

  Raises:
    TooFewImagesError: if there are too few classes, or if a class has too few
      images.
    InputError: if a number is too small for an episode.
  """
  for name, value, least in (
    ("ways", ways, 2),
    ("shots", shots, 1),
    ("queries", queries, 1),
  ):
    check_whole(name, value, least)
  classes, counts = np.unique(labels, return_counts=True)
  if len(classes) < ways:
    raise TooFewImagesError(
      f"ways={ways}: there are only {len(classes)} classes to draw from."
    )
  needed = shots + queries
  if counts.min() < needed:
    raise TooFewImagesError(
      f"shots={shots}, queries={queries}: an episode draws {needed} images per"
      f" class, but {np.count_nonzero(counts < needed)} of {len(classes)}"
      f" classes have fewer (class {classes[counts.argmin()]} has"
      f" {counts.min()}). Choose fewer images, or leave these classes out."
    )


def _draw(
  labels: Int[np.ndarray, " n"], shape: tuple[int, int, int], seed: int
) -> Int[np.ndarray, "episodes ways images"]:
  """Draws random images for each episode and class, as rows."""
  members = _members(labels)
  rng = np.random.default_rng(seed)
  drawn = np.empty(shape, int)
  for episode in drawn:
    for row, c in zip(episode, rng.permutation(len(members)), strict=False):
      row[:] = rng.permutation(members[c])[: len(row)]
  return drawn


def _members(labels: Int[np.ndarray, " n"]) -> list[Int[np.ndarray, " _"]]:
  """The rows of each class."""
  _, counts = np.unique(labels, return_counts=True)
  return np.split(np.argsort(labels, kind="stable"), np.cumsum(counts)[:-1])


@functools.partial(
  jax.jit, static_argnames=("name", "options", "rule", "shots")
)
def _accuracies(
  name: str,
  options: tuple[tuple[str, Any], ...],
  rule: str,
  shots: int,
  embeddings: Float[Array, "n d"],
  drawn: Int[Array, "episodes ways images"],
) -> Float[Array, " episodes"]:
  dim = embeddings.shape[1]

  def accuracy(drawn: Int[Array, "ways images"]) -> Float[Array, ""]:
    images = embeddings[drawn]
    support, queries = images[:, :shots], images[:, shots:]
    if rule == "prototype":
      support = jnp.mean(support, axis=1, keepdims=True)
    distances = pairwise(
      (name, dict(options)),
      queries.reshape(-1, dim),
      support.reshape(-1, dim),
      exact=True,
    )
    # The class of the nearest example; all classes have equally many examples.
    predicted = jnp.argmin(distances, axis=1) // support.shape[1]
    truth = jnp.repeat(jnp.arange(len(drawn)), queries.shape[1])
    return jnp.mean(predicted == truth)

  return jax.lax.map(accuracy, drawn, batch_size=_EPISODES)
