"""Which images are in the batch of a step: a pure function of (seed, step).

There is no iterator to save: a resumed run draws the same batches as an
uninterrupted one.
"""

import functools
import warnings
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Float32, Int, Int32

from metric_learning.data.base import (
  SMALL_CLASSES,
  Dataset,
  draw_pairs,
  first_of,
)
from metric_learning.errors import InputError, check_choice


class Draw(NamedTuple):
  """The images of a step.

  affinity: the similarity of each pair of images, if labels do not give it; NaN
    if they are not compared.
  """

  indices: Int32[np.ndarray, " b"]
  affinity: Float32[np.ndarray, "b b"] | None = None


Draws = Callable[[int], Draw]


def make_batches(
  dataset: Dataset, config: Any, seed: int, small_classes: str = "refuse"
) -> Draws:
  """Returns the function from a step to its P × K images, by `config.sampler`.

  P is `config.classes_per_batch`, K is `config.images_per_class`.

    classes       K images of each of P classes; `small_classes` decides about
                  classes with fewer than K images
    hierarchical  the same, with P/S classes of each of S super-classes, where S
                  is `config.superclasses_per_batch`
    uniform       any P × K images, whatever their classes
    pairs         P × K / 2 explicit pairs, half of them genuine: those of the
                  data set, or `config.num_pairs` pairs that are drawn once
    triplets      P × K / 3 of `config.num_triplets` triplets, drawn once

  All draw in shuffled cycles: nothing is drawn again before everything has been
  drawn. With pairs or triplets, the loss sees these and no others.

  Raises `InputError` if the data set lacks what the sampler needs, or cannot
  fill a batch.

  >>> from types import SimpleNamespace
  >>> three = Dataset(
  ...   "three", np.zeros((3, 1, 1, 1), np.uint8), np.int32([0, 0, 1]),
  ...   ("a", "b"),
  ... )
  >>> batch = make_batches(three, SimpleNamespace(
  ...   sampler="triplets", num_triplets=9, classes_per_batch=3,
  ...   images_per_class=1,
  ... ), seed=0)(0)
  >>> sorted(batch.indices[:2].tolist()), int(batch.indices[2])
  ([0, 1], 2)
  >>> batch.affinity[0]  # of the anchor to itself, the positive, the negative
  array([nan,  1.,  0.], dtype=float32)
  """
  check_choice("sampler", config.sampler, SAMPLERS)
  sampler = SAMPLERS[config.sampler]
  if config.classes_per_batch < 1 or config.images_per_class < 1:
    raise InputError(
      f"classes_per_batch={config.classes_per_batch} and"
      f" images_per_class={config.images_per_class} must both be at least 1."
    )
  if dataset.pairs is not None and sampler.needs == "classes":
    raise InputError(
      f"{dataset.name} has pairs and no classes: set sampler='pairs', or "
      "'uniform' for views."
    )
  if dataset.has_several_labels and sampler.needs != "items":
    raise InputError(
      f"{dataset.name}: an item has several labels, and the sampler"
      f" {config.sampler!r} draws items of one class: set"
      " config.batch.sampler='uniform'."
    )
  return sampler.make(dataset, config, seed, small_classes)


def make_sampler(
  labels: Int[np.ndarray, " n"],
  classes_per_batch: int,
  images_per_class: int,
  seed: int,
  *,
  class_names: Sequence[str] | None = None,
  small_classes: str = "refuse",
) -> Callable[[int], Int32[np.ndarray, " batch"]]:
  """Returns the function from a step to P × K indices.

  P is `classes_per_batch`, and K is `images_per_class`. The indices of a class
  are adjacent. Everything is covered, even if P does not divide the number of
  classes, or K the size of a class:

  - classes come in shuffled cycles, each class once per cycle, and no class is
    twice in a batch;
  - the images of a class come in shuffled cycles, each image once per cycle,
    and no image is twice in a batch.

  Classes with fewer than K images are refused; the message uses `class_names`
  if they are given. With `small_classes`, "drop" leaves them out, and "repeat"
  repeats their images within a batch, each as often as the others or once more.
  Two copies of an image are a positive pair at distance 0, unless augmentation
  makes them differ.

  Raises `InputError` for fewer than P classes, or for a class with fewer than K
  images that is refused.

  >>> sample = make_sampler(np.array([0, 0, 1, 1, 2, 2]), 2, 1, seed=0)
  >>> batches = [sample(step) for step in range(3)]  # 6 draws, 6 images
  >>> sorted(np.concatenate(batches).tolist())
  [0, 1, 2, 3, 4, 5]
  """
  takes = classes_per_batch, images_per_class
  _, members = _members(labels, *takes, class_names, small_classes)
  return _draw(members, takes, seed)


def make_hierarchical_sampler(
  labels: Int[np.ndarray, " n"],
  superclasses: Sequence[str],
  superclasses_per_batch: int,
  classes_per_batch: int,
  images_per_class: int,
  seed: int,
  *,
  class_names: Sequence[str] | None = None,
  small_classes: str = "refuse",
) -> Callable[[int], Int32[np.ndarray, " batch"]]:
  """Returns the function from a step to P × K indices, by super-class.

  A batch has S super-classes, P/S classes of each, and K images of each class.
  `superclasses[label]` names the super-class of a class. Super-classes come in
  shuffled cycles, and so do the classes of each, and the images of each. For
  small classes, see `make_sampler`.

  Raises `InputError` if S does not divide P, or if there are fewer than S
  super-classes, P/S classes in one of them, or K images in a class.

  >>> labels, superclasses = np.array([0, 1, 2, 3]), ["a", "a", "b", "b"]
  >>> sample = make_hierarchical_sampler(labels, superclasses, 1, 2, 1, seed=0)
  >>> sorted(sorted(sample(step).tolist()) for step in range(2))
  [[0, 1], [2, 3]]

  Source: Cakir et al., CVPR 2019 (FastAP): batches of two super-classes.
  """
  names, members = _members(
    labels, classes_per_batch, images_per_class, class_names, small_classes
  )
  groups: dict[str, list[np.ndarray]] = {}
  for name, images in zip(names.tolist(), members, strict=True):
    groups.setdefault(superclasses[name], []).append(images)
  s, each = superclasses_per_batch, classes_per_batch // superclasses_per_batch
  if s < 1 or classes_per_batch % s:
    raise InputError(
      f"superclasses_per_batch={s} must divide classes_per_batch="
      f"{classes_per_batch}; change one of the two."
    )
  if s > len(groups):
    raise InputError(
      f"config.batch.superclasses_per_batch={s}, but there are {len(groups)} "
      f"super-classes to train on; lower it to at most {len(groups)}."
    )
  smallest = min(groups, key=lambda name: len(groups[name]))
  if each > len(groups[smallest]):
    raise InputError(
      f"{each} classes of each super-class (classes_per_batch / "
      f"superclasses_per_batch), but {smallest!r} has {len(groups[smallest])}; "
      "lower classes_per_batch, or raise superclasses_per_batch."
    )
  return _draw(list(groups.values()), (s, each, images_per_class), seed)


# --- Samplers by name -------------------------------------------------------


def _by_class(
  dataset: Dataset,
  config: Any,
  seed: int,
  small_classes: str,
  make: Callable[..., Any] = make_sampler,
) -> Draws:
  sample = make(
    labels=dataset.labels,
    classes_per_batch=config.classes_per_batch,
    images_per_class=config.images_per_class,
    seed=seed,
    class_names=dataset.class_names,
    small_classes=small_classes,
  )
  return lambda step: Draw(sample(step))


def _hierarchical(
  dataset: Dataset, config: Any, seed: int, small_classes: str
) -> Draws:
  if dataset.superclasses is None:
    raise InputError(
      f"{dataset.name} has no super-classes, which sampler='hierarchical' "
      "needs; use sampler='classes'."
    )
  make = functools.partial(
    make_hierarchical_sampler,
    superclasses=dataset.superclasses,
    superclasses_per_batch=config.superclasses_per_batch,
  )
  return _by_class(dataset, config, seed, small_classes, make)


def _uniform(
  dataset: Dataset, config: Any, seed: int, small_classes: str
) -> Draws:
  size = config.classes_per_batch * config.images_per_class
  _check_enough("images to train on", len(dataset.labels), 1, size)
  sample = _draw(np.arange(len(dataset.labels), dtype=np.int32), (size,), seed)
  return lambda step: Draw(sample(step))


def _explicit_pairs(
  dataset: Any, config: Any, seed: int, small_classes: str
) -> Draws:
  if dataset.pairs is None:
    dataset = draw_pairs(dataset, config.num_pairs, [seed, 1])
  pairs, same = dataset.pairs, dataset.pairs.is_same
  kinds = [np.flatnonzero(same), np.flatnonzero(~same)]
  half = config.classes_per_batch * config.images_per_class // 4
  for name, kind in zip(("the same", "different"), kinds, strict=True):
    _check_enough(f"pairs that are {name} to train on", len(kind), 4, half)
  sample = _draw(kinds, (2, half), seed)
  similarity = same if pairs.similarity is None else pairs.similarity

  def batch(step: int) -> Draw:
    chosen = sample(step)
    indices = np.concatenate([pairs.first[chosen], pairs.second[chosen]])
    affinity = np.full((len(indices), len(indices)), np.nan, np.float32)
    one, other = np.split(np.arange(len(indices)), 2)
    affinity[one, other] = affinity[other, one] = similarity[chosen]
    return Draw(indices, affinity)

  return batch


def _fixed_triplets(
  dataset: Dataset, config: Any, seed: int, small_classes: str
) -> Draws:
  triplets = _draw_triplets(dataset.labels, config.num_triplets, seed)
  size = config.classes_per_batch * config.images_per_class // 3
  _check_enough("triplets (num_triplets)", len(triplets), 3, size)
  sample = _draw(np.arange(len(triplets)), (size,), seed)
  anchor, positive, negative = np.split(np.arange(3 * size), 3)
  affinity = np.full((3 * size, 3 * size), np.nan, np.float32)
  affinity[anchor, positive], affinity[anchor, negative] = 1, 0
  return lambda step: Draw(triplets[sample(step)].T.ravel(), affinity)


class Sampler(NamedTuple):
  """A way to draw batches.

  make: from the data set, the section `batch`, a seed and `small_classes` to
    the function that draws the batch of a step.
  needs: "items" of any kind; "classes", one label for each item; or "pairs",
    explicit pairs or classes to draw them from.
  explicit: the only comparisons that the loss sees; None for all pairs, by
    their labels.
  """

  make: Callable[[Dataset, Any, int, str], Draws]
  needs: Literal["items", "classes", "pairs"]
  explicit: Literal["pairs", "triplets"] | None = None

  @property
  def repeats_classes(self) -> bool:
    """Whether each class of a batch has `images_per_class` items in it."""
    return self.needs == "classes" and self.explicit is None


SAMPLERS: dict[str, Sampler] = {
  "classes": Sampler(_by_class, "classes"),
  "hierarchical": Sampler(_hierarchical, "classes"),
  "uniform": Sampler(_uniform, "items"),
  "pairs": Sampler(_explicit_pairs, "pairs", explicit="pairs"),
  "triplets": Sampler(_fixed_triplets, "classes", explicit="triplets"),
}


def _draw_triplets(
  labels: Int[np.ndarray, " n"], count: int, seed: int
) -> Int32[np.ndarray, "{count} 3"]:
  """Anchor, positive and negative, each drawn uniformly given the previous.

  Raises `InputError` if no triplet exists.
  """
  names, inverse, sizes = np.unique(
    labels, return_inverse=True, return_counts=True
  )
  anchors = np.flatnonzero(sizes[inverse] > 1)
  if count < 1 or len(names) < 2 or not len(anchors):
    raise InputError(
      f"num_triplets={count} must be at least 1, and a triplet needs two images"
      f" of a class and one of another; there are {len(names)} classes, and the"
      f" largest has {sizes.max()} images."
    )
  rng = np.random.default_rng([seed, 1])
  anchor = rng.choice(anchors, count)
  # Sorted by class, the images of a class are adjacent.
  order = np.argsort(inverse, kind="stable")
  place = np.argsort(order)[anchor]
  size = sizes[inverse[anchor]]
  start = np.cumsum(sizes)[inverse[anchor]] - size
  other = start + (place - start + rng.integers(1, size)) % size
  outside = start + size + rng.integers(len(labels) - size)
  chosen = anchor, order[other], order[outside % len(labels)]
  return np.stack(chosen, axis=1).astype(np.int32)


# --- Shuffled cycles --------------------------------------------------------


def _draw(
  tree: Sequence[Any] | np.ndarray,
  takes: tuple[int, ...],
  seed: int,
  path: tuple[int, ...] = (),
) -> Callable[[int], Int[np.ndarray, " b"]]:
  """Returns the function from a visit to the leaves that it takes from a tree.

  A visit takes `takes[0]` branches, `takes[1]` branches of each of them, and so
  on. The branches of each node come in shuffled cycles. The last nodes are
  arrays of leaves.
  """
  size, take, rest = len(tree), takes[0], takes[1:]
  below = [
    _draw(tree[i], rest, seed, (*path, i)) for i in range(size if rest else 0)
  ]

  @functools.lru_cache(maxsize=1)
  def windows(turn: int) -> np.ndarray:
    return _round(size, take, [seed, len(path), *path, turn])

  def draw(visit: int) -> Int[np.ndarray, " b"]:
    turn, place = divmod(visit, size)  # a round has one window per item
    window = windows(turn)[place]
    if not rest:
      return tree[window]
    # A cycle visits each branch once, so the cycle is the number of the visit.
    start = visit * take
    return np.concatenate(
      [below[i]((start + j) // size) for j, i in enumerate(window.tolist())]
    )

  return draw


def _members(
  labels: Int[np.ndarray, " n"],
  classes: int,
  images: int,
  class_names: Sequence[str] | None,
  small_classes: str,
) -> tuple[np.ndarray, list[Int32[np.ndarray, " _"]]]:
  """The labels to draw from, and the indices of the items of each.

  Raises `InputError` if they do not fill a batch of `classes` × `images`.
  """
  check_choice("small_classes", small_classes, SMALL_CLASSES)
  if classes < 1 or images < 1:
    raise InputError(
      f"classes_per_batch={classes} and images_per_class={images} must both be "
      "at least 1."
    )
  names, sizes = np.unique(labels, return_counts=True)
  small = np.flatnonzero(sizes < images)
  small = small[np.argsort(sizes[small], kind="stable")]
  called = [
    f"{class_names[names[i]]!r} ({sizes[i]})"
    if class_names
    else f"label {names[i]} ({sizes[i]})"
    for i in small
  ]
  shown = first_of(called)
  if called and small_classes == "refuse":
    raise InputError(
      f"config.batch.images_per_class={images}, but there are classes with "
      f"fewer images to train on: {shown}; lower it to at most {sizes.min()}, "
      "or set config.data.small_classes to drop or repeat."
    )
  order = np.argsort(labels, kind="stable").astype(np.int32)
  members = np.split(order, np.cumsum(sizes)[:-1])
  left_out = ""
  if called and small_classes == "drop":
    left_out = f" without {len(small)} that have fewer than {images} images"
    warnings.warn(
      f"{len(small)} of {len(names)} classes to train on have fewer than "
      f"images_per_class={images} images, and are in no batch: {shown}.",
      stacklevel=3,
    )
    large = np.flatnonzero(sizes >= images)
    names, members = names[large], [members[i] for i in large]
  if classes > len(names):
    raise InputError(
      f"config.batch.classes_per_batch={classes}, but there are {len(names)} "
      f"classes to train on{left_out}; lower it to at most {len(names)}."
    )
  return names, members


def _round(
  size: int, take: int, key: list[int]
) -> Int32[np.ndarray, "{size} {take}"]:
  """One round of an endless stream of shuffled cycles, cut into windows.

  A cycle is a permutation of 0 … `size` − 1. A window is `take` successive
  items, which all differ. A round is `take` cycles, or `size` windows: its last
  cycle and its last window end together.

  If `take` is more than `size`, a window repeats all items as often as they
  fit; the items that fill it up differ.
  """
  if take > size:
    times, rest = divmod(take, size)
    whole = np.tile(np.arange(size, dtype=np.int32), (size, times))
    return np.concatenate([whole, _round(size, rest, key)], axis=1)
  rng = np.random.default_rng(key)
  items = np.broadcast_to(np.arange(size, dtype=np.int32), (take, size))
  cycles = rng.permuted(items, axis=1)
  for i in range(1, take):
    # A window holds the last `begun` items of cycle i − 1, and then the first
    # items of cycle i that it does not hold yet.
    begun = i * size % take
    if begun:
      free = np.ones(size, bool)
      free[cycles[i - 1, -begun:]] = False
      cycles[i] = _free_first(cycles[i], free[cycles[i]], take - begun)
  return cycles.reshape(size, take)


def _free_first(
  order: Int[np.ndarray, " size"], free: np.ndarray, count: int
) -> Int[np.ndarray, " size"]:
  """Moves the first `count` free items to the front; the rest stay in order."""
  front = free & (free.cumsum() <= count)
  return np.concatenate([order[front], order[~front]])


def _check_enough(what: str, there: int, images: int, taken: int) -> None:
  """Raises `InputError` unless a batch takes between 1 and `there` units.

  A unit, such as a pair, stands for `images` images of the batch.
  """
  if not there:
    raise InputError(f"there are no {what}.")
  if not 1 <= taken <= there:
    raise InputError(
      f"a batch of classes_per_batch × images_per_class images takes {taken} "
      f"{what}, but there are {there}: the product must be from {images} to "
      f"{images * (there + 1) - 1}."
    )
