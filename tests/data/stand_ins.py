"""Tiny generated archives in the layouts of the official ones.

Every image has a single gray level: 8 times its class, in the order of the
names.
"""

import hashlib
import io
import tarfile
import zipfile

import numpy as np
from PIL import Image
from scipy.io import savemat

from metric_learning.data import archives

SIZE = (6, 5)


def encoded(label, form="JPEG", mode="RGB"):
  buffer = io.BytesIO()
  gray = Image.fromarray(np.full(SIZE, 8 * label, np.uint8))
  gray.convert(mode).save(buffer, form)
  return buffer.getvalue()


def write(path, files):
  """A zip or tgz of {name: content}; for other suffixes, a plain file."""
  if path.suffix == ".zip":
    with zipfile.ZipFile(path, "w") as archive:
      for name, content in files.items():
        archive.writestr(name, content)
  elif path.suffix == ".tgz":
    with tarfile.open(path, "w:gz") as archive:
      for name, content in files.items():
        item = tarfile.TarInfo(name)
        item.size = len(content)
        archive.addfile(item, io.BytesIO(content))
  else:
    path.write_bytes(files)


def omniglot():
  """The ink in one column of one row identifies the character."""
  found = {}
  number = 0
  for part, alphabets in (("background", "ABCDEF"), ("evaluation", "GHIJ")):
    files = {}
    for alphabet in alphabets:
      for character in range(1, 3):
        paper = np.full((6, 20), True)
        paper[number // 20 + 1, number % 20] = False
        for drawer in range(1, 21):
          paper[0] = np.arange(20) != drawer - 1
          buffer = io.BytesIO()
          Image.fromarray(paper).save(buffer, "PNG")
          name = (
            f"images_{part}/{alphabet}/character{character:02d}"
            f"/{number + 1:04d}_{drawer:02d}.png"
          )
          files[name] = buffer.getvalue()
        number += 1
    found[f"images_{part}.zip"] = files
  return found, {"background": 240, "evaluation": 160}


def lfw():
  """Two people in each of ten folds, and six in none, one with a single image.

  The people are Person_NN. The first of a fold has two images, the second one.
  """
  files, folds = {}, []
  for label in range(26):
    name = f"Person_{label:02d}"
    count = 1 if label in (21, *range(1, 20, 2)) else 2
    for i in range(1, count + 1):
      files[f"lfw/{name}/{name}_{i:04d}.jpg"] = encoded(label)
  for fold in range(10):
    a, b = f"Person_{2 * fold:02d}", f"Person_{2 * fold + 1:02d}"
    folds.append(f"{a}\t1\t2\n{a}\t2\t{b}\t1\n")
  train = "5\n" + "".join(f"Person_{2 * i:02d}\t1\t2\n" for i in range(5))
  train += "".join(f"Person_{2 * i:02d}\t1\tPerson_23\t2\n" for i in range(5))
  return {
    "lfw.tgz": files,
    "pairs.txt": ("10\t1\n" + "".join(folds)).encode(),
    "pairsDevTrain.txt": train.encode(),
    "pairsDevTest.txt": b"1\nPerson_24\t1\t2\nPerson_24\t1\tPerson_25\t1\n",
  }, {"images": len(files)}


def cub200():
  files = {"CUB_200_2011/README": b"about birds"}
  for label in range(10):
    for i in range(3):
      name = f"{label + 1:03d}.Bird"
      files[f"CUB_200_2011/images/{name}/Bird_{i}.jpg"] = encoded(label)
  return {"CUB_200_2011.tgz": files}, {"images": 30}


def cars196():
  """Image i of each part is of class i modulo 10."""

  def annotations():
    rows = [(f"{i + 1:05d}.jpg", i % 10 + 1) for i in range(20)]
    kinds = [("fname", object), ("class", np.uint8)]
    buffer = io.BytesIO()
    savemat(buffer, {"annotations": np.array(rows, kinds)[None]})
    return buffer.getvalue()

  images = {
    part: {f"cars_{part}/{i + 1:05d}.jpg": encoded(i % 10) for i in range(20)}
    for part in ("train", "test")
  }
  return {
    "cars_train.tgz": images["train"],
    "cars_test.tgz": images["test"],
    "car_devkit.tgz": {"devkit/cars_train_annos.mat": annotations()},
    "cars_test_annos_withlabels.mat": annotations(),
  }, {"train": 20, "test": 20}


def sop():
  """Classes 1 to 5 train, and 6 to 9 are tested; two images each."""
  root, files, total = "Stanford_Online_Products", {}, 0
  for part, labels in (("train", range(1, 6)), ("test", range(6, 10))):
    lines = ["image_id class_id super_class_id path"]
    for label in labels:
      for i in range(2):
        total += 1
        path = f"sofa_final/{label}_{i}.JPG"
        lines.append(f"{total} {label} 1 {path}")
        files[f"{root}/{path}"] = encoded(label - 1)
    files[f"{root}/Ebay_{part}.txt"] = "\n".join(lines).encode()
  return {f"{root}.zip": files}, {"train": 10, "test": 8}


def inshop():
  """Items 0 to 4 train. Of each of 5 to 8, one image is a query, two not."""
  files, lines = {}, []
  for label in range(9):
    for i in range(3):
      path = f"img/WOMEN/Dresses/id_{label:08d}/0{i}_front.jpg"
      part = "train" if label < 5 else ("query", "gallery", "gallery")[i]
      lines.append(f"{path}    id_{label:08d}  {part}")
      files[path] = encoded(label)
  head = f"{len(lines)}\nimage_name item_id evaluation_status\n"
  return {
    "img.zip": files,
    "list_eval_partition.txt": (head + "\n".join(lines)).encode(),
  }, {"train": 15, "query": 4, "gallery": 8}


# --- Sets that come as one zip ----------------------------------------------


def cub100():
  """Ten species of three images; files missing in the list are no images."""
  species = [f"Bird_{letter}" for letter in "JACBDEFGHI"]
  names = [f"{one}/{i:04d}.jpg" for one in species for i in range(3)]
  files = {f"images/{name}": encoded(ord(name[5]) - ord("A")) for name in names}
  lines = [f"{i}, {name}" for i, name in enumerate(names)]
  return {
    "images.txt": "\n".join(lines).encode(),
    "images/Bird_A/Thumbs.db": b"",
    **files,
  }


def cars_train():
  """Ten models of three images, numbered across the models, of two sizes."""
  files = {}
  for i in range(30):
    image = Image.new("L", (5, 6 + i % 2), 8 * (i % 10))
    buffer = io.BytesIO()
    image.convert("RGB").save(buffer, "JPEG")
    files[f"{i % 10 + 1:03d}/{i + 1:05d}.jpg"] = buffer.getvalue()
  return files


def signatures():
  """40 signatures by each of 12 writers; two pixels give writer and number."""
  files = {"LICENSE": b"MIT"}
  for writer in range(1, 13):
    for number in range(1, 41):
      buffer = io.BytesIO()
      Image.fromarray(np.uint8([[writer, number]])).save(buffer, "PNG")
      files[f"{writer}/{number}.png"] = buffer.getvalue()
  return files


STAND_INS = {
  make.__name__: make for make in (omniglot, lfw, cub200, cars196, sop, inshop)
}


def make(name, folder, monkeypatch):
  """Writes the files of a set, and describes them in the table of sets."""
  folder.mkdir(parents=True, exist_ok=True)
  found, parts = STAND_INS[name]()
  for file, content in found.items():
    write(folder / file, content)
  entry = described(name, folder, parts)
  monkeypatch.setitem(archives.ARCHIVES, name, entry)
  return folder


def described(name, folder, parts):
  """The entry for the table of sets that describes the files of a folder."""
  archive = archives.ARCHIVES[name]

  def pinned(files):
    return tuple(
      file._replace(
        sha256=hashlib.sha256((folder / file.name).read_bytes()).hexdigest()
      )
      for file in files
    )

  return archive._replace(
    files=pinned(archive.files), beside=pinned(archive.beside), parts=parts
  )
