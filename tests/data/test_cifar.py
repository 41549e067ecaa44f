import hashlib
import io
import tarfile

import numpy as np
import pytest

from metric_learning import data
from metric_learning.data.sets import cifar
from metric_learning.errors import InputError

CLASSES = {"cifar10": 10, "cifar100": 100}


def records(name, images, first):
  """The bytes of `images` images per class: red is the class, blue the number.

  The first pixel of the second row is green. Coarse labels are label // 5.
  """
  made = []
  for number in range(first, first + images):
    for label in range(CLASSES[name]):
      pixels = np.zeros((32, 32, 3), np.uint8)
      pixels[...] = label, 0, number
      pixels[1, 0, 1] = 200
      planes = [pixels[..., channel].tobytes() for channel in range(3)]
      labels = [label] if name == "cifar10" else [label // 5, label]
      made.append(bytes(labels) + b"".join(planes))
  return made


def names(letter, count):
  return "\n".join(f"{letter}{i}" for i in range(count)) + "\n\n"


def write(folder, name):
  """The official files, with ten training and two test images per class."""
  layout = cifar.LAYOUTS[name]
  folder /= layout.folder
  folder.mkdir(parents=True)
  training = records(name, 10, 0)
  share = len(training) // len(layout.train)
  for i, file in enumerate(layout.train):
    content = training[i * share : (i + 1) * share]
    (folder / file).write_bytes(b"".join(content))
  (folder / layout.test[0]).write_bytes(b"".join(records(name, 2, 100)))
  (folder / layout.names[-1]).write_text(names("fine", CLASSES[name]))
  if name == "cifar100":
    (folder / layout.names[0]).write_text(names("coarse", 20))
  (folder / "readme.html").write_text("<html></html>")
  return folder


def pack(folder, path, monkeypatch, name):
  """The folder as an archive with the checksum of the official one."""
  with tarfile.open(path, "w:gz") as archive:
    archive.add(folder, folder.name)
  digest = hashlib.md5(path.read_bytes()).hexdigest()
  layout = cifar.LAYOUTS[name]._replace(md5=digest)
  monkeypatch.setitem(cifar.LAYOUTS, name, layout)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
  """A folder with both sets, unpacked."""
  root = tmp_path_factory.mktemp("cifar")
  for name in CLASSES:
    write(root, name)
  return root


@pytest.fixture
def config(data_config, root):
  def make(name, split="closed", protocol="closed-set", **changes):
    changes = {"data_dir": str(root)} | changes
    return data_config(name, split, protocol, **changes)

  return make


def shown(part):
  """(class, number) of each image, read from its pixels."""
  assert part.inputs.shape[1:] == (32, 32, 3)
  assert (part.inputs[:, 1, 0, 1] == 200).all()
  assert part.inputs[..., 1].sum() == 200 * len(part.inputs)
  kinds, numbers = part.inputs[:, 0, 0, 0], part.inputs[:, 0, 0, 2]
  fine = [f"fine{kind}" for kind in kinds]
  assert fine == [part.class_names[label] for label in part.labels]
  return set(zip(kinds.tolist(), numbers.tolist(), strict=True))


@pytest.mark.parametrize("name", CLASSES)
def test_closed_split_keeps_the_official_parts(config, name):
  splits = data.load(config(name))
  train, validation = shown(splits.train), shown(splits.validation)
  assert train | validation == {
    (c, i) for c in range(CLASSES[name]) for i in range(10)
  }
  assert not train & validation
  assert np.bincount(splits.validation.labels).tolist() == [2] * CLASSES[name]
  assert shown(splits.test) == {
    (c, i) for c in range(CLASSES[name]) for i in (100, 101)
  }


@pytest.mark.parametrize(
  ("name", "sizes"), [("cifar10", (3, 2, 5)), ("cifar100", (40, 10, 50))]
)
def test_half_split_tests_the_second_half_of_the_classes(config, name, sizes):
  splits = data.load(config(name, "half", "open-set"))
  parts = (splits.train, splits.validation, splits.test)
  assert tuple(len(part.class_names) for part in parts) == sizes
  half = CLASSES[name] // 2
  train, validation, test = map(shown, parts)
  assert train | validation == {(c, i) for c in range(half) for i in range(10)}
  assert test == {(half + c, i) for c in range(half) for i in (100, 101)}


def test_coarse_labels_are_super_classes(config):
  for part in ("train", "validation", "test"):
    dataset = getattr(data.load(config("cifar100", "half", "open-set")), part)
    fine = [int(name.removeprefix("fine")) for name in dataset.class_names]
    assert dataset.superclasses == tuple(f"coarse{i // 5}" for i in fine)
  assert data.load(config("cifar10")).train.superclasses is None


@pytest.mark.parametrize("inside", [True, False])
def test_archive_reads_as_its_folder(
  config, root, tmp_path, monkeypatch, inside
):
  path = tmp_path / "cifar-10-binary.tar.gz"
  pack(root / "cifar-10-batches-bin", path, monkeypatch, "cifar10")
  packed = data.load(
    config("cifar10", data_dir=str(tmp_path if inside else path))
  )
  plain = data.load(config("cifar10"))
  np.testing.assert_array_equal(packed.test.inputs, plain.test.inputs)
  np.testing.assert_array_equal(packed.train.labels, plain.train.labels)


def test_wrong_checksum_is_named(config, root, tmp_path):
  with tarfile.open(tmp_path / "cifar-10-binary.tar.gz", "w:gz") as archive:
    archive.add(root / "cifar-10-batches-bin", "cifar-10-batches-bin")
  message = r"tar\.gz has the md5 .*, not c32a1d4.*fetch it again"
  with pytest.raises(InputError, match=message):
    data.load(config("cifar10", data_dir=str(tmp_path)))


def test_python_version_is_not_taken(config, tmp_path, monkeypatch):
  path = tmp_path / "cifar-10-python.tar.gz"
  with tarfile.open(path, "w:gz") as archive:
    member = tarfile.TarInfo("cifar-10-batches-py/test_batch")
    archive.addfile(member, io.BytesIO())
  digest = hashlib.md5(path.read_bytes()).hexdigest()
  layout = cifar.LAYOUTS["cifar10"]._replace(md5=digest)
  monkeypatch.setitem(cifar.LAYOUTS, "cifar10", layout)
  message = r"lacks batches\.meta\.txt, data_batch_1\.bin.* binary version"
  with pytest.raises(InputError, match=message):
    data.load(config("cifar10", data_dir=str(path)))


@pytest.mark.parametrize(
  ("file", "change", "message"),
  [
    (
      "test_batch.bin",
      lambda c: c[:-1],
      "61459 bytes, no multiple of the 3073",
    ),
    ("test_batch.bin", lambda c: b"\x0a" + c[1:], "label is 10, .* 10 names"),
    ("batches.meta.txt", lambda c: b"\xff" + c, "the class names in"),
    ("data_batch_3.bin", None, r"lacks data_batch_3\.bin"),
  ],
)
def test_damaged_file_is_named(config, tmp_path, file, change, message):
  path = write(tmp_path, "cifar10") / file
  if change:
    path.write_bytes(change(path.read_bytes()))
  else:
    path.unlink()
  with pytest.raises(InputError, match=message):
    data.load(config("cifar10", data_dir=str(tmp_path)))
