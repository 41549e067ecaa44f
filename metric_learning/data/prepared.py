"""Prepares archived sets: fetches and checks them, and makes one folder.

The folder is that of a tensorflow-datasets builder. Its images can be read in
any order.
"""

import contextlib
import functools
import http.client
import importlib.util
import io
import logging
import pathlib
import shutil
import urllib.request
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from metric_learning.data import archives, base, cache, files, imaging
from metric_learning.data.stream import image_files
from metric_learning.errors import InputError, check_choice

# The number of records of a prepared set that are read at a time.
_CHUNK = 1024

log = logging.getLogger(__name__)


def prepare(
  name: str, data_dir: str = "", manual_dir: str = ""
) -> pathlib.Path:
  """Prepares set `name` below `data_dir`, once, and returns its folder.

  The files of the set come from `manual_dir`, or are fetched into
  `data_dir`/downloads. Files with a known checksum are checked; unpacked
  folders are taken as they are. After a kill, the next call starts over.

  Raises:
    InputError: for a file that is missing, cannot be fetched, or is damaged,
      and for too little space.
  """
  check_choice("archived data set", name, archives.ARCHIVES)
  folder = _root(data_dir)
  place = prepared_folder(name, data_dir)
  if place.exists():
    log.info("%s is already prepared, in %s.", name, place)
    return place
  _check_installed()
  with _writing(folder):
    found = _collect(name, folder, manual_dir)
    files.check_space(folder, sum(map(_space, found.values())))
    place.parent.mkdir(parents=True, exist_ok=True)
    for left in place.parent.glob("incomplete.*"):
      shutil.rmtree(left)
    for file in archives.ARCHIVES[name].beside:
      shutil.copyfile(found[file.name], place.parent / file.name)
    _build(name, folder, found)
  log.info("%s is prepared in %s.", name, place)
  return place


def prepared_folder(name: str, data_dir: str = "") -> pathlib.Path:
  """The folder of a prepared set below `data_dir`."""
  return _root(data_dir) / "archives" / name / archives.VERSION


def _root(data_dir: str) -> pathlib.Path:
  return pathlib.Path(data_dir).expanduser() if data_dir else cache.folder()


def _check_installed() -> None:
  if not importlib.util.find_spec("tensorflow_datasets"):
    raise InputError(
      "prepared sets need tensorflow-datasets (without TensorFlow): "
      "pip install 'metric-learning[tfds]'."
    )


def _build(name: str, folder: pathlib.Path, found: archives.Found) -> None:
  from metric_learning.data import tfds_builder

  tfds_builder.tfds.disable_progress_bar()  # We show our own.
  # It prints "Downloading", but downloads nothing.
  with contextlib.redirect_stdout(io.StringIO()):
    tfds_builder.Archives(name, folder, found).download_and_prepare()


@contextlib.contextmanager
def _writing(folder: pathlib.Path) -> Iterator[None]:
  """Explains which folder cannot be written."""
  try:
    yield
  except PermissionError as error:
    raise InputError(
      f"{folder} cannot be written ({error}): choose another --data_dir."
    ) from None


# --- Files ------------------------------------------------------------------


def _collect(
  name: str, folder: pathlib.Path, manual_dir: str
) -> dict[str, pathlib.Path]:
  """The paths of all files of a set, complete and checked."""
  archive = archives.ARCHIVES[name]
  wanted = [*archive.files, *archive.beside]
  where = pathlib.Path(manual_dir).expanduser() if manual_dir else folder
  if manual_dir and not where.is_dir():
    raise InputError(f"manual_dir {str(where)!r} is not a folder.")
  downloads = folder / "downloads"
  absent = [
    file
    for file in wanted
    if not archives.find(file, where)
    and (manual_dir or (file.by_hand and not archives.find(file, downloads)))
  ]
  if absent:
    raise InputError(
      f"{where} lacks {len(absent)} of the {len(wanted)} files of {name}: "
      f"{archives.missing(absent)}. Put "
      f"{'them' if len(absent) > 1 else 'it'} into a folder and give it as "
      "--manual_dir."
    )
  found = {}
  for file in wanted:
    path = archives.find(file, where) or archives.find(file, downloads)
    if path:
      _check(path, file)
    found[file.name] = path or fetch(file, downloads)
  return found


def _check(path: pathlib.Path, file: archives.File) -> None:
  """Checks the checksum of a file, if it is known; a folder has none."""
  if file.sha256 and path.is_file():
    files.check_digest(path, file.sha256)


def fetch(file: archives.File, folder: pathlib.Path) -> pathlib.Path:
  """Fetches a file into a folder, with progress; it appears when complete.

  Raises:
    InputError: if it cannot be fetched, is cut short, or does not fit.
  """
  folder.mkdir(parents=True, exist_ok=True)
  path, partial = folder / file.name, folder / f"{file.name}.part"
  try:
    with urllib.request.urlopen(file.address, timeout=60) as answer:
      size = int(answer.headers.get("Content-Length") or 0)
      files.check_space(folder, size)
      bar = tqdm(
        desc=file.name, total=size or None, unit="B", unit_scale=True,
        disable=None,
      )  # fmt: skip
      with partial.open("wb") as target, bar:
        while chunk := answer.read(2**20):
          target.write(chunk)
          bar.update(len(chunk))
    if size and partial.stat().st_size != size:
      raise OSError(f"only {partial.stat().st_size} of {size} bytes arrived")
    _check(partial, file)
    return partial.rename(path)
  except (OSError, http.client.HTTPException) as error:
    raise InputError(
      f"cannot fetch {file.name} from {file.address}: {error}. Fetch it by "
      "other means, and give the folder that holds it as --manual_dir."
    ) from error
  finally:
    partial.unlink(missing_ok=True)


def _space(path: pathlib.Path) -> int:
  """The bytes that a file or folder needs once prepared, with its index."""
  whole = path.rglob("*") if path.is_dir() else [path]
  return round(1.1 * sum(file.stat().st_size for file in whole))


# --- Reading ----------------------------------------------------------------


class Images(NamedTuple):
  """Parts of a set, with the path and part of each image."""

  dataset: base.Dataset
  names: Sequence[str]
  parts: np.ndarray


def read(config: Any, *parts: str, stream: bool = False) -> Images:
  """Reads parts of the set `config.name`; classes are sorted by name.

  With `stream`, the images stay on disk and are decoded when they are needed.

  Reads the folder that `prepare` made below `config.data_dir` ("" is the cache
  folder), or the folders in it that the archives unpack to.

  Raises:
    InputError: if there is neither, or if the images do not fit in memory.
  """
  found = [(part, some) for part in parts for some in examples(config, part)]
  class_names = sorted({some.class_name for _, some in found})
  number = {name: i for i, name in enumerate(class_names)}
  labels = [number[some.class_name] for _, some in found]
  sources, size = [some for _, some in found], tuple(config.image_size)
  decode = image_files if stream else imaging.read_images
  short_side = imaging.short_side_of(config)
  dataset = base.Dataset(
    config.name,
    decode(sources, size, config.background, short_side),
    np.array(labels, np.int32),
    tuple(class_names),
    short_side=short_side,
  )
  names = [some.name for some in sources]
  return Images(dataset, names, np.array([part for part, _ in found]))


def examples(config: Any, part: str) -> list[archives.Example]:
  """The images of one part; each is decoded when it is needed."""
  place = prepared_folder(config.name, config.data_dir)
  if place.exists():
    return _prepared(place, part)
  folder = _root(config.data_dir)
  wanted = archives.ARCHIVES[config.name].files
  places = {file.name: folder / (file.unpacked or file.name) for file in wanted}
  unpacked = {name: path for name, path in places.items() if path.exists()}
  if len(unpacked) < len(wanted):
    absent = [file for file in wanted if file.name not in unpacked]
    raise InputError(
      f"{config.name} is not prepared in {folder}, nor unpacked there: "
      f"{archives.missing(absent)}. Run python -m experiments.prepare "
      f"--dataset={config.name} --data_dir={folder}, with --manual_dir=FOLDER "
      "if you already have the archives."
    )
  return list(archives.examples(config.name, unpacked, part))


def _prepared(place: pathlib.Path, part: str) -> list[archives.Example]:
  _check_installed()
  import tensorflow_datasets as tfds

  source = tfds.builder_from_directory(place).as_data_source(
    part, decoders={"image": tfds.decode.SkipDecoding()}
  )
  found = []
  for start in range(0, len(source), _CHUNK):
    rows = range(start, min(start + _CHUNK, len(source)))
    for i, record in zip(rows, source.__getitems__(list(rows)), strict=True):
      read_image = functools.partial(_image, source, i)
      name, class_name = (
        record[field].decode() for field in ("name", "class_name")
      )
      found.append(archives.Example(name, class_name, read_image))
  return found


def _image(source: Any, index: int) -> bytes:
  return source[index]["image"]


def beside(config: Any, name: str) -> pathlib.Path:
  """A file beside the images of a set, such as pairs.txt.

  Raises:
    InputError: if it is not there.
  """
  prepared = prepared_folder(config.name, config.data_dir).parent
  for folder in (prepared, _root(config.data_dir)):
    if (folder / name).exists():
      return folder / name
  archive = archives.ARCHIVES[config.name]
  absent = [file for file in archive.beside if file.name == name]
  raise InputError(
    f"{_root(config.data_dir)} lacks {archives.missing(absent)}."
  )
