"""Random flips, affine jitter, crops and colors, inside a jitted step.

Plain JAX. One look-up applies flip, affine map and crop together; a library of
single operations (dm_pix 0.4.5) would interpolate once for each. That library
has no resized crop, and its saturation refuses gray images.
"""

import math
from collections.abc import Iterator

import jax
import jax.numpy as jnp
from jax.scipy.ndimage import map_coordinates
from jaxtyping import Array, Float, PRNGKeyArray

Number = float | Float[Array, ""]

# The aspect ratio of a crop, relative to that of the image, is between
# 3/4 and 4/3, as in Szegedy et al., CVPR 2015.
_STRETCH = math.log(4 / 3)
# The weights of ITU-R BT.601, by which image libraries turn colors gray.
_LUMA = (0.299, 0.587, 0.114)


def augment(
  key: PRNGKeyArray,
  images: Float[Array, "n h w c"],
  *,
  flip: bool = False,
  shift: Number = 0.0,
  rotate: Number = 0.0,
  scale: Number = 0.0,
  shear: Number = 0.0,
  stretch: Number = 0.0,
  skip: Number = 0.0,
  crop: Number = 0.0,
  brightness: Number = 0.0,
  contrast: Number = 0.0,
  saturation: Number = 0.0,
) -> Float[Array, "n h w c"]:
  """Moves each image, crops it and changes its colors; 0 changes nothing.

  Image i depends on `key` and i alone. Pixels are interpolated linearly; beyond
  the edge, the pixels of the edge repeat. The numbers may be traced.

  >>> row = jnp.array([0.0, 0.5, 1.0]).reshape(1, 1, 3, 1)
  >>> key = jax.random.key(1)
  >>> flip = jax.jit(lambda key, images: augment(key, images, flip=True))
  >>> flipped = flip(key, jnp.tile(row, (8, 1, 1, 1)))
  >>> sorted({tuple(image.ravel().tolist()) for image in flipped})
  [(0.0, 0.5, 1.0), (1.0, 0.5, 0.0)]

  Args:
    key: random key.
    images: of any number of channels, in [0, 1].
    flip: whether to mirror left and right with probability ½.
    shift: largest shift along each axis, as a fraction of that side.
    rotate: largest rotation about the center, in radians.
    scale: largest change of the logarithm of the size.
    shear: largest shift along each axis for each pixel along the other.
    stretch: largest deviation from 1 of a factor that is drawn for each axis.
    skip: probability with which each of the numbers drawn for shift, rotate,
      scale, shear and stretch is left out.
    crop: largest share of the area that is cut away. The rest is resized to the
      whole image, which stretches it by up to 4/3.
    brightness, contrast, saturation: largest deviation from 1 of a factor. It
      scales the difference of the image from black, from its mean gray, and
      from its gray version, in this order; each result is clipped to [0, 1].
  """

  def one(index: Array, image: Array) -> Array:
    draws, crop_draws, color_draws, bend_draws = _draws(
      jax.random.fold_in(key, index)
    )
    kept = (1 + bend_draws[4:]) / 2 >= skip
    motion = kept[:4] * draws[1:] * jnp.array([rotate, scale, shift, shift])
    bend = (
      kept[4:] * bend_draws[:4] * jnp.array([shear, shear, stretch, stretch])
    )
    mirror = jnp.where(flip & (draws[0] < 0), -1, 1)
    moved = _look_up(image, mirror, motion, bend, crop_draws, crop)
    return _recolor(moved, color_draws, brightness, contrast, saturation)

  return jax.vmap(one)(jnp.arange(len(images)), images)


def _draws(key: PRNGKeyArray) -> Iterator[Float[Array, " _"]]:
  """Numbers from -1 to 1 for one image: motion, crop, colors, bend.

  Each has its own random stream, so a new kind of change leaves the others as
  they are.
  """
  keys = (key, *(jax.random.fold_in(key, kind) for kind in (1, 2, 3)))
  for key_of_kind, count in zip(keys, (5, 4, 3, 12), strict=True):
    yield jax.random.uniform(key_of_kind, (count,), minval=-1)


def _look_up(
  image: Array,
  mirror: Array,
  motion: Array,
  bend: Array,
  crop_draws: Array,
  crop: Number,
) -> Array:
  """Looks up each output pixel in the input, by the inverse map.

  The map stretches, shears, rotates and scales, and then shifts.
  """
  height, width = image.shape[:2]
  middle_y, middle_x = (height - 1) / 2, (width - 1) / 2
  angle, zoom = motion[0], jnp.exp(motion[1])
  # The window of the crop: sides and center, as fractions of the image.
  log_area = jnp.log1p(-crop * (1 + crop_draws[0]) / 2)
  # A window of nearly the whole area has no room for another shape.
  stretch = jnp.minimum(_STRETCH, -log_area) * crop_draws[1]
  tall = jnp.exp((log_area - stretch) / 2)
  wide = jnp.exp((log_area + stretch) / 2)
  down, right = (1 - tall) / 2 * crop_draws[2], (1 - wide) / 2 * crop_draws[3]
  y, x = jnp.mgrid[:height, :width]
  y = (y - middle_y) * tall + (down - motion[2]) * height
  x = (x - middle_x) * wide + (right - motion[3]) * width
  sin, cos = jnp.sin(angle) / zoom, jnp.cos(angle) / zoom
  y, x = cos * y - sin * x, sin * y + cos * x
  # The inverse of y + bend[0] x and x + bend[1] y.
  area = 1 - bend[0] * bend[1]
  y, x = (y - bend[0] * x) / area, (x - bend[1] * y) / area
  rows = middle_y + y / (1 + bend[2])
  columns = middle_x + mirror * x / (1 + bend[3])
  channels = [
    map_coordinates(channel, [rows, columns], order=1, mode="nearest")
    for channel in jnp.moveaxis(image, -1, 0)
  ]
  return jnp.stack(channels, axis=-1)


def _recolor(
  image: Array,
  draws: Array,
  brightness: Number,
  contrast: Number,
  saturation: Number,
) -> Array:
  """Blends with black, the mean gray and the gray image, as Pillow enhances."""

  def blend(image: Array, other: Array | int, factor: Array) -> Array:
    return jnp.clip(factor * image + (1 - factor) * other, 0, 1)

  image = blend(image, 0, 1 + brightness * draws[0])
  image = blend(image, jnp.mean(_gray(image)), 1 + contrast * draws[1])
  return blend(image, _gray(image), 1 + saturation * draws[2])


def _gray(image: Float[Array, "h w c"]) -> Float[Array, "h w 1"]:
  if image.shape[-1] != 3:
    return jnp.mean(image, axis=-1, keepdims=True)
  return (image @ jnp.array(_LUMA))[..., None]
