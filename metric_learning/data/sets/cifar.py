"""CIFAR-10 and CIFAR-100, in their binary version.

`cifar10`: 60,000 color images of 32×32 pixels, in 10 classes.
`cifar100`: 60,000 color images of 32×32 pixels, 100 classes, 20 super-classes.

Krizhevsky, Learning multiple layers of features from tiny images, 2009;
https://www.cs.toronto.edu/~kriz/cifar.html. The Python version is refused: it
is pickled, and reading a pickle can run code.
"""

import dataclasses
import math
import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import UInt8

from metric_learning.data import base, cuts, files
from metric_learning.errors import InputError

SHAPE = (3, 32, 32)


class Layout(NamedTuple):
  """The files of a set; `names` has one file for each label of an image."""

  archive: str
  md5: str
  folder: str
  train: tuple[str, ...]
  test: tuple[str, ...]
  names: tuple[str, ...]


LAYOUTS = {
  "cifar10": Layout(
    archive="cifar-10-binary.tar.gz",
    md5="c32a1d4ab5d03f1284b67883e8d87530",
    folder="cifar-10-batches-bin",
    train=tuple(f"data_batch_{i}.bin" for i in range(1, 6)),
    test=("test_batch.bin",),
    names=("batches.meta.txt",),
  ),
  "cifar100": Layout(
    archive="cifar-100-binary.tar.gz",
    md5="03b5dce01913d631647c71ecec9e9cb8",
    folder="cifar-100-binary",
    train=("train.bin",),
    test=("test.bin",),
    names=("coarse_label_names.txt", "fine_label_names.txt"),
  ),
}


def load(config: Any) -> base.Splits:
  """Loads the set `config.name` by split "closed" or "half".

  "closed": the official training and test images. A tenth of the training
  images of each class, drawn by `split_seed`, validates. "half": the second
  half of the classes is tested, on official test images. Of the first half, two
  classes (`cifar10`) or ten (`cifar100`), drawn by `split_seed`, are for
  validation, and the others are for training.
  """
  cuts.check_split(config, {"closed": 1, "half": 1})
  training, test = read(config)
  if config.split == "closed":
    return cuts.closed_parts(training, test, config)
  seen, unseen = np.split(np.arange(len(test.class_names)), 2)
  train, validation = cuts.hold_out_fifth(seen, config.split_seed)
  return cuts.split_parts(training, test, (train, validation, unseen))


def read(config: Any) -> tuple[base.Dataset, base.Dataset]:
  """Reads the official training and test images, from archive or folder."""
  layout = LAYOUTS[config.name]
  path = files.data_path(
    config,
    f"{layout.archive}, or the folder that it unpacks to, from "
    "https://www.cs.toronto.edu/~kriz/cifar.html",
  )
  content = _contents(path, layout)
  with files.reading(f"the class names in {path}"):
    names = [content[name].decode().split() for name in layout.names]
  labels, images = _records(path, content, layout.train, names)
  superclasses = None
  if len(names) == 2:
    # Each class is in one super-class, which any of its images gives.
    wider = np.zeros(len(names[1]), int)
    wider[labels[:, 1]] = labels[:, 0]
    superclasses = tuple(names[0][i] for i in wider)
  training = base.Dataset(
    config.name,
    images,
    labels[:, -1].astype(np.int32),
    tuple(names[-1]),
    superclasses,
  )
  labels, images = _records(path, content, layout.test, names)
  test = dataclasses.replace(
    training, inputs=images, labels=labels[:, -1].astype(np.int32)
  )
  return training, test


def _contents(path: pathlib.Path, layout: Layout) -> dict[str, bytes]:
  """The content of each file of the set, by file name."""
  wanted = {*layout.train, *layout.test, *layout.names}
  if (path / layout.archive).is_file():
    path /= layout.archive
  if path.is_file():
    files.check_digest(path, layout.md5)
    content = {
      pathlib.PurePosixPath(name).name: data
      for name, data in files.read_tar(path)
    }
  else:
    if (path / layout.folder).is_dir():
      path /= layout.folder
    present = [name for name in wanted if (path / name).is_file()]
    content = {name: (path / name).read_bytes() for name in present}
  missing = sorted(wanted - content.keys())
  if missing:
    raise InputError(
      f"{path} lacks {', '.join(missing)} of the binary version of CIFAR; name "
      f"{layout.archive}, or the folder that it unpacks to."
    )
  return content


def _records(
  path: pathlib.Path,
  content: dict[str, bytes],
  members: Sequence[str],
  names: Sequence[Sequence[str]],
) -> tuple[UInt8[np.ndarray, "n kinds"], UInt8[np.ndarray, "n 32 32 3"]]:
  """Cuts files into labels, one for each file of names, and images."""
  length = len(names) + math.prod(SHAPE)
  for member in members:
    if len(content[member]) % length:
      raise InputError(
        f"{member} in {path} holds {len(content[member])} bytes, no multiple "
        f"of the {length} of labels and image; {files.FETCH_AGAIN}."
      )
  data = b"".join(content[member] for member in members)
  records = np.frombuffer(data, np.uint8).reshape(-1, length)
  labels, pixels = np.split(records, [len(names)], axis=1)
  for kind, known in zip(labels.T, names, strict=True):
    if len(kind) and kind.max() >= len(known):
      raise InputError(
        f"{', '.join(members)} in {path}: a label is {kind.max()}, but there "
        f"are {len(known)} names; {files.FETCH_AGAIN}."
      )
  return labels, pixels.reshape(-1, *SHAPE).transpose(0, 2, 3, 1)
