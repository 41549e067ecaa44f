"""Cuts of images, as in torchvision; random cuts in a stream."""

import numpy as np
import pytest
from PIL import Image

from metric_learning import data
from metric_learning.data import crops, feeds, imaging, stream
from metric_learning.data.samplers import Draw
from metric_learning.errors import InputError
from metric_learning.training import train
from tests.tiny import tiny_config

RNG = np.random.default_rng(0)


@pytest.fixture
def paths(tmp_path):
  """Six color images of three shapes."""
  found = []
  for i, shape in enumerate([(30, 20), (20, 30), (24, 24)] * 2):
    found.append(tmp_path / f"{i}.png")
    pixels = RNG.integers(0, 256, (*shape, 3), np.uint8)
    Image.fromarray(pixels).save(found[-1])
  return found


def test_the_middle_of_an_image_whose_short_side_is_given(paths):
  found = imaging.read_images(paths, (8, 6), 255, 10)
  image = Image.open(paths[0]).resize((10, 15), Image.Resampling.BILINEAR)
  # (15 - 8) / 2 = 3.5, which Python rounds to 4, and (10 - 6) / 2 = 2.
  expected = np.asarray(image)[4:12, 2:8]
  np.testing.assert_array_equal(found[0], expected)
  lazy = stream.image_files(paths, (8, 6), 255, 10)
  assert lazy.shape == (6, 8, 6, 3)
  np.testing.assert_array_equal(np.asarray(lazy), found)
  np.testing.assert_array_equal(lazy[3], found[3])


def test_torchvision_cuts_the_same_middle(paths):
  transforms = pytest.importorskip("torchvision").transforms
  theirs = transforms.Compose(
    [transforms.Resize(17), transforms.CenterCrop((16, 13))]
  )
  found = imaging.read_images(paths, (16, 13), 255, 17)
  for path, ours in zip(paths, found, strict=True):
    np.testing.assert_array_equal(ours, np.asarray(theirs(Image.open(path))))


def test_random_parts_have_the_areas_and_shapes_that_are_asked_for():
  random = np.random.default_rng(1)
  boxes = np.array(
    [crops.random_box(400, 300, crops.Draw(0.84, random)) for _ in range(3000)]
  )
  left, top, right, bottom = boxes.T
  assert left.min() >= 0
  assert top.min() >= 0
  assert right.max() <= 400
  assert bottom.max() <= 300
  areas = (right - left) * (bottom - top) / 120_000
  assert 0.155 < areas.min() < 0.18
  assert 0.9 < areas.max() <= 1
  shapes = (right - left) / (bottom - top)
  assert 0.74 < shapes.min() < 0.78
  assert 1.28 < shapes.max() < 1.35
  # Small parts lie anywhere.
  small = areas < 0.25
  assert 0.4 < np.mean((left + right)[small] / 800) < 0.6
  # A long image has no part of its whole area: its middle, of 4 to 3.
  box = crops.random_box(900, 30, crops.Draw(0.0, random))
  assert box == (430, 0, 470, 30)


def files_of(paths, **more):
  images = stream.image_files(paths, (8, 6), 255, **more)
  labels = np.arange(6, dtype=np.int32)
  return data.Dataset("six", images, labels, tuple("abcdef"))


def batches_of(part, steps, **more):
  draws = lambda step: Draw(np.int32([step % 3, 3, 3]))
  pytest.importorskip("grain")
  return [
    np.asarray(b.inputs)
    for b in feeds.streamed(part, draws, steps, cut=0.7, seed=4, **more).own
  ]


def test_random_parts_are_a_function_of_seed_step_view_and_place(paths):
  part = files_of(paths, short_side=9)
  whole = batches_of(part, range(4))
  np.testing.assert_array_equal(whole[2:], batches_of(part, range(2, 4)))
  first, second = whole[0], whole[3]
  assert first.shape == (3, 8, 6, 3)
  assert not np.array_equal(first[0], second[0])  # one file in two steps
  assert not np.array_equal(first[1], first[2])  # and in two places
  views = batches_of(part, range(1), views=2)[0]
  np.testing.assert_array_equal(views[:3], first)
  assert not np.array_equal(views[3:], first)


def test_what_cannot_be_cut_is_refused(paths, tmp_path):
  with pytest.raises(InputError, match=r"short_side=7 is less .*\(8, 6\)"):
    stream.image_files(paths, (8, 6), short_side=7)
  with pytest.raises(
    InputError, match=r"short_side=7 cuts .*set image_size too"
  ):
    imaging.read_images(paths, (), 255, 7)
  array = data.Dataset(
    "here",
    np.zeros((6, 8, 6, 3), np.uint8),
    np.arange(6, dtype=np.int32),
    tuple("abcdef"),
  )
  with pytest.raises(InputError, match=r"random_crop=0.7 .*here is in memory"):
    feeds.streamed(array, lambda step: Draw(None), range(1), cut=0.7)
  for fields, message in (
    ({"data__random_crop": 0.5}, r"random_crop=0\.5 .*data\.stream=True"),
    ({"data__random_crop": 1.0}, r"in \[0, 1\); got 1"),
    (
      {"data__short_side": 9, "data__image_size": (4, 4)},
      r"short_side=9 is for sets of image files",
    ),
    # Digits are of that size.
    (
      {"data__short_side": 9, "data__image_size": (8, 8)},
      r"short_side=9 is for sets of image files, but digits is an array",
    ),
  ):
    with pytest.raises(InputError, match=message):
      train(tiny_config(**fields), tmp_path / "run", progress=False)


def test_batches_go_to_the_device_ahead_of_their_step():
  asked = []

  def read():
    for i in range(5):
      asked.append(i)
      yield np.full(2, i)

  batches = feeds.on_device(read(), ahead=2)
  assert asked == []
  assert next(batches)[0] == 0
  assert asked == [0, 1, 2]
  assert [int(x[0]) for x in batches] == [1, 2, 3, 4]
