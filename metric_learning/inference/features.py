"""Embeds a data set once with a pretrained trunk, to train heads on features.

Finished blocks are kept in a folder beside the file until the file is complete.
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

# The number of items in a block, and the most that a killed call loses.
_BLOCK = 256
_IDENTITY = "features.json"
# The array in the file of a block. The file is an npz, whose checksum detects
# damage.
_BLOCK_ARRAY = "features"

log = logging.getLogger(__name__)


class _View(NamedTuple):
  """One view of all items of a part.

  view: 0 for the items themselves; 1 and above for augmented views.
  """

  part: str
  dataset: Dataset
  view: int

  def blocks(self) -> Iterator[tuple[str, range]]:
    """The name and the items of each block."""
    for start in range(0, len(self.dataset.labels), _BLOCK):
      stop = min(start + _BLOCK, len(self.dataset.labels))
      yield f"{self.part}-{self.view}-{start}.npz", range(start, stop)


# Embeds the items of a view at the given places; the last argument is a
# function that is told how many items are done.
_Embed = Callable[[_View, range, Callable[[int], Any]], np.ndarray]


def write_features(
  config: ConfigDict,
  path: str | Path,
  *,
  views: int = 0,
  folds: int = 1,
  batch_size: int = 32,
  progress: bool = False,
) -> Provenance:
  """Writes all parts of a set to an npz that the data set `features` reads.

  Its arrays are `features`, `labels`, `class_names`, `split`, `provenance`, and
  `groups` if the set has groups. The network is used without its head:
  `config.model.head` and `config.model.embedding_dim` have no effect. A killed
  call can be repeated and continues; a complete file is left unchanged.

  Args:
    config: its sections `data`, `model` and `augment`, and its seed, are used.
    path: the npz file to write.
    views: the number of augmented views of each training item, beside the item
      itself. With views, `groups` number the items, so that views of one item
      are not answers to each other.
    folds: the number of folds of the split to write. Items are embedded once;
      `split` has a column for each fold, and `config.data.fold` of a head
      chooses among them.
    batch_size: the number of items that pass through the network together.
    progress: whether to show a bar on a terminal.

  Raises:
    InputError: if the network has no head to remove, if a file of features
      cannot hold the set, if images cannot be read, or if the file or the
      blocks hold other features.
  """
  path = check_output(path, (".npz",))
  if views < 0 or min(batch_size, folds) < 1:
    raise InputError(
      f"views={views}, folds={folds}, batch_size={batch_size}: choose views of"
      " 0 or more, folds of 1 or more, and a batch size of 1 or more."
    )
  config = _without_head(config)
  splits = load(config.data)
  views_of_parts = _views(splits, views)
  _check(config, splits, views)
  by_fold = _parts_by_fold(config, splits, views, folds)
  made_by = _provenance(config, splits, views, folds)
  folder = Path(f"{path}.blocks")
  if path.exists():
    _refuse_another(path, made_by)
    # Left behind if a process was killed while it deleted them.
    shutil.rmtree(folder, ignore_errors=True)
    return made_by
  embed = _embedding(config, splits, batch_size)
  _claim(folder, made_by)
  width = config.model.embedding_dim
  features = _embedded(views_of_parts, embed, folder, width, progress)
  arrays = _arrays(splits, views_of_parts, views, by_fold)
  run_files.write_arrays(
    path,
    {"features": features, **arrays, "provenance": made_by.as_array()},
  )
  shutil.rmtree(folder)
  return made_by


# --- The items to embed -----------------------------------------------------


def _without_head(config: ConfigDict) -> ConfigDict:
  """The config, changed so that the network returns features."""
  name = config.model.name
  network = models.MODELS[name]
  if not hasattr(network, "features"):
    known = models.MODELS.items()
    fit = ", ".join(n for n, m in known if hasattr(m, "features"))
    raise InputError(
      f"{name} has no option head, so its features are not defined: choose one"
      f" of {fit} by config.model.name. To embed with a finished run, use"
      " experiments.embed."
    )
  config = override(
    config,
    {"model.head": "none", "model.embedding_dim": network.features},
  )
  validate(config)
  return config


def _views(splits: Splits, views: int) -> list[_View]:
  train = [_View("train", splits.train, view) for view in range(views + 1)]
  others = [_View("validation", splits.validation, 0)]
  if splits.gallery is None:
    return [*train, *others, _View("test", splits.test, 0)]
  others.append(_View("query", splits.test, 0))
  return [*train, *others, _View("gallery", splits.gallery, 0)]


def _check(config: ConfigDict, splits: Splits, views: int) -> None:
  """Raises `InputError` if a file of features cannot hold the set."""
  train = splits.train
  if splits.validation_seen:
    raise InputError(
      "config.data.train_on='train+validation' is a choice for heads: set it to"
      " 'train' here, and to 'train+validation' in the config of a head."
    )
  if splits.validation.pairs or splits.test.pairs or train.pairs:
    raise InputError(
      f"{train.name}, split {config.data.split!r}, has explicit pairs, which a"
      " file of features cannot hold: choose another config.data.split, or"
      " train on the images."
    )
  if train.superclasses is not None:
    log.warning("%s: its super-classes are left out.", train.name)
  if not views:
    return
  if not any(config.augment.values()):
    raise InputError(
      f"--views={views}, but without augmentation all views of an image are"
      f" equal: set one of the fields of config.augment,"
      f" {', '.join(sorted(config.augment))}."
    )
  if train.groups is not None or train.has_several_labels:
    raise InputError(
      f"{train.name}, split {config.data.split!r}, has groups or several"
      " labels, but views of an image are marked by groups: set --views=0."
    )


def _parts_by_fold(
  config: ConfigDict, splits: Splits, views: int, folds: int
) -> list[dict[str, str]]:
  """The part of each class in each fold of a split; empty for a single fold.

  Raises:
    InputError: if parts share classes, if there are views, or if the split does
      not have a fold or the fold has other classes.
  """
  if folds == 1:
    return []
  if splits.protocol != "open-set" or splits.gallery is not None or views:
    raise InputError(
      f"--folds={folds} writes the part of each class in each fold, so it needs"
      " an open-set split without a gallery, and --views=0. Otherwise leave it"
      " out and write a file for each config.data.fold."
    )
  classes: set[str] = set()
  parts_of_folds = []
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
    parts_of_folds.append(part_of)
  return parts_of_folds


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
  """How images were resized, in words."""
  if section.short_side is None:
    return "resized by area, whole image"
  return f"short side {section.short_side} (bilinear), middle cut out"


def _arrays(
  splits: Splits,
  views_of_parts: list[_View],
  views: int,
  by_fold: list[dict[str, str]],
) -> dict[str, np.ndarray]:
  """The class and part of each item, and its group if items have groups."""
  names, first = splits.train.class_names, dict.fromkeys(GIVEN_PARTS, 0)
  if splits.protocol == "open-set":  # Parts have different classes.
    first["validation"] = len(names)
    names += splits.validation.class_names
    first |= dict.fromkeys(("test", "query", "gallery"), len(names))
    names += splits.test.class_names
  counts = [len(each.dataset.labels) for each in views_of_parts]
  arrays = {
    "labels": np.concatenate(
      [
        each.dataset.labels + np.int32(first[each.part])
        for each in views_of_parts
      ]
    ),
    "class_names": np.array(names),
    "split": np.repeat([each.part for each in views_of_parts], counts),
  }
  if by_fold:
    classes = arrays["class_names"][arrays["labels"]].tolist()
    columns = [[part_of[name] for name in classes] for part_of in by_fold]
    arrays["split"] = np.array(columns).T
  if splits.train.groups is not None:
    groups = [each.dataset.groups for each in views_of_parts]
    arrays["groups"] = np.concatenate([x for x in groups if x is not None])
  elif views:
    train = np.tile(np.arange(counts[0]), views + 1)
    others = np.arange(counts[0], sum(counts) - views * counts[0])
    arrays["groups"] = np.concatenate([train, others])
  return arrays


# --- Embedding --------------------------------------------------------------


def _embedding(config: ConfigDict, splits: Splits, batch_size: int) -> _Embed:
  """A function that embeds items of a view, a batch at a time."""
  model = model_of(config, splits.train.input_spec)
  params, stats = model.init(jax.random.key(config.seed))
  augmentation = dict(config.augment)

  @functools.partial(jax.jit, static_argnames="is_augmented")
  def embed(
    params: Any,
    stats: Any,
    images: Any,
    indices: Any,
    view: Any,
    is_augmented: bool,
  ) -> Array:
    inputs = jax.lax.optimization_barrier(as_numbers(images))
    if is_augmented:
      inputs = _augmented(inputs, indices, view, config.seed, augmentation)
    preprocessed = model.preprocess(inputs)
    with jax.default_matmul_precision("highest"):  # as a run embeds
      return model.apply(params, stats, preprocessed, train=False)[0]

  def embed_items(
    items_of: _View, indices: range, report: Callable[[int], Any]
  ) -> np.ndarray:
    read, features = functools.partial(_item, items_of.dataset.inputs), []
    batches = read_blocks(indices, read, batch_size)
    for start, items in zip(indices[::batch_size], batches, strict=True):
      errors = [item for item in items if isinstance(item, InputError)]
      imaging.refuse(errors, len(items))
      padding = (batch_size - len(items)) * [items[-1]]
      images = np.stack([*items, *padding])
      places = np.arange(start, start + batch_size)
      points = embed(
        params,
        stats,
        images,
        places,
        items_of.view,
        is_augmented=items_of.view > 0,
      )
      features.append(np.asarray(points)[: len(items)])
      report(len(items))
    return np.concatenate(features)

  return embed_items


def _item(inputs: Any, index: int) -> np.ndarray:
  return inputs[index]


def _augmented(
  images: Float[Array, "n h w c"],
  indices: Int[Array, " n"],
  view: Int[Array, ""],
  seed: int,
  augmentation: dict[str, Any],
) -> Float[Array, "n h w c"]:
  """An augmented view of each image.

  It depends only on the image, its index, the number of the view and the seed.
  """
  key = jax.random.fold_in(jax.random.key(seed), view)

  def one(index: Array, image: Array) -> Array:
    image_key = jax.random.fold_in(key, index)
    return augment(image_key, image[None], **augmentation)[0]

  return jax.vmap(one)(indices, images)


def _embedded(
  views_of_parts: list[_View],
  embed: _Embed,
  folder: Path,
  width: int,
  progress: bool,
) -> Float32[np.ndarray, "n d"]:
  """The features of all items; finished blocks are read from the folder."""
  blocks = []
  total = sum(len(each.dataset.labels) for each in views_of_parts)
  with tqdm(
    total=total, unit="item", disable=None if progress else True
  ) as bar:
    for each in views_of_parts:
      for name, indices in each.blocks():
        path = folder / name
        block = _read_block(path, (len(indices), width))
        if block is None:
          block = embed(each, indices, bar.update)
          run_files.write_arrays(path, {_BLOCK_ARRAY: block})
        else:
          bar.update(len(indices))
        blocks.append(block)
  return np.concatenate(blocks)


def _read_block(
  path: Path, shape: tuple[int, int]
) -> Float32[np.ndarray, "n d"] | None:
  """A block that was embedded before; None if it is missing or damaged."""
  try:
    block = run_files.read_arrays(path).get(_BLOCK_ARRAY)
  except InputError:
    return None
  if block is None or block.shape != shape or block.dtype != np.float32:
    return None
  return block


# --- Files ------------------------------------------------------------------


def _claim(folder: Path, made_by: Provenance) -> None:
  """Makes a folder for blocks of these features, or checks an existing one.

  Raises:
    InputError: if the folder holds blocks of other features or other code.
  """
  run_files.make_folder(folder)
  identity = run_files.identity(features=made_by._asdict()) | {"commit": ""}
  identity["features"]["commit"] = ""
  path = folder / _IDENTITY
  if not path.exists():
    run_files.write_json(path, identity)
  change = run_files.difference(run_files.read_json(path), identity)
  if change:
    raise InputError(
      f"{folder} holds a part of other features: {change}. Choose another"
      " --out, or delete it."
    )


def _refuse_another(path: Path, made_by: Provenance) -> None:
  """Raises `InputError` if a file holds other features than these."""
  arrays = run_files.read_arrays(path)
  written: dict[str, Any] = {}
  if "provenance" in arrays:
    written = read_provenance(path, arrays["provenance"])._asdict()
  wanted = made_by._asdict() | {"commit": written.get("commit")}
  change = run_files.difference(written, wanted)
  if change:
    raise InputError(
      f"{path} holds other features: {change}. Choose another --out, or delete"
      " it."
    )
