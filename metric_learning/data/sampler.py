"""Batches of P classes × K images as a pure function of (seed, step).

There is no iterator to save: a run that is resumed at a step draws the batches
that it would have drawn.
"""

import functools
from collections.abc import Callable

import numpy as np
from jaxtyping import Int, Int32

from metric_learning.errors import InputError


def make_sampler(
  labels: Int[np.ndarray, "n"],
  classes_per_batch: int,
  images_per_class: int,
  seed: int,
) -> Callable[[int], Int32[np.ndarray, "batch"]]:
  """Returns step → indices of P = classes_per_batch × K = images_per_class.

  The indices of one class stand together. Coverage, also where P does not
  divide the number of classes, nor K the size of a class:

  - classes come in shuffled cycles, each once a cycle, and no class is twice in
    a batch;
  - the images of a class come in shuffled cycles, each once a cycle, and no
    image is twice in a batch.

  Raises `InputError` if there are fewer than P classes or if a class has fewer
  than K images.

  >>> sample = make_sampler(np.array([0, 0, 1, 1, 2, 2]), 2, 1, seed=0)
  >>> batches = [sample(step) for step in range(3)]  # 6 draws, 6 images
  >>> sorted(np.concatenate(batches).tolist())
  [0, 1, 2, 3, 4, 5]
  """
  names, sizes = np.unique(labels, return_counts=True)
  _check_sizes(names, sizes, classes_per_batch, images_per_class)
  order = np.argsort(labels, kind="stable").astype(np.int32)
  members = np.split(order, np.cumsum(sizes)[:-1])
  sizes = sizes.tolist()

  # As many rounds as classes are in use, and as many again are over.
  @functools.lru_cache(maxsize=2 * len(names))
  def image_windows(index, turn):
    key = [seed, 1, index, turn]
    return members[index][_round(sizes[index], images_per_class, key)]

  @functools.lru_cache(maxsize=1)
  def class_windows(turn):
    return _round(len(names), classes_per_batch, [seed, 0, turn])

  def sample(step: int) -> Int32[np.ndarray, "batch"]:
    turn, place = divmod(step, len(names))  # a round has a window an item
    batch = []
    for i, index in enumerate(class_windows(turn)[place].tolist()):
      # A cycle visits each class once: the cycle is the number of the visit.
      visit = (step * classes_per_batch + i) // len(names)
      turn, place = divmod(visit, sizes[index])
      batch.append(image_windows(index, turn)[place])
    return np.concatenate(batch)

  return sample


def _round(
  size: int, take: int, key: list[int]
) -> Int32[np.ndarray, "{size} {take}"]:
  """One round of an endless stream of shuffled cycles, cut into windows.

  A cycle is a permutation of 0 … `size` − 1, a window is `take` items that
  follow each other and differ. A round is `take` cycles, or `size` windows: it
  ends where a cycle and a window end together.
  """
  rng = np.random.default_rng(key)
  items = np.broadcast_to(np.arange(size, dtype=np.int32), (take, size))
  cycles = rng.permuted(items, axis=1)
  for i in range(1, take):
    # A window holds the last `begun` items of cycle i − 1, and then items of
    # cycle i: the first ones there that it does not hold yet.
    begun = i * size % take
    if begun:
      free = np.ones(size, bool)
      free[cycles[i - 1, -begun:]] = False
      cycles[i] = _free_first(cycles[i], free[cycles[i]], take - begun)
  return cycles.reshape(size, take)


def _free_first(
  order: Int[np.ndarray, "size"], free: np.ndarray, count: int
) -> Int[np.ndarray, "size"]:
  """Moves the first `count` free items to the front, and keeps the rest."""
  front = free & (free.cumsum() <= count)
  return np.concatenate([order[front], order[~front]])


def _check_sizes(
  names: np.ndarray, sizes: np.ndarray, classes: int, images: int
) -> None:
  if classes < 1 or images < 1:
    raise InputError(
      f"classes_per_batch={classes} and images_per_class={images} must both be "
      "at least 1."
    )
  if classes > len(names):
    raise InputError(
      f"classes_per_batch={classes}, but there are {len(names)} classes to "
      f"train on; lower it to at most {len(names)}."
    )
  if images > sizes.min():
    raise InputError(
      f"images_per_class={images}, but the smallest class (label "
      f"{names[sizes.argmin()]}) has {sizes.min()} images; lower it to at most "
      f"{sizes.min()}, or leave such classes out."
    )
