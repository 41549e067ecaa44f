"""A set embedded once by a pretrained trunk, for heads that are trained on it.

What was embedded is kept in blocks beside the file, until that is whole.
"""

import functools
import logging
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float, Float32, Int
from ml_collections import ConfigDict
from tqdm import tqdm

from metric_learning import models
from metric_learning.data import Dataset, Splits, imaging, load
from metric_learning.data.augment import augment
from metric_learning.data.base import GIVEN_PARTS, PARTS
from metric_learning.data.identity import digest
from metric_learning.data.provenance import Provenance, read_provenance
from metric_learning.errors import InputError
from metric_learning.inference.files import read_blocks
from metric_learning.inference.items import check_output
from metric_learning.models.weights import digest_of
from metric_learning.specs import as_numbers
from metric_learning.training import override, run_files, validate
from metric_learning.training.step import model_of

# Items of a block: what a killed call loses at most.
_BLOCK = 256
_IDENTITY = "features.json"
# The array in the file of a block: an npz, whose checksum tells damage.
_BLOCK_ARRAY = "features"

log = logging.getLogger(__name__)


class _Some(NamedTuple):
  """Items that are embedded one after another.

  view: 0 as they are; from 1 on, augmented.
  """

  part: str
  dataset: Dataset
  view: int

  def blocks(self) -> Iterator[tuple[str, range]]:
    """The name and the items of each block."""
    for start in range(0, len(self.dataset.labels), _BLOCK):
      stop = min(start + _BLOCK, len(self.dataset.labels))
      yield f"{self.part}-{self.view}-{start}.npz", range(start, stop)


# Of some items those at some places, and what is told how many are done.
_Embed = Callable[[_Some, range, Callable[[int], Any]], np.ndarray]


def write_features(
  config: ConfigDict,
  path: str | Path,
  *,
  views: int = 0,
  folds: int = 1,
  batch_size: int = 32,
  progress: bool = False,
) -> Provenance:
  """Writes an npz that the data set `features` reads: all parts of a set.

  Its arrays are `features`, `labels`, `class_names`, `split`, `provenance`, and
  `groups` where the set has them. The head of the network is left out:
  `config.model.head` and `config.model.embedding_dim` do not matter. A call
  that was killed goes on; a file that is whole is left as it is.

  Args:
    config: its sections `data`, `model` and `augment` matter, and its seed.
    path: of the npz.
    views: augmented ones of each training item, beside the item itself. Then
      `groups` number the items: views of one do not answer each other.
    folds: of the split, from 0. Items are embedded once, and `split` has a
      column for each fold, among which the heads' `config.data.fold` chooses.
    batch_size: items that pass through the network together.
    progress: a bar on a terminal.

  Raises:
    InputError: for a network without a head to leave out, a set whose features
      such a file cannot hold, images that cannot be read, and a file or blocks
      of other features.
  """
  path = check_output(path, (".npz",))
  if views < 0 or min(batch_size, folds) < 1:
    raise InputError(
      f"views={views}, folds={folds}, batch_size={batch_size}: give views of 0"
      " or more, and one fold or more, and a batch size of 1 or more."
    )
  config = _without_head(config)
  splits = load(config.data)
  some = _items(splits, views)
  _check(config, splits, views)
  by_fold = _parts_by_fold(config, splits, views, folds)
  made_by = _provenance(config, splits, views, folds)
  if path.exists():
    _refuse_another(path, made_by)
    return made_by
  embed = _embedding(config, splits, batch_size)
  folder = Path(f"{path}.blocks")
  _claim(folder, made_by)
  width = config.model.embedding_dim
  features = _embedded(some, embed, folder, width, progress)
  arrays = _arrays(splits, some, views, by_fold)
  run_files.write_arrays(
    path,
    {"features": features, **arrays, "provenance": made_by.as_array()},
  )
  shutil.rmtree(folder)
  return made_by


# --- What is embedded -------------------------------------------------------


def _without_head(config: ConfigDict) -> ConfigDict:
  """The config with the features of its network as embeddings."""
  name = config.model.name
  network = models.MODELS[name]
  if not hasattr(network, "features"):
    known = models.MODELS.items()
    fit = ", ".join(n for n, m in known if hasattr(m, "features"))
    raise InputError(
      f"{name} has no option head, so that nothing says what its features are:"
      f" choose one of {fit} by config.model.name. A finished run embeds by"
      " experiments.embed."
    )
  config = override(
    config,
    {"model.head": "none", "model.embedding_dim": network.features},
  )
  validate(config)
  return config


def _items(splits: Splits, views: int) -> list[_Some]:
  train = [_Some("train", splits.train, view) for view in range(views + 1)]
  others = [_Some("validation", splits.validation, 0)]
  if splits.gallery is None:
    return [*train, *others, _Some("test", splits.test, 0)]
  others.append(_Some("query", splits.test, 0))
  return [*train, *others, _Some("gallery", splits.gallery, 0)]


def _check(config: ConfigDict, splits: Splits, views: int) -> None:
  """Raises `InputError` for what a file of features cannot hold."""
  train = splits.train
  if splits.validation_seen:
    raise InputError(
      "config.data.train_on='train+validation' is a choice for the heads: set"
      " it to 'train', and then in their config."
    )
  if splits.validation.pairs or splits.test.pairs or train.pairs:
    raise InputError(
      f"{train.name}, split {config.data.split!r}, has explicit pairs, which a"
      " file of features does not hold: choose another config.data.split, or"
      " train on the images."
    )
  if train.superclasses is not None:
    log.warning("%s: its super-classes are left out.", train.name)
  if not views:
    return
  if not any(config.augment.values()):
    raise InputError(
      f"--views={views}, and without augmentation all views of an image are"
      f" equal: set one of config.augment's {sorted(config.augment)}."
    )
  if train.groups is not None or train.has_several_labels:
    raise InputError(
      f"{train.name}, split {config.data.split!r}, has groups or several"
      " labels, and views of an image are told by groups: set --views=0."
    )


def _parts_by_fold(
  config: ConfigDict, splits: Splits, views: int, folds: int
) -> list[dict[str, str]]:
  """The part of each class in each fold of a split; none for a single fold.

  Raises:
    InputError: for parts that share classes, views, and folds that the split
      does not have or that have other classes.
  """
  if folds == 1:
    return []
  if splits.protocol != "open-set" or splits.gallery is not None or views:
    raise InputError(
      f"--folds={folds} writes the part of each class in each fold: it takes an"
      " open-set split without a gallery, and --views=0. Leave it out: write a"
      " file for each config.data.fold."
    )
  classes: set[str] = set()
  found = []
  for fold in range(folds):
    other = load(override(config, {"data.fold": fold}).data)
    parts = {part: getattr(other, part).class_names for part in PARTS}
    part_of = {name: part for part, names in parts.items() for name in names}
    classes = classes or {*part_of}
    if {*part_of} != classes:
      raise InputError(
        f"fold {fold} of {config.data.name}, split {config.data.split!r}, has"
        " other classes than fold 0: leave --folds out."
      )
    found.append(part_of)
  return found


def _provenance(
  config: ConfigDict, splits: Splits, views: int, folds: int
) -> Provenance:
  model, section = config.model, config.data
  network = models.MODELS[model.name]
  about = getattr(network, "preprocess", lambda images: images).__doc__ or ""
  size = list(splits.train.input_spec.shape[:2])
  parts = splits.identity
  return Provenance(
    network=model.name,
    pool=model.get("pool", "avg"),
    dtype=model.dtype,
    weights=Path(model.weights).name if model.weights else None,
    weights_digest=digest_of(model.weights) if model.weights else None,
    image_size=size,
    preprocessing=" ".join([f"{_resizing(section)};", *about.split()]),
    set=section.name,
    set_digest=digest([f"{name} {parts[name]}" for name in sorted(parts)]),
    split=[
      section.split,
      section.split_seed,
      section.fold if folds == 1 else list(range(folds)),
    ],
    views=views,
    augment={k: v for k, v in config.augment.items() if v and views},
    seed=config.seed,
    commit=run_files.commit(),
  )


def _resizing(section: Any) -> str:
  """How images got their size, in words."""
  if section.short_side is None:
    return "resized by area, whole image"
  return f"short side {section.short_side} (bilinear), middle cut out"


def _arrays(
  splits: Splits,
  some: list[_Some],
  views: int,
  by_fold: list[dict[str, str]],
) -> dict[str, np.ndarray]:
  """What a file says of all items: class, part, and group if there are some."""
  names, first = splits.train.class_names, dict.fromkeys(GIVEN_PARTS, 0)
  if splits.protocol == "open-set":  # Parts have classes of their own.
    first["validation"] = len(names)
    names += splits.validation.class_names
    first |= dict.fromkeys(("test", "query", "gallery"), len(names))
    names += splits.test.class_names
  counts = [len(each.dataset.labels) for each in some]
  arrays = {
    "labels": np.concatenate(
      [each.dataset.labels + np.int32(first[each.part]) for each in some]
    ),
    "class_names": np.array(names),
    "split": np.repeat([each.part for each in some], counts),
  }
  if by_fold:
    of_items = arrays["class_names"][arrays["labels"]].tolist()
    columns = [[part_of[name] for name in of_items] for part_of in by_fold]
    arrays["split"] = np.array(columns).T
  if splits.train.groups is not None:
    groups = [each.dataset.groups for each in some]
    arrays["groups"] = np.concatenate([x for x in groups if x is not None])
  elif views:
    train = np.tile(np.arange(counts[0]), views + 1)
    others = np.arange(counts[0], sum(counts) - views * counts[0])
    arrays["groups"] = np.concatenate([train, others])
  return arrays


# --- Embedding --------------------------------------------------------------


def _embedding(config: ConfigDict, splits: Splits, batch_size: int) -> _Embed:
  """A function that embeds some items, a batch at a time."""
  model = model_of(config, splits.train.input_spec)
  params, stats = model.init(jax.random.key(config.seed))
  jitter = dict(config.augment)

  @functools.partial(jax.jit, static_argnames="is_moved")
  def embed(params, stats, images, indices, view, is_moved):
    inputs = jax.lax.optimization_barrier(as_numbers(images))
    if is_moved:
      inputs = _moved(inputs, indices, view, config.seed, jitter)
    seen = model.preprocess(inputs)
    with jax.default_matmul_precision("highest"):  # as a run embeds
      return model.apply(params, stats, seen, train=False)[0]

  def embed_items(some, indices, report):
    read, found = functools.partial(_item, some.dataset.inputs), []
    batches = read_blocks(indices, read, batch_size)
    for start, items in zip(indices[::batch_size], batches, strict=True):
      errors = [item for item in items if isinstance(item, InputError)]
      imaging.refuse(errors, len(items))
      padding = (batch_size - len(items)) * [items[-1]]
      images = np.stack([*items, *padding])
      places = np.arange(start, start + batch_size)
      points = embed(
        params, stats, images, places, some.view, is_moved=some.view > 0
      )
      found.append(np.asarray(points)[: len(items)])
      report(len(items))
    return np.concatenate(found)

  return embed_items


def _item(inputs: Any, index: int) -> np.ndarray:
  return inputs[index]


def _moved(
  images: Float[Array, "n h w c"],
  indices: Int[Array, " n"],
  view: Int[Array, ""],
  seed: int,
  jitter: dict[str, Any],
) -> Float[Array, "n h w c"]:
  """A view of each image, by its number and that of the view alone."""
  key = jax.random.fold_in(jax.random.key(seed), view)

  def one(index, image):
    own = jax.random.fold_in(key, index)
    return augment(own, image[None], **jitter)[0]

  return jax.vmap(one)(indices, images)


def _embedded(
  some: list[_Some], embed: _Embed, folder: Path, width: int, progress: bool
) -> Float32[np.ndarray, "n d"]:
  """Features of all items; blocks that the folder holds are read."""
  found = []
  total = sum(len(each.dataset.labels) for each in some)
  with tqdm(
    total=total, unit="item", disable=None if progress else True
  ) as bar:
    for each in some:
      for name, indices in each.blocks():
        path = folder / name
        block = _kept(path, (len(indices), width))
        if block is None:
          block = embed(each, indices, bar.update)
          run_files.write_arrays(path, {_BLOCK_ARRAY: block})
        else:
          bar.update(len(indices))
        found.append(block)
  return np.concatenate(found)


def _kept(
  path: Path, shape: tuple[int, int]
) -> Float32[np.ndarray, "n d"] | None:
  """A block that was embedded before; None if it is not there or not whole."""
  try:
    block = run_files.read_arrays(path).get(_BLOCK_ARRAY)
  except InputError:
    return None
  if block is None or block.shape != shape or block.dtype != np.float32:
    return None
  return block


# --- Files ------------------------------------------------------------------


def _claim(folder: Path, made_by: Provenance) -> None:
  """Makes a folder that of these features, or finds that it is.

  Raises:
    InputError: if it holds blocks of others, or of other code.
  """
  run_files.make_folder(folder)
  here = run_files.identity(features=made_by._asdict()) | {"commit": ""}
  here["features"]["commit"] = ""
  path = folder / _IDENTITY
  if not path.exists():
    run_files.write_json(path, here)
  shown = run_files.difference(run_files.read_json(path), here)
  if shown:
    raise InputError(
      f"{folder} holds a part of other features: {shown}. Choose another --out,"
      " or delete it."
    )


def _refuse_another(path: Path, made_by: Provenance) -> None:
  """Raises `InputError` if a file holds other features than these."""
  arrays = run_files.read_arrays(path)
  there: dict[str, Any] = {}
  if "provenance" in arrays:
    there = read_provenance(path, arrays["provenance"])._asdict()
  here = made_by._asdict() | {"commit": there.get("commit")}
  shown = run_files.difference(there, here)
  if shown:
    raise InputError(
      f"{path} holds other features: {shown}. Choose another --out, or delete"
      " it."
    )
