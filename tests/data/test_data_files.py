import gzip
import hashlib
import io
import stat
import struct
import tarfile
import warnings
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from metric_learning.data import files, imaging
from metric_learning.errors import InputError

GRAY = np.random.default_rng(0).integers(0, 256, (5, 4), np.uint8)
COLOR = np.random.default_rng(1).integers(0, 256, (5, 4, 3), np.uint8)


def idx_bytes(array):
  header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
  return header + array.tobytes()


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
@pytest.mark.parametrize("shape", [(7,), (3, 4, 5)])
def test_idx_is_read_plain_and_gzipped(tmp_path, pack, shape):
  array = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
  path = tmp_path / "images"
  path.write_bytes(pack(idx_bytes(array)))
  np.testing.assert_array_equal(files.read_idx(path), array)


GOOD = idx_bytes(np.arange(60, dtype=np.uint8).reshape(3, 4, 5))
ZIPPED = gzip.compress(GOOD)


DAMAGED = {
  "empty": b"",
  "no axes": GOOD[:3],
  "half a header": GOOD[:9],
  "short": GOOD[:-1],
  "long": GOOD + b"0",
  "32-bit floats": b"\0\0\x0d" + GOOD[3:],
  "a web page": b"<html>not found</html>",
  "short gzip": ZIPPED[:-9],
  "gzip header": ZIPPED[:5],
  "gzip checksum": ZIPPED[:-8] + bytes(8),
  "gzip content": ZIPPED[:20] + b"!!!" + ZIPPED[23:],
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_damaged_idx_is_named(tmp_path, damage):
  path = tmp_path / "train-images"
  path.write_bytes(DAMAGED[damage])
  with pytest.raises(InputError, match=r"train-images.*fetch it again"):
    files.read_idx(path)


def saved(path, array, mode=None):
  Image.fromarray(array).convert(mode).save(path)
  return path


@pytest.mark.parametrize("name", ["a.png", "a.pgm"])
def test_gray_images_have_one_channel(tmp_path, name):
  path = saved(tmp_path / name, GRAY, "L")
  np.testing.assert_array_equal(imaging.read_images([path])[0, ..., 0], GRAY)


def test_black_and_white_image_is_gray(tmp_path):
  ink = GRAY > 127
  path = saved(tmp_path / "a.png", ink, "1")
  np.testing.assert_array_equal(
    imaging.read_images([path])[0, ..., 0], 255 * ink.astype(np.uint8)
  )


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
def test_color_images_have_three_channels(tmp_path, mode):
  flat = np.tile(np.uint8([255, 0, 51]), (5, 4, 1))
  array = flat if mode == "P" else COLOR  # a palette rounds other colors
  path = saved(tmp_path / "a.png", array, mode)
  np.testing.assert_array_equal(imaging.read_images([path])[0], array)


def test_jpeg_is_read(tmp_path):
  flat = np.full((8, 8, 3), 100, np.uint8)
  path = saved(tmp_path / "a.jpg", flat, "RGB")
  np.testing.assert_allclose(imaging.read_images([path])[0], flat, atol=2)


def test_gray_among_color_needs_a_resize_and_is_repeated(tmp_path):
  paths = [
    saved(tmp_path / "gray.png", GRAY, "L"),
    saved(tmp_path / "color.png", COLOR, "RGB"),
  ]
  message = r"gray\.png is 5×4 gray, .*color\.png is 5×4 color; set image_size"
  with pytest.raises(InputError, match=message):
    imaging.read_images(paths)
  gray, color = imaging.read_images(paths, (5, 4))
  np.testing.assert_array_equal(gray, np.stack([GRAY] * 3, axis=-1))
  np.testing.assert_array_equal(color, COLOR)


def test_sixteen_bits_are_refused(tmp_path):
  path = tmp_path / "deep.png"
  Image.fromarray(GRAY.astype(np.uint16) * 256).save(path)
  with pytest.raises(InputError, match=r"deep\.png has more than 8 bits"):
    imaging.read_images([path])


def test_sizes_that_differ_ask_for_image_size(tmp_path):
  paths = [
    saved(tmp_path / "a.png", GRAY, "L"),
    saved(tmp_path / "b.png", GRAY.T, "L"),
  ]
  message = r"a\.png is 5×4 gray, .*b\.png is 4×5 gray; set image_size"
  with pytest.raises(InputError, match=message):
    imaging.read_images(paths)
  assert imaging.read_images(paths, (3, 2)).shape == (2, 3, 2, 1)


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.pgm"])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9])
def test_truncated_image_is_named(tmp_path, name, share):
  array = np.random.default_rng(0).integers(0, 256, (40, 40), np.uint8)
  path = saved(tmp_path / name, array, "L")
  content = path.read_bytes()
  path.write_bytes(content[: int(share * len(content))])
  with pytest.raises(InputError, match=rf"{name}: .*replace the file"):
    imaging.read_images([path])


@settings(deadline=None, max_examples=60)
@given(
  old=st.tuples(st.integers(1, 9), st.integers(1, 9)),
  new=st.tuples(st.integers(1, 9), st.integers(1, 9)),
)
def test_resize_is_the_mean_of_the_covered_area(old, new):
  image = np.random.default_rng(0).integers(0, 256, (*old, 2), np.uint8)
  # Every old pixel becomes new×new small ones, each new pixel old×old of them.
  small = image.astype(float).repeat(new[0], axis=0).repeat(new[1], axis=1)
  mean = small.reshape(new[0], old[0], new[1], old[1], 2).mean(axis=(1, 3))
  resized = imaging.resize(image[None], new)[0]
  assert resized.dtype == np.uint8
  np.testing.assert_allclose(resized, mean, atol=0.5 + 1e-4)


# --- Archives ---------------------------------------------------------------

CONTENT = {"a/1.txt": b"one", "a/2.txt": b"two" * 20}


def zipped(path, content=CONTENT, link=None):
  with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
    for name, data in content.items():
      archive.writestr(name, data)
    if link:
      member = zipfile.ZipInfo("a/link")
      member.external_attr = (stat.S_IFLNK | 0o777) << 16
      archive.writestr(member, link)
  return path


def tarred(path, content=CONTENT, link=None, kind=tarfile.SYMTYPE):
  with tarfile.open(path, "w:gz") as archive:
    for name, data in content.items():
      member = tarfile.TarInfo(name)
      member.size = len(data)
      archive.addfile(member, io.BytesIO(data))
    if link:
      member = tarfile.TarInfo("a/link")
      member.type, member.linkname = kind, link
      archive.addfile(member)
  return path


def read_zip(path):
  root = files.open_zip(path)
  return {
    f"a/{place.name}": place.read_bytes() for place in (root / "a").iterdir()
  }


def read_tar(path):
  return dict(files.read_tar(path))


BOTH = pytest.mark.parametrize(
  ("pack", "read"), [(zipped, read_zip), (tarred, read_tar)]
)


@BOTH
def test_archive_is_read(tmp_path, pack, read):
  assert read(pack(tmp_path / "archive")) == CONTENT


@BOTH
@pytest.mark.parametrize("share", [0.0, 0.3, 0.8])
def test_truncated_archive_is_named(tmp_path, pack, read, share):
  rng = np.random.default_rng(0)
  path = pack(tmp_path / "archive", {"a/1": rng.bytes(900), "a/2": b"two"})
  content = path.read_bytes()
  path.write_bytes(content[: int(share * len(content))])
  message = "cannot read the archive .*archive: .*fetch it again"
  with pytest.raises(InputError, match=message):
    read(path)


@BOTH
@pytest.mark.parametrize(
  "name", ["../b.txt", "a/../../b.txt", "/b.txt", "C:/b.txt", "..\\b.txt"]
)
def test_member_that_leaves_the_folder_is_refused(tmp_path, pack, read, name):
  path = pack(tmp_path / "archive", CONTENT | {name: b"x"})
  message = "the archive .*archive holds the path .*b.txt', which may lead out"
  with pytest.raises(InputError, match=message):
    read(path)


@BOTH
def test_link_is_refused(tmp_path, pack, read):
  path = pack(tmp_path / "archive", link="/etc/passwd")
  with pytest.raises(InputError, match="holds the link 'a/link'"):
    read(path)


def test_hard_link_is_refused(tmp_path):
  path = tarred(tmp_path / "archive", link="/etc/passwd", kind=tarfile.LNKTYPE)
  with pytest.raises(InputError, match="holds the link 'a/link'"):
    read_tar(path)


@BOTH
def test_archive_over_the_limit_is_refused(tmp_path, pack, read, monkeypatch):
  bomb = {f"a/{i}": bytes(10_000) for i in range(11)}
  path = pack(tmp_path / "archive", bomb)
  assert path.stat().st_size < 5_000
  monkeypatch.setattr(files, "MAX_UNPACKED", 100_000)
  message = r"archive unpacks to over 100000 bytes.*set METRIC_LEARNING_NO_SIZE"
  with pytest.raises(InputError, match=message):
    read(path)
  monkeypatch.setenv(files.NO_SIZE_LIMIT, "1")
  assert read(path) == bomb


def test_idx_over_the_limit_is_refused(tmp_path, monkeypatch):
  path = tmp_path / "images"
  path.write_bytes(gzip.compress(idx_bytes(np.zeros((9, 100), np.uint8))))
  monkeypatch.setattr(files, "MAX_UNPACKED", 899)
  with pytest.raises(InputError, match="images unpacks to over 899 bytes"):
    files.read_idx(path)
  monkeypatch.setattr(files, "MAX_UNPACKED", 900)
  assert files.read_idx(path).shape == (9, 100)


def test_idx_is_not_unpacked_beyond_what_its_header_promises(
  tmp_path, monkeypatch
):
  path = tmp_path / "images"
  path.write_bytes(gzip.compress(GOOD + bytes(10_000_000)))
  taken = []
  read = gzip.GzipFile.read
  monkeypatch.setattr(
    gzip.GzipFile,
    "read",
    lambda file, size: taken.append(size) or read(file, size),
  )
  with pytest.raises(InputError, match=r"more bytes of data, but .* 60"):
    files.read_idx(path)
  assert max(taken) == 61


@pytest.mark.parametrize("pixels", [30, 15])  # Pillow warns, and raises itself
def test_image_over_the_limit_is_refused(tmp_path, monkeypatch, pixels):
  path = saved(tmp_path / "a.png", np.zeros((8, 5), np.uint8), "L")
  monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", pixels)
  message = rf"a\.png has over {pixels} pixels.*METRIC_LEARNING_NO_SIZE_LIMIT=1"
  with pytest.raises(InputError, match=message):
    imaging.read_images([path])
  with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # a caller's filter changes nothing
    with pytest.raises(InputError, match=message):
      imaging.read_images([path])
  monkeypatch.setenv(files.NO_SIZE_LIMIT, "1")
  assert imaging.read_images([path]).shape == (1, 8, 5, 1)


def test_format_that_runs_a_program_is_not_read(tmp_path):
  path = tmp_path / "a.png"
  Image.new("L", (3, 3)).save(path, "EPS")
  with pytest.raises(
    InputError, match=r"a\.png: it is empty, no image, or its format"
  ):
    imaging.read_images([path])


@pytest.mark.parametrize("algorithm", ["md5", "sha256"])
def test_wrong_checksum_is_named(tmp_path, algorithm):
  path = tmp_path / "archive"
  path.write_bytes(b"content")
  digest = hashlib.new(algorithm, b"content").hexdigest()
  files.check_digest(path, digest)
  path.write_bytes(b"Content")
  message = f"archive has the {algorithm} .*, not {digest}, .*fetch it again"
  with pytest.raises(InputError, match=message):
    files.check_digest(path, digest)


def test_too_little_disk_says_how_much_and_where(tmp_path, monkeypatch):
  folder = tmp_path / "not" / "yet"
  asked = []

  def disk_usage(place):
    asked.append(place)
    return type("Usage", (), {"free": 3_000_000})

  monkeypatch.setattr(files.shutil, "disk_usage", disk_usage)
  files.check_space(folder, 3_000_000)
  assert asked == [tmp_path]  # which is there
  message = "not/yet needs 4 MB, but its disk has 3 MB free; make room"
  with pytest.raises(InputError, match=message):
    files.check_space(folder, 4_000_000)
