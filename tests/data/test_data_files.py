import gzip
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from metric_learning.data import files
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
  np.testing.assert_array_equal(files.read_images([path])[0, ..., 0], GRAY)


def test_black_and_white_image_is_gray(tmp_path):
  ink = GRAY > 127
  path = saved(tmp_path / "a.png", ink, "1")
  np.testing.assert_array_equal(
    files.read_images([path])[0, ..., 0], 255 * ink.astype(np.uint8)
  )


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
def test_color_images_have_three_channels(tmp_path, mode):
  flat = np.tile(np.uint8([255, 0, 51]), (5, 4, 1))
  array = flat if mode == "P" else COLOR  # a palette rounds other colours
  path = saved(tmp_path / "a.png", array, mode)
  np.testing.assert_array_equal(files.read_images([path])[0], array)


def test_jpeg_is_read(tmp_path):
  flat = np.full((8, 8, 3), 100, np.uint8)
  path = saved(tmp_path / "a.jpg", flat, "RGB")
  np.testing.assert_allclose(files.read_images([path])[0], flat, atol=2)


def test_gray_among_color_is_repeated(tmp_path):
  paths = [
    saved(tmp_path / "gray.png", GRAY, "L"),
    saved(tmp_path / "color.png", COLOR, "RGB"),
  ]
  gray, color = files.read_images(paths)
  np.testing.assert_array_equal(gray, np.stack([GRAY] * 3, axis=-1))
  np.testing.assert_array_equal(color, COLOR)


def test_sixteen_bits_are_refused(tmp_path):
  path = tmp_path / "deep.png"
  Image.fromarray(GRAY.astype(np.uint16) * 256).save(path)
  with pytest.raises(InputError, match=r"deep\.png has more than 8 bits"):
    files.read_images([path])


def test_sizes_that_differ_ask_for_image_size(tmp_path):
  paths = [
    saved(tmp_path / "a.png", GRAY, "L"),
    saved(tmp_path / "b.png", GRAY.T, "L"),
  ]
  message = r"a\.png is 5×4, .*b\.png is 4×5; set image_size"
  with pytest.raises(InputError, match=message):
    files.read_images(paths)
  assert files.read_images(paths, (3, 2)).shape == (2, 3, 2, 1)


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.pgm"])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9])
def test_truncated_image_is_named(tmp_path, name, share):
  array = np.random.default_rng(0).integers(0, 256, (40, 40), np.uint8)
  path = saved(tmp_path / name, array, "L")
  content = path.read_bytes()
  path.write_bytes(content[: int(share * len(content))])
  with pytest.raises(InputError, match=rf"{name}: .*fetch it again"):
    files.read_images([path])


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
  resized = files.resize(image[None], new)[0]
  assert resized.dtype == np.uint8
  np.testing.assert_allclose(resized, mean, atol=0.5 + 1e-4)
