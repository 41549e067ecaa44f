"""A finished run at its selected checkpoint, ready for use."""

import dataclasses
import functools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Array, Bool, Float, Shaped
from ml_collections import ConfigDict
from tqdm import tqdm

from metric_learning import evaluation
from metric_learning.data import Dataset, ImageFiles, imaging
from metric_learning.data.standardize import scaled
from metric_learning.distances import MetricName
from metric_learning.errors import InputError
from metric_learning.evaluation.tiles import (
  Codes,
  as_float32,
  check_embeddings,
  decode,
  for_each_block,
)
from metric_learning.inference import export, files, thresholds
from metric_learning.inference.index import Index, make_index
from metric_learning.specs import InputSpec, spec_of
from metric_learning.training import run_files
from metric_learning.training.embedding import (
  arrays_of,
  data_of,
  embed_all,
  embed_block,
)
from metric_learning.training.step import Program, State

BATCH = 512


class Embedded(NamedTuple):
  """The points of image files, and the files that could not be used.

  paths: the paths of the points, in order.
  bad: the error of each other file.
  """

  points: Float[np.ndarray, "n d"]
  paths: list[Path]
  bad: list[InputError]


class Verdict(NamedTuple):
  """Whether pairs are the same, with the expected error rates."""

  same: Bool[np.ndarray, " n"]
  distances: Float[np.ndarray, " n"]
  threshold: thresholds.Threshold


@dataclasses.dataclass(frozen=True, eq=False)
class FinishedRun:
  """A trained network with its metric; `load` makes it.

  result: the contents of result.json.
  input_spec: the shape and kind of an item.
  scale: the mean and factor of each feature, if the data was standardized.
  """

  folder: Path
  config: ConfigDict = dataclasses.field(repr=False)
  result: dict[str, Any] = dataclasses.field(repr=False)
  input_spec: InputSpec
  scale: tuple[np.ndarray, np.ndarray] | None = dataclasses.field(repr=False)
  program: Program = dataclasses.field(repr=False)
  state: State = dataclasses.field(repr=False)

  @property
  def metric(self) -> MetricName:
    """The metric that compares points, which include any learned factor."""
    return self.result["metric"]

  @functools.cached_property
  def validation(self) -> thresholds.Validation:
    """The embedded validation part; test items are not used.

    Raises:
      InputError: if the run was trained on it, or if neither its embeddings nor
        its data are available.
    """
    if self.config.data.train_on != "train":
      raise InputError(
        f"{self.folder} was trained on its validation classes too, so these"
        " cannot estimate error rates: use a run with"
        " config.data.train_on='train'."
      )
    for name in (run_files.SELECTED_EMBEDDINGS, run_files.EMBEDDINGS):
      if (self.folder / name).exists():
        return _validation(run_files.read_own(self.folder / name))
    part = data_of(self.folder, self.config).validation
    points = embed_all(self.program, self.state, part.inputs)
    return _validation(arrays_of("validation", part, points))

  def embed(
    self,
    items: Any,
    *,
    batch_size: int = BATCH,
    resize: bool = False,
    progress: bool = False,
  ) -> Float[np.ndarray, "n d"]:
    """Embeds items in order; the points are inputs of the other methods.

    Args:
      items: an array of images (uint8) or of features before any
        standardization; a `Dataset` from `data.load`; one or more paths of
        images; or a folder, whose images are in the order of `images_in`.
      batch_size: the largest number of items in the network at a time.
      resize: whether to resize images of other sizes, as in training. If
        `config.data.image_size` is set, they always are.
      progress: whether to show a bar on a terminal.

    Raises:
      InputError: if items have another kind or size than the run was trained
        on, or if files cannot be read; one message lists all of them.
    """
    if isinstance(items, Dataset | ImageFiles):
      inputs = items.inputs if isinstance(items, Dataset) else items
      if not isinstance(inputs, ImageFiles) or not _are_paths([*inputs.paths]):
        return self._embed_stored(inputs, batch_size, progress)
      items = list(inputs.paths)
    elif not _are_paths(items):
      stored = self._checked(items)
      if self.scale is not None:
        stored = scaled(stored, *self.scale)
      return self._embed_stored(stored, batch_size, progress)
    return self.embed_files(
      items, batch_size=batch_size, resize=resize, progress=progress
    ).points

  def embed_files(
    self,
    paths: Sequence[str | Path] | str | Path,
    *,
    skip_bad: bool = False,
    batch_size: int = BATCH,
    resize: bool = False,
    progress: bool = False,
  ) -> Embedded:
    """Embeds image files, and lists the files that could not be used.

    `paths` are paths of images, or one image, or a folder: then its images, in
    the order of `images_in`.

    Raises:
      InputError: if files cannot be read or have another size or color, unless
        `skip_bad` is set; if no file can be used; or if the run does not take
        images. The message lists the files.
    """
    if isinstance(paths, str | Path):
      path = Path(paths)
      paths = [path] if path.is_file() else files.images_in(path)
    all_paths = [Path(path) for path in paths]
    if self.input_spec.kind != "image":
      raise InputError(
        f"{self.folder} takes {self.input_spec}, not images: give an array."
      )
    if not all_paths:
      raise InputError("there are no images to embed: give at least one path.")
    section = self.config.data
    read = functools.partial(
      files.read_image,
      spec=self.input_spec,
      resize=resize or bool(section.image_size),
      background=section.background,
      short_side=section.get("short_side"),
    )
    size = _batch_of(len(all_paths), batch_size)
    points, bad = [], {}
    with _bar(len(all_paths), progress) as bar:
      for start, block in enumerate(files.read_blocks(all_paths, read, size)):
        good = [item for item in block if not isinstance(item, InputError)]
        for place, item in enumerate(block, start * size):
          if isinstance(item, InputError):
            bad[place] = item
        if good:
          points.append(
            embed_block(self.program, self.state, np.stack(good), size)
          )
        bar.update(len(block))
    errors = list(bad.values())
    if not skip_bad or not points:
      imaging.refuse(errors, len(all_paths))
    good_paths = [p for place, p in enumerate(all_paths) if place not in bad]
    return Embedded(np.concatenate(points), good_paths, errors)

  def distances(
    self,
    points: Float[np.ndarray | Array, "n d"],
    others: Float[np.ndarray | Array, "m d"] | None = None,
  ) -> Float[np.ndarray, "n m"]:
    """The distances between two sets of points, or within one.

    Distances are those of the trained metric, in float32, computed from exact
    differences.
    """
    first = check_embeddings("points", points)
    second = first if others is None else check_embeddings("others", others)
    first, second = as_float32(self.metric, first, second)
    matrix = np.empty((len(first), len(second)), np.float32)

    def use(rows: slice, codes: Codes) -> None:
      matrix[rows] = decode(np.asarray(codes))

    for_each_block(use, self.metric, first, second)
    return matrix

  def index(
    self,
    points: Float[np.ndarray | Array, "m d"],
    labels: Any = None,
    *,
    engine: str = "exact",
  ) -> Index:
    """A gallery to search; `labels` are integers or strings, one per point.

    `engine` is exact, or faiss (an extra), which is faster for large galleries.

    Raises:
      InputError: if faiss does not support the metric, or is not installed.
    """
    return make_index(
      points, labels, self.metric, lambda: self.validation, engine
    )

  def verify(
    self,
    first: Float[np.ndarray | Array, "n d"],
    second: Float[np.ndarray | Array, "n d"],
    *,
    far: float,
  ) -> Verdict:
    """Whether each row of `first` has the class of the same row of `second`.

    The threshold has the given false-accept rate on validation pairs; see
    `thresholds.of_pairs`.

    Raises:
      InputError: if the rate needs more validation pairs.
    """
    threshold = thresholds.of_pairs(self.validation, self.metric, far)
    distances = evaluation.pair_distances(first, second, self.metric)
    # In float64, since a rounded threshold might equal a distance.
    same = distances.astype(np.float64) <= threshold.distance
    return Verdict(same, distances, threshold)

  def export(self, folder: str | Path) -> Path:
    """Writes a folder that needs only jax and numpy: see `export.export`.

    Raises:
      InputError: if the folder exists, or cannot be written.
    """
    return export.export(self, folder)

  def _checked(self, items: Any) -> Shaped[np.ndarray, " n *item"]:
    """Checks that items are an array of the input spec."""
    spec, array = self.input_spec, np.asarray(items)
    if array.shape[1:] == spec.shape[:-1] and spec.shape[-1] == 1:
      array = array[..., None]  # gray images without an axis of channels
    if array.ndim < 2 or array.shape[1:] != spec.shape or not len(array):
      raise InputError(
        f"items: shape {array.shape}; the run takes {spec}: give an array of"
        f" shape (n, {', '.join(map(str, spec.shape))}) with at least one item."
      )
    if spec.kind == "image":
      if spec_of(array).kind != "image":
        raise InputError(
          f"items: dtype {array.dtype}; the run takes {spec}: give uint8, from"
          " 0 to 255."
        )
      return array
    return check_embeddings("items", array)

  def _embed_stored(
    self,
    stored: Shaped[np.ndarray, " n *item"] | ImageFiles,
    batch_size: int,
    progress: bool,
  ) -> Float[np.ndarray, "n d"]:
    """Embeds items that are stored as in a `Dataset`."""
    if spec_of(stored) != self.input_spec:
      raise InputError(
        f"items are {spec_of(stored)}; the run takes {self.input_spec}."
      )
    size = _batch_of(len(stored), batch_size)
    points = []
    with _bar(len(stored), progress) as bar:
      for block in _blocks(stored, size):
        points.append(embed_block(self.program, self.state, block, size))
        bar.update(len(block))
    return np.concatenate(points)


def _validation(arrays: dict[str, np.ndarray]) -> thresholds.Validation:
  labels = arrays["validation_labels"]
  names = arrays.get("validation_class_names")
  pairs = None
  if "validation_same" in arrays:
    first, second, same = (
      arrays[f"validation_{side}"] for side in ("first", "second", "same")
    )
    pairs = first, second, same
  if names is None:  # A run of an earlier version.
    count = labels.shape[1] if labels.ndim > 1 else int(labels.max()) + 1
    names = np.arange(count).astype(str)
  return thresholds.Validation(
    arrays["validation_embeddings"], labels, names, pairs
  )


def _are_paths(items: Any) -> bool:
  """Whether items are a path, or a sequence of paths."""
  if isinstance(items, str | Path):
    return True
  listed = isinstance(items, Sequence) and bool(items)
  return listed and all(isinstance(item, str | Path) for item in items)


def _batch_of(count: int, batch_size: int) -> int:
  """The least power of two that is at least `count`, but at most `batch_size`.

  >>> _batch_of(3, 512), _batch_of(1000, 512)
  (4, 512)
  """
  if batch_size < 1:
    raise InputError(f"batch_size={batch_size}: choose 1 or more.")
  return min(batch_size, 1 << (count - 1).bit_length())


def _blocks(
  stored: Shaped[np.ndarray, " n *item"] | ImageFiles, size: int
) -> Iterator[Shaped[np.ndarray, " _ *item"]]:
  for start in range(0, len(stored), size):
    yield np.asarray(stored[start : start + size])


def _bar(total: int, shown: bool) -> Any:
  return tqdm(total=total, unit="item", disable=None if shown else True)
