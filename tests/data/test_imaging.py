"""Images as in a viewer: rotated, on a background, complete or refused."""

import io

import numpy as np
import pytest
from PIL import Image

from metric_learning.data import imaging, stream
from metric_learning.errors import InputError

# Blocks of 8 × 8 pixels, which JPEG keeps: an F that no turn maps to itself.
LETTER = np.uint8([[1, 1, 1], [1, 0, 0], [1, 1, 0], [1, 0, 0]])
LETTER = (LETTER * 200).repeat(8, axis=0).repeat(8, axis=1)

# What a camera stores for each orientation, so that LETTER is what it saw.
# From the table of the EXIF standard: where the 0th row and 0th column are.
STORED = {
  1: LETTER,  # top, left
  2: LETTER[:, ::-1],  # top, right
  3: LETTER[::-1, ::-1],  # bottom, right
  4: LETTER[::-1],  # bottom, left
  5: LETTER.T,  # left, top
  6: LETTER[:, ::-1].T,  # right, top: column 0 of what is stored is its top
  7: LETTER[::-1, ::-1].T,  # right, bottom
  8: LETTER[::-1].T,  # left, bottom
}


def read_both_ways(path, size=(), background=255):
  """Reads an image at once, and from its file on disk; both must agree."""
  whole = imaging.read_images([path], size, background)
  lazy = stream.image_files([path], size, background)
  assert lazy.shape == whole.shape
  np.testing.assert_array_equal(np.asarray(lazy), whole)
  return whole[0]


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp"])
@pytest.mark.parametrize("orientation", STORED)
def test_images_stand_as_viewers_show_them(tmp_path, suffix, orientation):
  exif = Image.Exif()
  exif[0x0112] = orientation
  path = tmp_path / f"a.{suffix}"
  lossless = {"lossless": True} if suffix == "webp" else {}
  stored = Image.fromarray(np.ascontiguousarray(STORED[orientation]))
  stored.convert("RGB").save(path, exif=exif, **lossless)
  found = read_both_ways(path)
  assert found.shape == (32, 24, 3)
  np.testing.assert_allclose(found[..., 1], LETTER, atol=3)
  small = read_both_ways(path, (4, 3))
  np.testing.assert_allclose(small[..., 1], LETTER[::8, ::8], atol=3)


@pytest.mark.parametrize("value", [0, 9, 300])
def test_an_orientation_that_is_none_turns_nothing(tmp_path, value):
  exif = Image.Exif()
  exif[0x0112] = value
  Image.fromarray(LETTER).save(tmp_path / "a.png", exif=exif)
  found = read_both_ways(tmp_path / "a.png")
  np.testing.assert_array_equal(found[..., 0], LETTER)


def test_a_damaged_exif_block_turns_nothing(tmp_path):
  Image.fromarray(LETTER).save(tmp_path / "a.png", exif=b"Exif\0\0nonsense")
  found = read_both_ways(tmp_path / "a.png")
  np.testing.assert_array_equal(found[..., 0], LETTER)


# --- Transparency -----------------------------------------------------------

RED, HIDDEN = (200, 40, 0), (9, 99, 199)


def rgba(path):
  """Opaque red, a hidden color that is transparent, and half of each."""
  pixels = np.uint8([[(*RED, 255), (*HIDDEN, 0), (*RED, 51)]])
  Image.fromarray(pixels, "RGBA").save(path)


@pytest.mark.parametrize("background", [255, 0, 100])
@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_transparency_shows_the_background(tmp_path, suffix, background):
  path = tmp_path / f"a.{suffix}"
  rgba(path)
  found = read_both_ways(path, (), background)
  np.testing.assert_array_equal(found[0, 0], RED)
  np.testing.assert_array_equal(found[0, 1], [background] * 3)
  mixed = [0.2 * color + 0.8 * background for color in RED]  # 51 / 255
  np.testing.assert_allclose(found[0, 2], mixed, atol=1)


def test_gray_transparency_stays_gray(tmp_path):
  path = tmp_path / "a.png"
  Image.fromarray(np.uint8([[(50, 255), (90, 0)]]), "LA").save(path)
  assert read_both_ways(path, (), 7).tolist() == [[[50], [7]]]


def test_a_transparent_color_shows_the_background(tmp_path):
  """PNG (palette, gray, RGB) and GIF can declare one color transparent."""
  gray = Image.fromarray(np.uint8([[50, 90]]))
  gray.save(tmp_path / "gray.png", transparency=90)
  color = Image.fromarray(np.uint8([[RED, HIDDEN]]))
  color.save(tmp_path / "color.png", transparency=HIDDEN)
  palette = Image.fromarray(np.uint8([[0, 1]]), "P")
  palette.putpalette([*RED, *HIDDEN])
  palette.save(tmp_path / "palette.png", transparency=1)
  palette.save(tmp_path / "palette.gif", transparency=1)
  assert read_both_ways(tmp_path / "gray.png").tolist() == [[[50], [255]]]
  for name in ("color.png", "palette.png", "palette.gif"):
    found = read_both_ways(tmp_path / name)
    assert found.tolist() == [[[*RED], [255] * 3]], name


def test_a_background_is_a_gray_level(tmp_path):
  rgba(tmp_path / "a.png")
  for read in (imaging.read_images, stream.image_files):
    with pytest.raises(InputError, match="background=256 must be a gray level"):
      read([tmp_path / "a.png"], (), 256)


# --- Formats ----------------------------------------------------------------


@pytest.mark.parametrize(
  "name", ["a.bmp", "a.gif", "a.tiff", "a.webp", "a.ppm", "a.JPG", "a.jfif"]
)
def test_formats_that_people_have_are_read(tmp_path, name):
  lossless = {"lossless": True} if name == "a.webp" else {}
  Image.fromarray(LETTER).convert("RGB").save(tmp_path / name, **lossless)
  found = read_both_ways(tmp_path / name)
  np.testing.assert_allclose(found[..., 0], LETTER, atol=3)


def test_an_animation_gives_its_first_frame(tmp_path):
  first, second = (Image.new("L", (3, 2), gray) for gray in (10, 250))
  for name in ("a.gif", "a.tif", "a.png"):
    first.save(tmp_path / name, save_all=True, append_images=[second])
    assert (read_both_ways(tmp_path / name) == 10).all()


def png_16_bits(colors):
  """A PNG of one pixel with 16 bits per channel, which Pillow cannot write."""
  import struct
  import zlib

  def chunk(kind, content):
    crc = struct.pack(">I", zlib.crc32(kind + content))
    return struct.pack(">I", len(content)) + kind + content + crc

  kind = {1: 0, 2: 4, 3: 2, 4: 6}[colors]
  head = struct.pack(">IIBBBBB", 1, 1, 16, kind, 0, 0, 0)
  pixels = zlib.compress(b"\0" + bytes(range(1, 1 + 2 * colors)))
  body = chunk(b"IHDR", head) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
  return b"\x89PNG\r\n\x1a\n" + body


@pytest.mark.parametrize("colors", [1, 2, 3, 4])
def test_more_than_8_bits_are_not_cut_in_silence(tmp_path, colors):
  path = tmp_path / "deep.png"
  path.write_bytes(png_16_bits(colors))
  for read in (imaging.read_images, stream.image_files):
    with pytest.raises(InputError, match=r"deep\.png has more than 8 bits"):
      read([path])


@pytest.mark.parametrize("kind", ["P5", "P6"])
def test_a_deep_ppm_is_refused(tmp_path, kind):
  path = tmp_path / "deep.ppm"
  path.write_bytes(f"{kind} 1 1 1023 ".encode() + bytes(6))
  with pytest.raises(InputError, match=r"deep\.ppm has more than 8 bits"):
    imaging.read_images([path])


# --- What cannot be used ----------------------------------------------------


@pytest.mark.parametrize("read", [imaging.read_images, stream.image_files])
def test_one_message_lists_all_bad_files(tmp_path, read):
  paths = [tmp_path / f"{i:02}.png" for i in range(20)]
  for i, path in enumerate(paths):
    Image.new("L", (3, 3)).save(path)
    if i % 3 == 0:
      path.write_bytes(b"<html>")
  with pytest.raises(InputError, match="7 of 20 images cannot be used") as one:
    read(paths)
  text = str(one.value)
  assert [f"{i:02}.png" in text for i in range(20)] == [
    i % 3 == 0 for i in range(20)
  ]
  for path in paths:
    path.write_bytes(b"")
  with pytest.raises(InputError, match=r"(?s)09\.png.*and 10 more$") as one:
    read(paths)
  assert "10.png" not in str(one.value)


def test_advice_is_for_who_has_the_file(tmp_path):
  """A photograph has no source with a checksum; an archive does."""
  path = tmp_path / "a.png"
  path.write_bytes(b"<html>")
  message = r"a\.png: it is empty, no image.* WEBP; replace the file, or remo"
  with pytest.raises(InputError, match=message) as error:
    imaging.read_images([path])
  assert "BytesIO" not in str(error.value)

  class Member:
    read_bytes = staticmethod(io.BytesIO(b"<html>").read)

    def __str__(self):
      return "a.png of b.zip"

  with pytest.raises(InputError, match=r"a\.png of b\.zip.*fetch it again"):
    imaging.read_images([Member()])


def test_images_that_fill_the_memory_are_refused_after_the_first(
  tmp_path, monkeypatch
):
  """40 PNGs of 9400 × 9400 pixels, 3.5 GB: the first one gives the size."""
  paths = [tmp_path / f"{i}.png" for i in range(40)]
  for path in paths[:2]:
    Image.new("L", (30, 20)).save(path)
  message = r"40 images of 20×30 gray take .* GB of memory.*image_size.*stream"
  for machine in (2 * 40 * 600 - 2, 2 * 40 * 600):
    monkeypatch.setattr(imaging, "_memory", lambda size=machine: float(size))
    expected = message if machine < 2 * 40 * 600 else "38 of 40 images cannot"
    with pytest.raises(InputError, match=expected):
      imaging.read_images(paths)
  monkeypatch.setenv(imaging.MEMORY_LIMIT, "1e-6")
  assert imaging.read_images(paths[:1]).shape == (1, 20, 30, 1)
  with pytest.raises(InputError, match="more than the limit of 1e-06 GB"):
    imaging.read_images(paths[:2])
