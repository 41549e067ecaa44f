"""`tfds:<name>`: any set of tensorflow-datasets, read without TensorFlow.

Its items have an `image` and a `label`. Prepare it, for example, by

    tfds build svhn_cropped --file_format=array_record --data_dir=FOLDER

For most sets, this needs TensorFlow; reading needs only the extra `tfds`.
"""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Shaped

from metric_learning.data import base, cuts, files, imaging, stream
from metric_learning.errors import InputError


class Record(NamedTuple):
  """An encoded image, and its place."""

  place: str
  content: bytes

  def read_bytes(self) -> bytes:
    """The encoded image."""
    return self.content

  def __str__(self) -> str:
    """Its place, for messages."""
    return self.place


def load(config: Any) -> base.Splits:
  """Loads the set by "classes", "half", "folds", "images" or "official".

  "official" takes the parts of the set: train, validation (if it has one) and
  test. The other splits divide all of these together.
  """
  cuts.check_split(config, cuts.CUTS | {"official": 1})
  dataset, parts = read(config)
  if config.split == "official":
    return cuts.split_as_given(dataset, parts, config)
  return cuts.cut(dataset, config)


def read(config: Any) -> tuple[base.Dataset, Shaped[np.ndarray, " n"]]:
  """Reads images and labels, and the part of each image.

  Classes without an image are left out.
  """
  builder = _builder(config)
  sources = _sources(config, builder)
  items = [(part, item) for part in sources for item in sources[part]]
  labels = np.array([item["label"] for _, item in items], np.int32)
  if labels.min() < 0:
    part = items[int(labels.argmin())][0]
    raise InputError(f"{config.name} has images without a label in {part!r}.")
  # Encoded images are in memory; with `stream`, they are decoded when needed.
  decode = stream.image_files if config.stream else imaging.read_images
  short_side = imaging.short_side_of(config)
  images = decode(
    [
      Record(f"{config.name}, {part} image {i}", item["image"])
      for i, (part, item) in enumerate(items)
    ],
    tuple(config.image_size),
    config.background,
    short_side,
  )
  names = tuple(builder.info.features["label"].names)
  dataset = base.Dataset(
    config.name, images, labels, names, short_side=short_side
  )
  parts = np.array([part for part, _ in items])
  return base.subset(dataset, np.unique(labels)), parts


def _builder(config: Any) -> Any:
  try:
    from tensorflow_datasets.core import read_only_builder, registered
  except ImportError as error:
    raise InputError(
      f"data set {config.name!r} needs tensorflow-datasets: "
      "pip install 'metric-learning[tfds]'."
    ) from error
  name = config.name.removeprefix("tfds:")
  folder = config.data_dir or None
  try:
    return read_only_builder.builder_from_files(name, data_dir=folder)
  except (registered.DatasetNotFoundError, ValueError) as error:
    raise InputError(
      f"{config.name} is not prepared in {folder or '~/tensorflow_datasets'}; "
      f"prepare it with `tfds build {name} --file_format=array_record "
      "--data_dir=FOLDER` and set data_dir to that folder."
    ) from error


def _sources(config: Any, builder: Any) -> dict[str, Any]:
  """The encoded images and the labels of each part."""
  import tensorflow_datasets

  features = dict(builder.info.features.items())
  kinds = tensorflow_datasets.features
  if not (
    isinstance(features.get("image"), kinds.Image)
    and isinstance(features.get("label"), kinds.ClassLabel)
  ):
    raise InputError(
      f"{config.name} has the features {', '.join(sorted(features))}; it needs "
      "an `image`, and a `label` of one class."
    )
  parts = [part for part in base.PARTS if part in builder.info.splits]
  if not parts:
    raise InputError(
      f"{config.name} has the splits {', '.join(builder.info.splits)}, none of "
      f"{', '.join(base.PARTS)}."
    )
  decoders = {"image": tensorflow_datasets.decode.SkipDecoding()}
  with files.reading(f"{config.name} in {builder.data_path}"):
    try:
      return {
        part: builder.as_data_source(part, decoders=decoders) for part in parts
      }
    except NotImplementedError as error:
      raise InputError(
        f"{config.name} in {builder.data_path} is no array_record; prepare it "
        "again with --file_format=array_record."
      ) from error
