import hashlib
import platform

import matplotlib.path
import numpy as np
import pytest

from metric_learning import data
from metric_learning.data import cuts
from metric_learning.data.sets import glyphs

# Of the images of seed 0: SHA-256, and the sum of pixel × place modulo 65,521.
DIGEST = "6876a5015f5a5deba4450ed8aef51ea1f1bf80fe65d4efc269aef9af04a6c31c"
TOTAL = 4_008_387_858_512


@pytest.fixture(scope="session")
def cache_folder(tmp_path_factory):
  with pytest.MonkeyPatch.context() as patch:
    folder = tmp_path_factory.mktemp("cache")
    patch.setenv("METRIC_LEARNING_CACHE", str(folder))
    yield folder


@pytest.fixture(scope="session")
def drawn(cache_folder):
  return glyphs.stored(seed=0)


@pytest.mark.slow
def test_counts(drawn):
  assert drawn.inputs.shape == (5395, 24, 24, 1)
  assert len(drawn.class_names) == len(set(drawn.class_names)) == 382
  sizes = np.bincount(drawn.labels)
  assert (sizes.min(), sizes.max()) == (12, 16)
  scripts = [glyphs.script(name) for name in drawn.class_names]
  assert {script: scripts.count(script) for script in set(scripts)} == {
    "LATIN": 207,
    "ARMENIAN": 49,
    "CYRILLIC": 43,
    "GEORGIAN": 40,
    "GREEK": 33,
    "DIGIT": 10,
  }


def test_images_are_those_of_the_recipe(drawn):
  places = np.arange(drawn.inputs.size) % 65521
  total = int(drawn.inputs.ravel().astype(np.int64) @ places)
  if platform.machine() == "x86_64":
    digest = hashlib.sha256(drawn.inputs.tobytes()).hexdigest()
    assert digest == DIGEST
    assert total == TOTAL
  else:  # a sine that rounds otherwise may move a vertex by 1/64 pixel
    assert total == pytest.approx(TOTAL, rel=1e-4)


def test_ink_is_white_on_black(drawn):
  assert drawn.inputs.max() == 255
  border = drawn.inputs.copy()
  border[:, 1:-1, 1:-1] = 0
  assert border.mean() < 0.1 * drawn.inputs.mean()
  ink = (drawn.inputs > 0).mean(axis=(1, 2, 3))
  assert ink.min() > 0.005 and ink.max() < 0.6


def test_jitter_differs_between_seeds_fonts_and_letters():
  square = np.array([[[-1.0, -1], [1, -1]], [[1, -1], [1, 1]]]) / 3
  keys = [[0, 65, 0], [1, 65, 0], [0, 66, 0], [0, 65, 1]]
  shapes = {glyphs.jitter(square, key).tobytes() for key in keys}
  assert len(shapes) == 4
  again = glyphs.jitter(square, [0, 65, 0])
  np.testing.assert_array_equal(again, glyphs.jitter(square, keys[0]))


def test_jitter_is_affine_and_fills_its_ranges():
  # Where 0, (1, 0) and (0, 1) go tells the shift and the columns of the matrix.
  frame = np.array([[[0.0, 0], [1, 0]], [[0, 0], [0, 1]]])
  found = []
  for number in range(400):
    moved = glyphs.jitter(frame, [number])
    shift, first, second = moved[0, 0], *(moved[:, 1] - moved[0, 0])
    width = np.hypot(*first)
    angle = np.arctan2(first[1], first[0])
    height = np.linalg.det([first, second]) / width
    shear = first @ second / width / height
    found.append([angle, shear, np.log(width), np.log(height), *shift])
  limits = np.array([0.25, 0.25, 0.2, 0.2, 0.06, 0.06])
  assert (np.abs(found) <= limits + 1e-9).all()
  assert (np.max(found, axis=0) > 0.95 * limits).all()
  assert (np.min(found, axis=0) < -0.95 * limits).all()
  assert np.abs(np.corrcoef(np.transpose(found)) - np.eye(6)).max() < 0.2


def polygons_to_edges(polygons):
  return np.concatenate(
    [np.stack([p, np.roll(p, -1, axis=0)], axis=1) for p in polygons]
  )


@pytest.mark.parametrize("seed", range(5))
def test_rasterize_agrees_with_matplotlib_on_a_polygon(seed):
  size, rng = 12, np.random.default_rng(seed)
  angles = np.sort(rng.uniform(0, 2 * np.pi, 9))
  radii = rng.uniform(0.1, 0.49, (9, 1))
  polygon = radii * np.stack([np.cos(angles), np.sin(angles)], axis=1)
  samples = (np.arange(4 * size) + 0.5) / (4 * size) - 0.5
  x, y = np.meshgrid(samples, -samples)
  inside = matplotlib.path.Path(polygon).contains_points(
    np.stack([x, y], axis=-1).reshape(-1, 2)
  )
  covered = inside.reshape(size, 4, size, 4).mean(axis=(1, 3))
  image = glyphs.rasterize(polygons_to_edges([polygon]), size, grid=2**20)
  np.testing.assert_allclose(image, 255 * covered, atol=8)
  assert abs(image.mean() - 255 * covered.mean()) < 2


def square(radius):
  return radius * np.array([[-1.0, -1], [1, -1], [1, 1], [-1, 1]])


@pytest.mark.parametrize(
  ("inner", "middle"),
  [(square(0.25)[::-1], 0), (square(0.25), 255)],
  ids=["against: a hole", "along: no hole"],
)
def test_fill_is_non_zero_winding(inner, middle):
  edges = polygons_to_edges([square(0.5), inner])
  image = glyphs.rasterize(edges, 4)
  assert (image[1:3, 1:3] == middle).all()
  assert (image[0] == 255).all()


def test_what_is_outside_the_image_is_cut_off():
  edges = polygons_to_edges([np.array([1.0, 0.0]) + square(1.0)])
  image = glyphs.rasterize(edges, 4)
  assert (image[:, 2:] == 255).all() and (image[:, :2] == 0).all()


def test_outlines_are_centered_and_miss_what_a_font_lacks():
  # Hebrew alef: in the upright DejaVu Sans fonts, not in STIX.
  found = list(glyphs.outlines("Aא"))
  assert [font for index, font, _ in found if index == 0] == [*range(16)]
  assert 0 < len([1 for index, _, _ in found if index == 1]) < 12
  for _, _, edges in found:
    low, high = edges.min(axis=(0, 1)), edges.max(axis=(0, 1))
    np.testing.assert_allclose(low, -high, atol=1e-12)
    assert (high - low).max() == pytest.approx(1)
    # Closed: each point is the end of as many edges as begin there.
    begin, end = (sorted(map(tuple, edges[:, i])) for i in (0, 1))
    assert begin == end


def test_a_letter_looks_as_matplotlib_draws_it():
  """The filled outline of O is a ring with the area of its two ellipses."""
  _, _, edges = next(glyphs.outlines("O"))
  image = glyphs.rasterize(edges, 64, grid=2**20) / 255
  begin, end = edges[:, 0], edges[:, 1]
  area = np.abs(np.sum(begin[:, 0] * end[:, 1] - begin[:, 1] * end[:, 0])) / 2
  assert image.mean() == pytest.approx(area, rel=0.01)
  assert image[32, 32] == 0
  np.testing.assert_allclose(image, image[:, ::-1], atol=0.5)


def sizes(splits):
  parts = (splits.train, splits.validation, splits.test)
  return [(len(part.class_names), len(part.inputs)) for part in parts]


def test_random_split(data_config, drawn):
  splits = data.load(data_config("glyphs", "random", "open-set"))
  assert sizes(splits) == [(191, 2684), (76, 1101), (115, 1610)]
  order = np.random.default_rng(0).permutation(382)
  assert {*splits.test.class_names} == {
    glyphs.CHARACTERS[i] for i in order[267:]
  }
  other = data.load(data_config("glyphs", "random", "open-set", split_seed=1))
  assert splits.test.class_names != other.test.class_names


def test_scripts_split(data_config, drawn):
  splits = data.load(data_config("glyphs", "scripts", "open-set"))
  parts = (splits.train, splits.validation, splits.test)
  train, validation, test = (
    {glyphs.script(name) for name in part.class_names} for part in parts
  )
  assert test == {"ARMENIAN", "GEORGIAN"}
  assert train == {"LATIN", "GREEK", "CYRILLIC", "DIGIT"} >= validation
  assert [count for count, _ in sizes(splits)] == [234, 59, 89]
  other = data.load(data_config("glyphs", "scripts", "open-set", split_seed=1))
  assert splits.test.class_names == other.test.class_names
  assert splits.validation.class_names != other.validation.class_names


def test_drawn_once_and_again_for_another_seed(
  drawn, cache_folder, monkeypatch
):
  def fail(seed):
    raise AssertionError("drawn again")

  monkeypatch.setattr(glyphs, "draw", fail)
  np.testing.assert_array_equal(glyphs.stored(0).inputs, drawn.inputs)
  with pytest.raises(AssertionError, match="drawn again"):
    glyphs.stored(1)


def test_raw_pixels_are_far_from_solving_it(drawn):
  test = cuts.random_classes(drawn, 0).test
  pixels = test.inputs.reshape(len(test.inputs), -1).astype(float)
  pixels /= np.linalg.norm(pixels, axis=1, keepdims=True)
  similarity = pixels @ pixels.T
  np.fill_diagonal(similarity, -1)
  nearest = test.labels[similarity.argmax(axis=1)]
  assert 0.38 < np.mean(nearest == test.labels) < 0.48
