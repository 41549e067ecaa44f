"""Sets that come as archives: their files, addresses and contents.

A set is read from the folder that `experiments.prepare` made of its archives,
or from the folders that the archives unpack to.
"""

import dataclasses
import functools
import io
import pathlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from metric_learning.data import files
from metric_learning.errors import InputError

# The version of the folders that `prepared` writes.
VERSION = "1.0.0"

Read = Callable[[], bytes]
Found = Mapping[str, pathlib.Path]


class File(NamedTuple):
  """A file of a set, its address, and the folder that it unpacks to.

  sha256: "" if no source that we trust publishes it; it is then not checked.
  by_hand: whether the address is a page with terms to read, not a file.
  """

  name: str
  address: str
  sha256: str = ""
  unpacked: str = ""
  by_hand: bool = False


@dataclasses.dataclass(frozen=True)
class Example:
  """An encoded image: its path, its class, and how to read it."""

  name: str
  class_name: str
  read_bytes: Read

  def __str__(self) -> str:
    """Its path, for messages."""
    return self.name


class Archive(NamedTuple):
  """A set: its files, the number of images of each part, how to find them.

  beside: files that are kept unchanged, next to the images.
  """

  files: Sequence[File]
  parts: Mapping[str, int]
  layout: Callable[[Found, str], Iterator[Example]]
  beside: Sequence[File] = ()


def examples(name: str, found: Found, part: str) -> Iterator[Example]:
  """The images of one part of a set, in the order of its files.

  Read each example before you ask for the next one.

  Raises:
    InputError: if their number is not that of the set.
  """
  count, wanted = 0, ARCHIVES[name].parts[part]
  for example in ARCHIVES[name].layout(found, part):
    count += 1
    yield example
  if count != wanted:
    places = ", ".join(str(path) for path in found.values())
    raise InputError(
      f"{name}, part {part!r}: expected {wanted} images, but found {count} in "
      f"{places}; unpack or fetch it again."
    )


# --- Archives and folders ---------------------------------------------------


def members(path: pathlib.Path) -> Iterator[tuple[str, Read]]:
  """Names and readers of the files in a zip, a tar or a folder.

  Nothing is unpacked. In a folder, the names start with that of the folder, as
  in the archive that it came from. Names that start with a dot are left out.

  Raises:
    InputError: like `files.open_zip` and `files.read_tar`.
  """
  for name, read in _members(path):
    if not name.rpartition("/")[2].startswith("."):
      yield name, read


def _members(path: pathlib.Path) -> Iterator[tuple[str, Read]]:
  if path.is_dir():
    for file in sorted(path.rglob("*")):
      if file.is_file():
        name = f"{path.name}/{file.relative_to(path).as_posix()}"
        yield name, functools.partial(_read, path, name, file.read_bytes)
  elif path.suffix == ".zip":
    archive = files.open_zip(path).root
    for name in sorted(archive.namelist()):
      if not name.endswith("/"):
        read = functools.partial(archive.read, name)
        yield name, functools.partial(_read, path, name, read)
  else:
    # A tar has no table of contents: it is read once, from front to back.
    for name, content in files.read_tar(path):
      yield name.removeprefix("./"), functools.partial(bytes, content)


def _read(path: pathlib.Path, name: str, read: Read) -> bytes:
  with files.reading(f"{name} in {path}"):
    return read()


def _content(path: pathlib.Path, wanted: str) -> bytes:
  """One file of an archive or folder."""
  for name, read in members(path):
    if name == wanted:
      return read()
  raise InputError(f"{path} lacks {wanted}; {files.FETCH_AGAIN}.")


def _named(path: pathlib.Path, pattern: str) -> Iterator[Example]:
  """The images whose path matches; the groups of the pattern give the class."""
  for name, read in members(path):
    match = re.search(pattern, name)
    if match:
      yield Example(name, "/".join(match.groups()), read)


def _listed(
  path: pathlib.Path, classes: Mapping[str, str]
) -> Iterator[Example]:
  """The images in a list; `classes` maps their paths to classes."""
  for name, read in members(path):
    if name in classes:
      yield Example(name, classes[name], read)


# --- Layouts: class_name "a/b" means class b of super-class a ----------------


def _omniglot(found: Found, part: str) -> Iterator[Example]:
  """images_<part>/<alphabet>/<character>/<id>_<drawer>.png."""
  place = rf"^images_{part}/([^/]+)/([^/]+)/\d+_\d+\.png$"
  return _named(found[f"images_{part}.zip"], place)


def _lfw(found: Found, part: str) -> Iterator[Example]:
  """lfw/<name>/<name>_<number>.jpg."""
  return _named(found["lfw.tgz"], r"^lfw/([^/]+)/[^/]+_\d{4}\.jpg$")


def _cub200(found: Found, part: str) -> Iterator[Example]:
  """CUB_200_2011/images/<number>.<class>/<image>.jpg."""
  place = r"^CUB_200_2011/images/(\d{3}\.[^/]+)/[^/]+\.jpg$"
  return _named(found["CUB_200_2011.tgz"], place)


def _cars196(found: Found, part: str) -> Iterator[Example]:
  """cars_<part>/<image>.jpg; file names and classes in MATLAB files."""
  from scipy.io import loadmat

  if part == "train":
    path = found["car_devkit.tgz"]
    content = _content(path, "devkit/cars_train_annos.mat")
  else:
    path = found["cars_test_annos_withlabels.mat"]
    content = path.read_bytes()
  try:
    table = loadmat(io.BytesIO(content), squeeze_me=True)["annotations"]
    pairs = zip(table["fname"].tolist(), table["class"].tolist(), strict=True)
    classes = {f"cars_{part}/{name}": f"{label:03d}" for name, label in pairs}
  except (ValueError, KeyError, TypeError, IndexError) as error:
    raise InputError(
      f"cannot read the annotations in {path}: {error}; {files.FETCH_AGAIN}."
    ) from error
  return _listed(found[f"cars_{part}.tgz"], classes)


def _sop(found: Found, part: str) -> Iterator[Example]:
  """Ebay_<part>.txt: image, class, kind of product and path of each image."""
  path, root = found["Stanford_Online_Products.zip"], "Stanford_Online_Products"
  lines = _content(path, f"{root}/Ebay_{part}.txt").decode().splitlines()[1:]
  classes = {}
  for _, label, _, name in (line.split() for line in lines):
    kind = name.partition("_final/")[0]
    classes[f"{root}/{name}"] = f"{kind}/{label}"
  return _listed(path, classes)


def _inshop(found: Found, part: str) -> Iterator[Example]:
  """list_eval_partition.txt: path, class, and train, query or gallery."""
  text = found["list_eval_partition.txt"].read_text()
  rows = [line.split() for line in text.splitlines()[2:]]
  classes = {name: label for name, label, where in rows if where == part}
  return _listed(found["img.zip"], classes)


# --- The sets ---------------------------------------------------------------

_OMNIGLOT = "https://github.com/brendenlake/omniglot/raw/master/python"
_FIGSHARE = "https://ndownloader.figshare.com/files"
_CARS = "http://ai.stanford.edu/~jkrause"
_INSHOP = (
  "http://mmlab.ie.cuhk.edu.hk/projects/DeepFashion/InShopRetrieval.html"
)

# Checksums are those that tensorflow-datasets and scikit-learn pin.
ARCHIVES: dict[str, Archive] = {
  "omniglot": Archive(
    files=(
      File(
        "images_background.zip",
        f"{_OMNIGLOT}/images_background.zip",
        "ad41ab679c8b5d90b271ef46be6987cc81211774a695c29dcc5367b2b26ee640",
        "images_background",
      ),
      File(
        "images_evaluation.zip",
        f"{_OMNIGLOT}/images_evaluation.zip",
        "1f61a8f3366785b057fc117d9228e78a16e3d976c8953b2a10fcc74cf0609cee",
        "images_evaluation",
      ),
    ),
    parts={"background": 964 * 20, "evaluation": 659 * 20},
    layout=_omniglot,
  ),
  "lfw": Archive(
    files=(
      File(
        "lfw.tgz",
        f"{_FIGSHARE}/5976018",
        "055f7d9c632d7370e6fb4afc7468d40f970c34a80d4c6f50ffec63f5a8d536c0",
        "lfw",
      ),
    ),
    parts={"images": 13_233},
    layout=_lfw,
    beside=(
      File(
        "pairs.txt",
        f"{_FIGSHARE}/5976006",
        "ea42330c62c92989f9d7c03237ed5d591365e89b3e649747777b70e692dc1592",
      ),
      File(
        "pairsDevTrain.txt",
        f"{_FIGSHARE}/5976012",
        "1d454dada7dfeca0e7eab6f65dc4e97a6312d44cf142207be28d688be92aabfa",
      ),
      File(
        "pairsDevTest.txt",
        f"{_FIGSHARE}/5976009",
        "7cb06600ea8b2814ac26e946201cdb304296262aad67d046a16a7ec85d0ff87c",
      ),
    ),
  ),
  "cub200": Archive(
    files=(
      File(
        "CUB_200_2011.tgz",
        "https://data.caltech.edu/records/65de6-vp158/files/CUB_200_2011.tgz"
        "?download=1",
        "0c685df5597a8b24909f6a7c9db6d11e008733779a671760afef78feb49bf081",
        "CUB_200_2011",
      ),
    ),
    parts={"images": 11_788},
    layout=_cub200,
  ),
  "cars196": Archive(
    files=(
      File(
        "cars_train.tgz",
        f"{_CARS}/car196/cars_train.tgz",
        "512b227b30e2f0a8aab9e09485786ab4479582073a144998da74d64b801fd288",
        "cars_train",
      ),
      File(
        "cars_test.tgz",
        f"{_CARS}/car196/cars_test.tgz",
        "bffea656d6f425cba3c91c6d83336e4c5f86c6cffd8975b0f375d3a10da8e243",
        "cars_test",
      ),
      File(
        "car_devkit.tgz",
        f"{_CARS}/cars/car_devkit.tgz",
        "b97deb463af7d58b6bfaa18b2a4de9829f0f79e8ce663dfa9261bf7810e9accd",
        "devkit",
      ),
      File(
        "cars_test_annos_withlabels.mat",
        f"{_CARS}/car196/cars_test_annos_withlabels.mat",
        "790f75be8ea34eeded134cc559332baf23e30e91367e9ddca97d26ed9b895f05",
      ),
    ),
    parts={"train": 8_144, "test": 8_041},
    layout=_cars196,
  ),
  "sop": Archive(
    files=(
      File(
        "Stanford_Online_Products.zip",
        "ftp://cs.stanford.edu/cs/cvgl/Stanford_Online_Products.zip",
        "b04fa78210e69fab050ce73939550e1cd0f96890bdd98ec9fee732c3b756ef48",
        "Stanford_Online_Products",
      ),
    ),
    parts={"train": 59_551, "test": 60_502},
    layout=_sop,
  ),
  "inshop": Archive(
    files=(
      File("img.zip", _INSHOP, unpacked="img", by_hand=True),
      File("list_eval_partition.txt", _INSHOP, by_hand=True),
    ),
    parts={"train": 25_882, "query": 14_218, "gallery": 12_612},
    layout=_inshop,
  ),
}


def find(file: File, folder: pathlib.Path) -> pathlib.Path | None:
  """The path of a file in a folder, or of the folder that it unpacks to."""
  for name in (file.name, file.unpacked):
    if name and (folder / name).exists():
      return folder / name
  return None


def missing(absent: Sequence[File]) -> str:
  """The missing files, with the address of each.

  >>> print(missing([File("img.zip", "https://example.org", unpacked="img")]))
  img.zip (or its unpacked folder img), from https://example.org
  """
  return "; ".join(
    f"{file.name}"
    + (f" (or its unpacked folder {file.unpacked})" if file.unpacked else "")
    + f", from {file.address}"
    for file in absent
  )
