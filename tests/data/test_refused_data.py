"""Data that cannot be used: one message with file and reason, and no run.

Each function spoils a set, and returns its config and the expected message.
"""

import struct

import numpy as np
import pytest
from PIL import Image

from metric_learning.data import files
from metric_learning.errors import InputError
from metric_learning.training import train
from tests.data import stand_ins
from tests.tiny import tiny_config

GRAY = np.random.default_rng(0).integers(0, 256, (8, 4, 6, 5), np.uint8)


def config(name, data_dir, split="classes", protocol="open-set", **more):
  fields = {"name": name, "data_dir": str(data_dir), "split": split}
  batch = {"classes_per_batch": 2, "images_per_class": 2, "sampler": "classes"}
  batch |= {name: more.pop(name) for name in batch.keys() & more.keys()}
  fields |= {"protocol": protocol, **more}
  return tiny_config(
    **{f"data__{key}": v for key, v in fields.items()},
    **{f"batch__{key}": v for key, v in batch.items()},
  )


def image_folder(folder):
  for c, images in enumerate(GRAY):
    (folder / f"class{c}").mkdir(parents=True)
    for i, pixels in enumerate(images):
      Image.fromarray(pixels).save(folder / f"class{c}" / f"{i}.png")
  return config("image_folder", folder)


def image_that_does_not_decode(folder, monkeypatch):
  found = image_folder(folder)
  path = folder / "class3" / "2.png"
  path.write_bytes(path.read_bytes()[:60])
  return found, r"cannot read the image .*class3/2\.png"


def image_bomb(folder, monkeypatch):
  found = image_folder(folder)
  Image.new("1", (300, 200)).save(folder / "class3" / "2.png")
  monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 50_000)
  return found, r"class3/2\.png has over 50000 pixels.*NO_SIZE_LIMIT=1"


def sizes_that_differ(folder, monkeypatch):
  found = image_folder(folder)
  Image.new("L", (9, 7)).save(folder / "class3" / "2.png")
  return found, r"class3/2\.png is 7×9 gray; set image_size"


def channels_that_differ(folder, monkeypatch):
  found = image_folder(folder)
  Image.new("RGB", (5, 6)).save(folder / "class3" / "2.png")
  return found, r"class3/2\.png is 6×5 color; set image_size"


def labels_of_another_length(folder, monkeypatch):
  folder.mkdir()
  for name, array in (
    ("images-idx3-ubyte", GRAY.reshape(-1, 6, 5)),
    ("labels-idx1-ubyte", np.zeros(31, np.uint8)),
  ):
    head = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
    (folder / name).write_bytes(head + array.tobytes())
  return config("idx", folder), r"labels-idx1-ubyte one of \(31,\);.*same n"


def npz_with_objects(folder, monkeypatch):
  folder.mkdir()
  labels = np.array([{}] * 32, object)
  np.savez(folder / "x.npz", images=GRAY.reshape(-1, 6, 5), labels=labels)
  return config("npz", folder / "x.npz"), r"x\.npz: .*`labels` holds Python obj"


def class_in_two_parts(folder, monkeypatch):
  folder.mkdir()
  np.savez(
    folder / "x.npz",
    images=GRAY.reshape(-1, 6, 5),
    labels=np.repeat(np.arange(8), 4),
    split=np.array(["train"] * 17 + ["test"] * 15),
  )
  found = config("npz", folder / "x.npz", "official")
  return found, "class '4' is in train and in test"


def pairs_that_name_a_missing_image(folder, monkeypatch):
  image_folder(folder)
  for part in ("train", "validation", "test"):
    lines = ["first,second,same", "class0/0.png,class0/9.png,1"]
    (folder / f"{part}.csv").write_text("\n".join(lines))
  found = config("pairs_csv", folder, "files")
  return found, r"train\.csv, line 2: there is no image .*class0/9\.png"


def faces(folder, **more):
  """att_faces.zip, with the files that are read before the error."""
  folder.mkdir()
  content = b"P5 5 6 255 " + bytes(30)
  names = {f"s{c}/{i}.pgm": content for c in range(1, 41) for i in range(1, 11)}
  stand_ins.write(folder / "att_faces.zip", names | more)
  return config("att_faces", folder, "folds")


def truncated_archive(folder, monkeypatch):
  found = faces(folder)
  path = folder / "att_faces.zip"
  path.write_bytes(path.read_bytes()[:-30])
  return found, r"cannot read the archive .*att_faces\.zip: .*fetch it again"


def archive_that_leaves_its_folder(folder, monkeypatch):
  found = faces(folder, **{"../evil": b"x"})
  return found, r"att_faces\.zip holds the path '\.\./evil'"


def archive_bomb(folder, monkeypatch):
  monkeypatch.setattr(files, "MAX_UNPACKED", 10_000)
  return faces(folder), r"att_faces\.zip unpacks to over 10000.*NO_SIZE_LIMIT=1"


def wrong_checksum(folder, monkeypatch):
  folder.mkdir()
  (folder / "cifar-10-binary.tar.gz").write_bytes(b"not found")
  found = config("cifar10", folder, "half")
  return found, r"cifar-10-binary\.tar\.gz has the md5 .*fetch it again"


@pytest.mark.parametrize(
  "spoil",
  [
    image_that_does_not_decode,
    image_bomb,
    sizes_that_differ,
    channels_that_differ,
    labels_of_another_length,
    npz_with_objects,
    class_in_two_parts,
    pairs_that_name_a_missing_image,
    truncated_archive,
    archive_that_leaves_its_folder,
    archive_bomb,
    wrong_checksum,
  ],
)
def test_no_run_is_left(spoil, tmp_path, monkeypatch):
  found, message = spoil(tmp_path / "data", monkeypatch)
  before = sorted(tmp_path.rglob("*"))
  with pytest.raises(InputError, match=message):
    train(found, tmp_path / "run")
  assert sorted(tmp_path.rglob("*")) == before
