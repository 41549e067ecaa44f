import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageEnhance
from scipy import ndimage

from metric_learning.data.augment import augment
from tests.quick import quick_jit

RANDOM = np.random.default_rng(0).random((64, 7, 10, 3), np.float32)
SIDE = 41

# Everything but the flip is traced: one compilation for each shape.
compiled = quick_jit(augment, static_argnames="flip")


NUMBERS = (
  "shift",
  "rotate",
  "scale",
  "shear",
  "stretch",
  "skip",
  "crop",
  "brightness",
  "contrast",
  "saturation",
)


def run(images, seed=0, flip=False, **some):
  numbers = dict.fromkeys(NUMBERS, 0.0) | some
  key = jax.random.key(seed)
  return np.asarray(compiled(key, jnp.array(images), flip=flip, **numbers))


def disks(at):
  """64 copies of a soft disk on black: its mass gives its place and size."""
  y, x = np.mgrid[:SIDE, :SIDE]
  away = np.hypot(y - at[0], x - at[1])
  disk = np.clip(6 - away, 0, 1).astype(np.float32)
  return np.tile(disk[None, ..., None], (64, 1, 1, 1))


def centers(images):
  return np.array([ndimage.center_of_mass(image) for image in images[..., 0]])


@pytest.mark.slow
def test_zeros_change_nothing():
  np.testing.assert_array_equal(run(RANDOM), RANDOM)


@pytest.mark.slow
def test_flip_mirrors_about_half_of_the_images():
  flipped = np.concatenate([run(RANDOM, seed, flip=True) for seed in range(8)])
  many = np.tile(RANDOM, (8, 1, 1, 1))
  same = (flipped == many).all(axis=(1, 2, 3))
  mirrored = (flipped == many[:, :, ::-1]).all(axis=(1, 2, 3))
  assert (same ^ mirrored).all()
  assert 0.4 < mirrored.mean() < 0.6


@pytest.mark.slow
def test_shift_moves_within_its_range():
  moves = centers(run(disks((20, 20)), shift=0.2)) - 20
  assert np.abs(moves).max() < 0.2 * SIDE + 0.1
  assert (moves.min(axis=0) < -0.15 * SIDE).all()
  assert (moves.max(axis=0) > 0.15 * SIDE).all()


@pytest.mark.slow
def test_shift_is_a_fraction_of_each_side():
  wide = np.zeros((64, 20, 80, 1), np.float32)
  wide[:, 10, 40] = 1
  moves = np.abs(centers(run(wide, shift=0.1)) - [10, 40]).max(axis=0)
  assert 1.5 < moves[0] < 2.01
  assert 6 < moves[1] < 8.01


def test_rotation_turns_about_the_center_within_its_range():
  y, x = (centers(run(disks((20, 26)), rotate=0.5)) - 20).T
  np.testing.assert_allclose(np.hypot(x, y), 6, atol=0.1)
  angles = np.arctan2(y, x)
  assert np.abs(angles).max() < 0.52
  assert angles.min() < -0.4 and angles.max() > 0.4


def test_scale_grows_and_shrinks_evenly_in_the_logarithm():
  disk = disks((20, 20))
  area = run(disk, scale=0.4).sum(axis=(1, 2, 3))
  logs = np.log(area / disk[0].sum()) / 2
  assert np.abs(logs).max() < 0.43  # a small disk has a coarse edge
  assert logs.min() < -0.3 and logs.max() > 0.3
  assert abs(np.median(logs)) < 0.12


def test_scale_does_not_change_the_angle():
  y, x = (centers(run(disks((20, 26)), rotate=0.5, scale=0.4)) - 20).T
  assert np.abs(np.arctan2(y, x)).max() < 0.52
  reach = np.log(np.hypot(x, y) / 6)
  assert np.abs(reach).max() < 0.43
  assert reach.min() < -0.3 and reach.max() > 0.3


def test_beyond_the_edge_the_edge_repeats():
  bright = np.full((64, 20, 80, 1), 0.7, np.float32)
  changed = run(bright, shift=0.5, rotate=1.0, scale=1.0)
  np.testing.assert_allclose(changed, 0.7, rtol=1e-6)


@pytest.mark.slow
def test_image_depends_on_its_place_and_the_key_alone():
  numbers = {"shift": 0.1, "rotate": 0.3, "scale": 0.2}
  changed = run(RANDOM, **numbers)
  neighbors = np.concatenate([RANDOM[:5], 1 - RANDOM[5:]])
  np.testing.assert_array_equal(run(neighbors, **numbers)[:5], changed[:5])
  other_key = run(RANDOM, seed=1, **numbers)
  assert np.abs(other_key - changed).max(axis=(1, 2, 3)).min() > 0.01
  copies = run(np.tile(RANDOM[:1], (64, 1, 1, 1)), **numbers)
  assert np.abs(copies[1:] - copies[0]).max(axis=(1, 2, 3)).min() > 0.01


@pytest.mark.slow
def test_settings_are_traced():
  traces = []

  @quick_jit
  def count(shift, rotate, scale):
    traces.append(1)
    key, numbers = jax.random.key(0), {"rotate": rotate, "scale": scale}
    return augment(key, jnp.array(RANDOM), shift=shift, **numbers)

  first, second = count(0.0, 0.0, 0.0), count(0.1, 0.2, 0.3)
  assert len(traces) == 1
  assert np.abs(second - first).max() > 0.1


def test_rotation_agrees_with_scipy(monkeypatch):
  monkeypatch.setattr(
    jax.random, "uniform", lambda key, shape, **_: jnp.ones(shape)
  )
  image = disks((20, 26))[:1]
  turn = quick_jit(lambda key, images: augment(key, images, rotate=0.3))
  ours = turn(jax.random.key(0), jnp.array(image))
  degrees = -np.degrees(0.3)
  scipys = ndimage.rotate(
    image[0, ..., 0], degrees, reshape=False, order=1, mode="nearest"
  )
  np.testing.assert_allclose(ours[0, ..., 0], scipys, atol=1e-4)


def test_shear_and_stretch_agree_with_scipy(monkeypatch):
  draws = jnp.array([0.9, -0.5, 0.7, -1.0, *jnp.zeros(8)])
  monkeypatch.setattr(
    jax.random, "uniform", lambda key, shape, **_: draws[: shape[0]]
  )
  image = disks((17, 26))[:1]
  bend = quick_jit(lambda key, x: augment(key, x, shear=0.3, stretch=0.2))
  ours = bend(jax.random.key(0), jnp.array(image))
  # Of coordinates (y, x): first stretched, then sheared, about the center.
  forward = np.array([[1, 0.27], [-0.15, 1]]) @ np.diag([1.14, 0.8])
  back = np.linalg.inv(forward)
  scipys = ndimage.affine_transform(
    image[0, ..., 0], back, 20 - back @ [20, 20], order=1, mode="nearest"
  )
  np.testing.assert_allclose(ours[0, ..., 0], scipys, atol=1e-4)


def test_shear_and_stretch_fill_their_ranges():
  # From (20, 26), 6 pixels to the right of the center.
  moves = centers(run(disks((20, 26)), shear=0.3)) - [20, 26]
  assert np.abs(moves[:, 0]).max() < 6 * 0.3 + 0.1
  assert moves[:, 0].min() < -1.2 and moves[:, 0].max() > 1.2
  moves = centers(run(disks((26, 26)), stretch=0.2)) - 26
  assert np.abs(moves).max() < 6 * 0.2 + 0.1
  assert (moves.min(axis=0) < -0.8).all() and (moves.max(axis=0) > 0.8).all()
  assert np.abs(np.corrcoef(moves.T)[0, 1]) < 0.4  # each axis on its own


def test_skipped_changes_are_left_out_one_by_one():
  many = [run(disks((20, 20)), s, shift=0.2, skip=0.5) for s in range(4)]
  still = np.abs(centers(np.concatenate(many)) - 20) < 1e-3
  np.testing.assert_allclose(still.mean(axis=0), 0.5, atol=0.1)
  np.testing.assert_allclose(still.all(axis=1).mean(), 0.25, atol=0.1)
  motion = {"shift": 0.1, "rotate": 0.3, "scale": 0.2}
  bends = {"shear": 0.2, "stretch": 0.2}
  np.testing.assert_array_equal(
    run(RANDOM, skip=1.0, **motion, **bends), RANDOM
  )


# --- Crops ------------------------------------------------------------------


def windows(crop, shape=(31, 51)):
  """Height, width and center of each crop, as shares, measured on ramps."""
  height, width = shape
  y, x = np.mgrid[:height, :width].astype(np.float32)
  ramps = np.stack([(y + 0.5) / height, (x + 0.5) / width], axis=-1)
  many = np.concatenate(
    [run(np.tile(ramps, (64, 1, 1, 1)), seed, crop=crop) for seed in range(4)]
  )
  first, last = many[:, 0, 0], many[:, -1, -1]
  sides = (last - first) / (1 - 1 / np.array(shape))
  return sides, (first + last) / 2


@pytest.mark.slow
def test_crops_keep_their_share_and_stay_inside():
  sides, centers = windows(0.6)
  area = sides.prod(axis=1)
  assert area.min() > 0.399 and area.min() < 0.45
  assert area.max() < 1.001 and area.max() > 0.95
  assert abs(area.mean() - 0.7) < 0.05  # uniform
  stretch = np.log(sides[:, 1] / sides[:, 0])
  assert np.abs(stretch).max() < np.log(4 / 3) + 1e-3
  assert stretch.min() < -0.2 and stretch.max() > 0.2
  low, high = centers - sides / 2, centers + sides / 2
  assert low.min() > -1e-3 and high.max() < 1 + 1e-3
  for edge in (low, 1 - high):
    assert (edge.min(axis=0) < 0.02).all() and (edge.max(axis=0) > 0.2).all()


@pytest.mark.slow
def test_a_crop_of_a_little_cuts_no_more():
  sides, _ = windows(0.05)
  assert sides.prod(axis=1).min() > 0.949
  assert sides.max() < 1.001


# --- Colors -----------------------------------------------------------------


def enhanced(image, kind, factor):
  picture = Image.fromarray(image)
  return np.asarray(getattr(ImageEnhance, kind)(picture).enhance(factor))


@pytest.mark.parametrize("sign", [-1, 1])
def test_colors_agree_with_pillow(sign, monkeypatch):
  monkeypatch.setattr(
    jax.random, "uniform", lambda key, shape, **_: jnp.full(shape, sign)
  )
  image = np.random.default_rng(1).integers(0, 256, (9, 11, 3), np.uint8)
  kinds = {
    "brightness": "Brightness",
    "contrast": "Contrast",
    "saturation": "Color",
  }
  change = quick_jit(lambda *args, **some: augment(*args, **some))
  for name, kind in kinds.items():
    numbers = dict.fromkeys(kinds, 0.0) | {name: 0.4}
    ours = change(jax.random.key(0), jnp.array(image[None] / 255), **numbers)
    theirs = enhanced(image, kind, 1 + sign * 0.4)
    # Pillow rounds what it blends with, and cuts off the result.
    np.testing.assert_allclose(255 * ours[0], theirs, atol=1.2)


def test_factors_fill_their_range():
  gray = np.full_like(RANDOM, 0.5)
  factors = run(gray, brightness=0.3)[:, 0, 0, 0] / 0.5
  assert 0.7 <= factors.min() < 0.74 and 1.26 < factors.max() <= 1.3


def test_gray_images_have_no_saturation():
  gray = disks((20, 26))
  np.testing.assert_allclose(run(gray, saturation=0.9), gray, atol=1e-6)
