"""Inputs to embed with a run: folders, images, arrays and tables."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from metric_learning.data.sets import npz, pairs_csv, table
from metric_learning.data.sets.image_folder import SUFFIXES
from metric_learning.errors import InputError
from metric_learning.inference.files import image_labels, images_in
from metric_learning.inference.runs import FinishedRun
from metric_learning.training import run_files

TABLES = (".csv", ".tsv", ".parquet")
# Columns of a table that are not features.
_NO_FEATURES = ("label", "labels", "split", "groups")


class Items(NamedTuple):
  """The embedded items of one input.

  names: the path of each image, or the number of each row, from 0.
  labels: the label of each item; None if the input has no labels.
  bad: the errors of files that were skipped.
  """

  points: Float[np.ndarray, "n d"]
  names: list[str]
  labels: list[str] | None
  bad: list[InputError]

  @property
  def are_files(self) -> bool:
    """Whether the names are paths of images."""
    return all(Path(name).is_file() for name in self.names)


def embed_input(
  run: FinishedRun,
  path: str | Path,
  *,
  skip_bad: bool = False,
  **options: Any,
) -> Items:
  """Embeds the items at a path, which is one of these:

  - An image, or a folder: all images in it. Their labels are the names of their
    class folders, if each image is in one.
  - An npz file: its array `images` or `features`, and its array `labels` if it
    has one; or points from `write_items`, which are used unchanged.
  - A table (.csv, .tsv, .parquet): the images that its column `path` names,
    relative to its folder; or features, from the other columns in the order of
    training. Its column `label` holds labels.

  `skip_bad` and `options` are passed to `FinishedRun.embed_files`.

  Raises:
    InputError: if the input does not exist or cannot be used, or if points are
      from another run.
  """
  path = Path(path)
  if not path.exists():
    raise InputError(f"there is no file or folder {path}.")
  suffix = path.suffix.lower()
  if path.is_dir():
    paths = images_in(path)
    is_bare = any(len(image.relative_to(path).parts) < 2 for image in paths)
    labels = None if is_bare else image_labels(path, paths)
    return _of_files(run, paths, labels, skip_bad, options)
  if suffix in SUFFIXES:
    return _of_files(run, [path], None, skip_bad, options)
  if suffix == ".npz":
    return _of_arrays(run, path, options)
  if suffix in TABLES:
    return _of_table(run, path, skip_bad, options)
  raise InputError(
    f"{path} cannot be embedded: give a folder of images, an image"
    f" ({' '.join(SUFFIXES)}), an .npz file, or a table ({' '.join(TABLES)})."
  )


def _of_files(
  run: FinishedRun,
  paths: Sequence[Path],
  labels: Sequence[str] | None,
  skip_bad: bool,
  options: Mapping[str, Any],
) -> Items:
  embedded = run.embed_files(paths, skip_bad=skip_bad, **options)
  if labels is not None:
    label_of = dict(zip(paths, labels, strict=True))
    labels = [label_of[path] for path in embedded.paths]
  names = list(map(str, embedded.paths))
  return Items(embedded.points, names, labels, embedded.bad)


def _of_arrays(
  run: FinishedRun, path: Path, options: Mapping[str, Any]
) -> Items:
  arrays = npz.read_arrays(path)
  labels = arrays.get("labels")
  if "embeddings" in arrays:
    points = arrays["embeddings"]
    _check_run(run, path, str(arrays.get("run", "")))
  else:
    name = "images" if run.input_spec.kind == "image" else "features"
    if name not in arrays:
      raise InputError(
        f"{path} has the arrays {', '.join(arrays)}, but the run takes"
        f" {run.input_spec}: name their array {name!r}."
      )
    options = {k: v for k, v in options.items() if k != "resize"}
    points = run.embed(arrays[name], **options)
  names = arrays.get("paths", np.arange(len(points)))
  for kind, array in (("labels", labels), ("paths", names)):
    if array is not None and array.shape != (len(points),):
      raise InputError(
        f"{path}: {kind} has the shape {array.shape}, but there are"
        f" {len(points)} items: give one for each."
      )
  texts = lambda array: list(map(str, array.tolist()))
  return Items(
    points, texts(names), None if labels is None else texts(labels), []
  )


def _check_run(run: FinishedRun, path: Path, digest: str) -> None:
  if digest != run.result["digest"]:
    raise InputError(
      f"{path} holds points of the run {digest or '(unknown)'}, but"
      f" {run.folder} is {run.result['digest']}: points of different networks"
      " cannot be compared. Embed its items again."
    )


def _of_table(
  run: FinishedRun, path: Path, skip_bad: bool, options: Mapping[str, Any]
) -> Items:
  columns = table.read_columns(path)
  section = run.config.data.to_dict()
  label = columns.get("label", columns.get(section.get("label_column")))
  labels = None if label is None else list(map(str, label.tolist()))
  if "path" in columns:
    paths = [path.parent / name for name in columns["path"].tolist()]
    if len(set(paths)) < len(paths):
      raise InputError(f"{path} names an image twice: leave one of them out.")
    return _of_files(run, paths, labels, skip_bad, options)
  if run.input_spec.kind == "image":
    raise InputError(
      f"{path} has no column 'path' that names images, but the run takes"
      f" {run.input_spec}."
    )
  ignored = {
    *_NO_FEATURES,
    section.get("label_column"),
    *section.get("drop_columns", ()),
  }
  features = table.features_of(
    path, {name: x for name, x in columns.items() if name not in ignored}
  )
  options = {k: v for k, v in options.items() if k != "resize"}
  points = run.embed(features, **options)
  return Items(points, list(map(str, range(len(points)))), labels, [])


def write_items(path: str | Path, items: Items, run: FinishedRun) -> None:
  """Writes points, their paths, and their labels if items have labels.

  The file is an .npz, or a .parquet table with a column for each dimension.

  Raises:
    InputError: if the suffix is another one, if the folder cannot be made, or
      if pyarrow is needed and not installed.
  """
  path = check_output(path, (".npz", ".parquet"))
  others = {"paths": items.names}
  if items.labels is not None:
    others["labels"] = items.labels
  if path.suffix == ".npz":
    arrays = {name: np.array(texts) for name, texts in others.items()}
    run_files.write_arrays(
      path,
      {
        "embeddings": items.points,
        **arrays,
        "run": np.array(run.result["digest"]),
      },
    )
    return
  try:
    import pyarrow
    from pyarrow import parquet
  except ImportError:
    raise InputError(
      f"{path} needs pyarrow: pip install 'metric-learning[table]', or choose"
      " an .npz file."
    ) from None
  axes = {f"e{i}": column for i, column in enumerate(items.points.T)}
  columns = pyarrow.table({**others, **axes})
  run_files.write_atomically(
    path, lambda file: parquet.write_table(columns, file)
  )


def write_csv(
  path: str | Path, names: Sequence[str], rows: Sequence[Sequence[Any]]
) -> None:
  """Writes a CSV file, completely or not at all."""
  text = io.StringIO()
  writer = csv.writer(text, lineterminator="\n")
  writer.writerow(names)
  writer.writerows(rows)
  run_files.write_atomically(
    check_output(path, (".csv",)),
    lambda file: file.write(text.getvalue().encode()),
  )


def check_output(path: str | Path, suffixes: Sequence[str]) -> Path:
  """Checks the suffix of an output path and makes its folder.

  Raises:
    InputError: if the suffix is another one, or if the folder cannot be made.
  """
  path = Path(path)
  if path.suffix not in suffixes:
    raise InputError(
      f"{path} has the suffix {path.suffix or '(none)'}: choose"
      f" {' or '.join(suffixes)}."
    )
  run_files.make_folder(path.absolute().parent)
  return path


def own_indices(queries: Items, gallery: Items) -> Int[np.ndarray, " n"]:
  """The index of each query in the gallery, or -1 if it is not in the gallery.

  Image files are matched by their path. Other items match only if queries and
  gallery are the same object.
  """
  if queries is gallery:
    return np.arange(len(gallery.names))
  if not (queries.are_files and gallery.are_files):
    return np.full(len(queries.names), -1)
  places = {Path(name).resolve(): i for i, name in enumerate(gallery.names)}
  return np.array(
    [places.get(Path(name).resolve(), -1) for name in queries.names]
  )


def read_pairs(
  path: str | Path,
) -> tuple[list[tuple[Path, Path]], list[bool] | None]:
  """The images of each pair in a CSV file, and whether they are the same.

  Columns are those of `pairs_csv.read_pairs`. The target column is optional;
  without it, the second result is None.
  """
  path = Path(path)
  target, rows = pairs_csv.read_rows(path, needs_target=False)
  pairs = [
    (
      path.parent / row["first"].strip(),
      path.parent / row["second"].strip(),
    )
    for _, row in rows
  ]
  if not target:
    return pairs, None
  targets = [
    pairs_csv.target_of(target, row, f"{path}, line {line}")
    for line, row in rows
  ]
  return pairs, [value >= 0.5 for value in targets]
