"""The tensorflow-datasets builder of the archived sets; without TensorFlow.

Images are stored as encoded bytes, and our own code decodes them. Only
`prepared` imports this module: the library takes seconds to import.
"""

import io
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import tensorflow_datasets as tfds
from tqdm import tqdm

from metric_learning.data import archives


class Archives(  # type: ignore[call-arg]
  tfds.core.GeneratorBasedBuilder, skip_registration=True
):
  """One configuration for each set; its splits are the parts of the set."""

  VERSION = tfds.core.Version(archives.VERSION)
  BUILDER_CONFIGS = [  # noqa: RUF012
    tfds.core.BuilderConfig(name=name, description=name)
    for name in archives.ARCHIVES
  ]

  def __init__(
    self, name: str, data_dir: pathlib.Path, found: archives.Found
  ) -> None:
    """A builder of the set `name` below `data_dir`, from the files `found`."""
    super().__init__(config=name, data_dir=data_dir, file_format="array_record")
    self._found = found

  def _info(self) -> tfds.core.DatasetInfo:
    features = tfds.features.FeaturesDict(
      {
        "image": tfds.features.Image(shape=(None, None, 3)),
        "class_name": tfds.features.Text(),
        "name": tfds.features.Text(),
      }
    )
    # Not shuffled: seed and step draw batches from a known order.
    return tfds.core.DatasetInfo(
      builder=self, features=features, disable_shuffling=True
    )

  def _split_generators(self, dl_manager: Any) -> Mapping[str, Iterator[Any]]:
    parts = archives.ARCHIVES[self.builder_config.name].parts
    return {part: self._generate_examples(part) for part in parts}

  def _generate_examples(self, part: str) -> Iterator[tuple[str, Any]]:
    name = self.builder_config.name
    some = archives.examples(name, self._found, part)
    total = archives.ARCHIVES[name].parts[part]
    for example in tqdm(some, part, total, unit="image", disable=None):
      yield (
        example.name,
        {
          "image": io.BytesIO(example.read_bytes()),
          "class_name": example.class_name,
          "name": example.name,
        },
      )
