"""Every archived set, prepared and unpacked, and all that can go wrong."""

import pickle
import re
import shutil
import types

import numpy as np
import pytest

from metric_learning import data
from metric_learning.data import archives, base, files, imaging, prepared
from metric_learning.errors import InputError
from tests.data import stand_ins

SETS = sorted(stand_ins.STAND_INS)
SPLITS = {"omniglot": "standard", "lfw": "view2"}


@pytest.fixture
def config(data_config):
  def make(name, folder, **changes):
    split = SPLITS.get(name, "official")
    return data_config(name, split, "open-set", data_dir=str(folder), **changes)

  return make


def unpack(source, target):
  for path in source.iterdir():
    if path.suffix in (".zip", ".tgz"):
      kind = "zip" if path.suffix == ".zip" else "gztar"
      extra = {} if kind == "zip" else {"filter": "data"}
      shutil.unpack_archive(path, target, kind, **extra)
    else:
      shutil.copy(path, target)
  return target


def files_below(folder):
  return {
    str(path.relative_to(folder)): path.stat().st_mtime_ns
    for path in folder.rglob("*")
    if path.is_file()
  }


def parts_of(splits):
  found = [splits.train, splits.validation, splits.test, splits.gallery]
  return [part for part in found if part is not None]


@pytest.mark.parametrize("name", SETS)
def test_prepared_and_unpacked_are_the_same(
  name, tmp_path, config, monkeypatch
):
  source = stand_ins.make(name, tmp_path / "archives", monkeypatch)
  target = tmp_path / "prepared"
  place = prepared.prepare(name, str(target), str(source))
  before = files_below(target)
  assert prepared.prepare(name, str(target), "/no/such/folder") == place
  assert files_below(target) == before
  assert not [path for path in before if "incomplete" in path]
  loaded = data.load(config(name, target))
  (tmp_path / "unpacked").mkdir()
  plain = unpack(source, tmp_path / "unpacked")
  other = data.load(config(name, plain))
  for one, two in zip(parts_of(loaded), parts_of(other), strict=True):
    assert one.class_names == two.class_names
    # A tar is in the order of its files, a folder in that of their names.
    order = [np.lexsort([*p.inputs.reshape(len(p.labels), -1).T, p.labels])
             for p in (one, two)]  # fmt: skip
    np.testing.assert_array_equal(one.inputs[order[0]], two.inputs[order[1]])
    np.testing.assert_array_equal(one.labels[order[0]], two.labels[order[1]])


def test_examples_travel_to_other_processes(tmp_path, config, monkeypatch):
  source = stand_ins.make("cub200", tmp_path / "archives", monkeypatch)
  prepared.prepare("cub200", str(tmp_path / "prepared"), str(source))
  unpack(source, tmp_path)
  for folder in (tmp_path, tmp_path / "prepared"):
    for example in prepared.examples(config("cub200", folder), "images")[::9]:
      copy = pickle.loads(pickle.dumps(example))
      assert copy.read_bytes() == stand_ins.encoded(
        int(example.class_name[:3]) - 1
      )


@pytest.mark.parametrize("name", [n for n in SETS if n != "omniglot"])
def test_images_stand_with_their_classes(name, tmp_path, config, monkeypatch):
  source = stand_ins.make(name, tmp_path / "archives", monkeypatch)
  prepared.prepare(name, str(tmp_path), str(source))
  splits = data.load(config(name, tmp_path, image_size=(3, 4)))
  # The gray of an image is eight times the place of its class in the set.
  place = {
    "lfw": lambda name: int(name[-2:]),
    "cub200": lambda name: int(name[:3]) - 1,
    "cars196": lambda name: int(name) - 1,
    "sop": lambda name: int(name.removeprefix("sofa/")) - 1,
    "inshop": lambda name: int(name[-2:]),
  }[name]
  for part in parts_of(splits):
    assert part.inputs.shape[1:] == (3, 4, 3)
    shown = part.inputs.mean(axis=(1, 2, 3)) / 8
    wanted = [place(part.class_names[label]) for label in part.labels]
    np.testing.assert_allclose(shown, wanted, atol=0.4)


COUNTS = {  # classes and images of training with validation, and of test
  "cub200": ((5, 15), (5, 15)),
  "cars196": ((5, 20), (5, 20)),
  "sop": ((5, 10), (4, 8)),
  "inshop": ((5, 15), (4, 4)),
}


@pytest.mark.parametrize("name", COUNTS)
def test_half_of_the_classes_is_tested(name, tmp_path, config, monkeypatch):
  source = stand_ins.make(name, tmp_path / "archives", monkeypatch)
  folder = unpack(source, tmp_path)
  splits = data.load(config(name, folder))
  seen, unseen = COUNTS[name]
  count = lambda part: (len(part.class_names), len(part.inputs))
  assert count(splits.test) == unseen
  assert len(splits.validation.class_names) == 2  # a fifth is one of five
  together = np.add(count(splits.train), count(splits.validation))
  assert tuple(together) == seen
  chosen = {
    data.load(config(name, folder, split_seed=seed)).validation.class_names
    for seed in range(5)
  }
  assert len(chosen) > 1
  if name in ("cub200", "cars196"):  # the first half trains
    names = (*splits.train.class_names, *splits.validation.class_names)
    assert max(names) < min(splits.test.class_names)


@pytest.mark.parametrize("form", ["prepared", "unpacked"])
def test_images_of_a_set_may_stay_on_disk(form, tmp_path, config, monkeypatch):
  source = stand_ins.make("inshop", tmp_path / "archives", monkeypatch)
  if form == "prepared":
    folder = tmp_path / "prepared"
    prepared.prepare("inshop", str(folder), str(source))
  else:
    folder = unpack(source, tmp_path)
  size = {"image_size": (4, 3)}
  whole = data.load(config("inshop", folder, **size))
  lazy = data.load(config("inshop", folder, stream=True, **size))
  assert all(isinstance(x.inputs, data.ImageFiles) for x in parts_of(lazy))
  for ours, theirs in zip(parts_of(lazy), parts_of(whole), strict=True):
    assert ours.class_names == theirs.class_names
    np.testing.assert_array_equal(np.asarray(ours.inputs), theirs.inputs)
  again = data.load(config("inshop", folder, stream=True, **size))
  assert lazy.identity == again.identity


def test_inshop_queries_look_in_the_gallery(tmp_path, config, monkeypatch):
  source = stand_ins.make("inshop", tmp_path / "archives", monkeypatch)
  splits = data.load(config("inshop", unpack(source, tmp_path)))
  assert splits.gallery.class_names == splits.test.class_names
  assert splits.test.labels.tolist() == [0, 1, 2, 3]
  assert splits.gallery.labels.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]


def test_gallery_of_other_classes_is_refused():
  images = np.zeros((2, 1, 1, 1), np.uint8)
  parts = [
    base.Dataset("x", images, np.int32([0, 0]), (name,)) for name in "abcd"
  ]
  with pytest.raises(ValueError, match="gallery differs"):
    base.Splits(*parts[:3], "open-set", parts[3])


# --- What can be wrong ------------------------------------------------------


@pytest.fixture
def birds(tmp_path, monkeypatch):
  return stand_ins.make("cub200", tmp_path / "archives", monkeypatch)


def unpin(monkeypatch, name="cub200"):
  archive = archives.ARCHIVES[name]
  files = tuple(file._replace(sha256="") for file in archive.files)
  changed = archive._replace(files=files)
  monkeypatch.setitem(archives.ARCHIVES, name, changed)


def test_missing_files_are_named_with_their_addresses(tmp_path):
  with pytest.raises(InputError) as error:
    prepared.prepare("cars196", str(tmp_path / "out"), str(tmp_path))
  for file in archives.ARCHIVES["cars196"].files:
    assert f"{file.name}" in str(error.value)
    assert file.address in str(error.value)
  # Given to those who accept its terms: never fetched.
  with pytest.raises(
    InputError, match=r"lacks 2 of the 2 files.*img\.zip.*mml"
  ):
    prepared.prepare("inshop", str(tmp_path / "out"))


def test_set_that_is_not_there_asks_to_be_prepared(tmp_path, config):
  with pytest.raises(InputError, match=r"CUB_200.*prepare --dataset=cub200"):
    data.load(config("cub200", tmp_path))
  with pytest.raises(InputError, match="unknown archived data set 'cub'"):
    prepared.prepare("cub", str(tmp_path))
  with pytest.raises(InputError, match=r"'/no/such/folder' is not a folder"):
    prepared.prepare("cub200", str(tmp_path), "/no/such/folder")


def assert_refused(name, source, target, message):
  """Expects one error, and that nothing of the set is written."""
  with pytest.raises(InputError, match=message):
    prepared.prepare(name, str(target), str(source))
  for left in ("*incomplete*", "*.array_record*", "*.part"):
    assert not list(target.rglob(left))
  assert not prepared.prepared_folder(name, str(target)).exists()


def test_wrong_checksum_is_refused(tmp_path, birds):
  path = birds / "CUB_200_2011.tgz"
  path.write_bytes(path.read_bytes() + b"\0")
  message = r"CUB_200_2011\.tgz has the sha256 .*fetch it again"
  assert_refused("cub200", birds, tmp_path / "out", message)
  assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("share", [0.0, 0.5, 0.95])
@pytest.mark.parametrize(
  ("name", "file"),
  [("cub200", "CUB_200_2011.tgz"), ("sop", "Stanford_Online_Products.zip")],
)
def test_truncated_archive_is_named(share, name, file, tmp_path, monkeypatch):
  source = stand_ins.make(name, tmp_path / "archives", monkeypatch)
  unpin(monkeypatch, name)
  content = (source / file).read_bytes()
  (source / file).write_bytes(content[: int(share * len(content))])
  assert_refused(name, source, tmp_path / "out", rf"{file}.*fetch it again")


def test_flipped_byte_in_a_zip_is_named(tmp_path, monkeypatch):
  source = stand_ins.make("sop", tmp_path / "archives", monkeypatch)
  unpin(monkeypatch, "sop")
  path = source / "Stanford_Online_Products.zip"
  content = bytearray(path.read_bytes())
  content[content.index(b"sofa_final/7_0.JPG") + 200] ^= 1
  path.write_bytes(content)
  message = r"sofa_final/7_0\.JPG.*fetch it again"
  assert_refused("sop", source, tmp_path / "out", message)


@pytest.mark.parametrize("evil", ["CUB_200_2011/images/../../../evil", "/evil"])
def test_path_that_leaves_the_folder_is_refused(
  evil, tmp_path, birds, monkeypatch
):
  unpin(monkeypatch)
  stand_ins.write(birds / "CUB_200_2011.tgz", {evil: b"x"})
  message = r"CUB_200_2011\.tgz holds the path .*evil', which may lead out"
  assert_refused("cub200", birds, tmp_path / "out", message)
  assert not list(tmp_path.rglob("evil"))


def test_bomb_is_refused_without_the_switch(tmp_path, birds, monkeypatch):
  unpin(monkeypatch)
  monkeypatch.setattr(files, "MAX_UNPACKED", 10_000)
  message = r"tgz unpacks to over 10000 bytes.*METRIC_LEARNING_NO_SIZE_LIMIT=1"
  assert_refused("cub200", birds, tmp_path / "out", message)
  monkeypatch.setenv(files.NO_SIZE_LIMIT, "1")
  assert prepared.prepare("cub200", str(tmp_path / "out"), str(birds)).exists()


def test_missing_image_is_counted(tmp_path, birds, config):
  folder = unpack(birds, tmp_path)
  next((folder / "CUB_200_2011").rglob("*.jpg")).unlink()
  with pytest.raises(InputError, match=r"expected 30 images, but found 29"):
    data.load(config("cub200", folder))


def test_damaged_image_is_named(tmp_path, birds, config):
  folder = unpack(birds, tmp_path)
  path = next((folder / "CUB_200_2011").rglob("*.jpg"))
  path.write_bytes(path.read_bytes()[:100])
  with pytest.raises(InputError, match=rf"{path.name}: .*fetch it again"):
    data.load(config("cub200", folder))


def test_full_disk_is_told_in_advance(tmp_path, birds, monkeypatch):
  usage = types.SimpleNamespace(free=10)
  monkeypatch.setattr(files.shutil, "disk_usage", lambda _: usage)
  message = r"out needs 0 MB, but its disk has 0 MB free; make room"
  assert_refused("cub200", birds, tmp_path / "out", message)
  assert not (tmp_path / "out").exists()


def test_images_that_do_not_fit_in_memory(tmp_path, birds, config, monkeypatch):
  folder = unpack(birds, tmp_path)
  monkeypatch.setenv(imaging.MEMORY_LIMIT, "1e-6")  # 1000 bytes
  with pytest.raises(
    InputError, match=r"30 images .* take .*MEMORY_GB=1 in the env"
  ):
    data.load(config("cub200", folder))
  monkeypatch.setenv(imaging.MEMORY_LIMIT, "1e-5")
  assert data.load(config("cub200", folder))


# --- Fetching ---------------------------------------------------------------


@pytest.fixture
def remote(birds, monkeypatch):
  """The birds at an address of the kind file:, which needs no network."""
  archive = archives.ARCHIVES["cub200"]
  file = archive.files[0]
  file = file._replace(address=(birds / file.name).as_uri())
  changed = archive._replace(files=(file,))
  monkeypatch.setitem(archives.ARCHIVES, "cub200", changed)
  return birds / file.name


def test_archive_is_fetched_once(tmp_path, remote, config):
  target = tmp_path / "out"
  (target / "downloads").mkdir(parents=True)
  (target / "downloads" / f"{remote.name}.part").write_bytes(b"half")
  prepared.prepare("cub200", str(target))
  downloads = target / "downloads"
  assert [path.name for path in downloads.glob("*.*")] == [remote.name]
  shutil.rmtree(target / "archives")
  remote.unlink()
  prepared.prepare("cub200", str(target))
  assert len(data.load(config("cub200", target)).test.inputs) == 15


def test_address_that_does_not_answer(tmp_path, remote):
  remote.unlink()
  with pytest.raises(InputError, match=r"cannot fetch CUB.*--manual_dir"):
    prepared.prepare("cub200", str(tmp_path / "out"))
  assert not list((tmp_path / "out" / "downloads").glob("*.*"))


def test_fetched_file_with_another_checksum(tmp_path, remote):
  remote.write_bytes(b"not found")
  with pytest.raises(InputError, match=r"tgz\.part has the sha256"):
    prepared.prepare("cub200", str(tmp_path / "out"))
  assert not list((tmp_path / "out" / "downloads").iterdir())


def test_fetched_file_that_is_cut_short(tmp_path, remote, monkeypatch):
  opened = prepared.urllib.request.urlopen

  def longer(*arguments, **options):
    answer = opened(*arguments, **options)
    del answer.headers["Content-Length"]
    answer.headers["Content-Length"] = str(10**6)
    return answer

  monkeypatch.setattr(prepared.urllib.request, "urlopen", longer)
  with pytest.raises(InputError, match="of 1000000 bytes arrived"):
    prepared.prepare("cub200", str(tmp_path / "out"))
  assert not list((tmp_path / "out" / "downloads").iterdir())


def test_addresses_and_checksums_look_like_it():
  for archive in archives.ARCHIVES.values():
    for file in (*archive.files, *archive.beside):
      assert file.address.startswith(("https://", "http://", "ftp://"))
      assert re.fullmatch("[0-9a-f]{64}|", file.sha256)
      assert file.by_hand or file.sha256  # nothing unchecked is fetched
