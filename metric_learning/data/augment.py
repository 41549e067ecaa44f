"""Random flips and affine jitter, on the device, inside a jitted step."""

import jax
import jax.numpy as jnp
from jax.scipy.ndimage import map_coordinates
from jaxtyping import Array, Float, PRNGKeyArray


def augment(
  key: PRNGKeyArray,
  images: Float[Array, "n h w c"],
  *,
  flip: bool = False,
  shift: float | Float[Array, ""] = 0.0,
  rotate: float | Float[Array, ""] = 0.0,
  scale: float | Float[Array, ""] = 0.0,
) -> Float[Array, "n h w c"]:
  """Flips, shifts, rotates and scales each image at random; zeros change none.

  Image i depends on `key` and i alone. Pixels are interpolated linearly, and
  what comes from beyond the edge repeats the edge. The numbers may be traced.

  >>> row = jnp.arange(3.0).reshape(1, 1, 3, 1)
  >>> key = jax.random.key(1)
  >>> flipped = augment(key, jnp.tile(row, (8, 1, 1, 1)), flip=True)
  >>> sorted({tuple(image.ravel().tolist()) for image in flipped})
  [(0.0, 1.0, 2.0), (2.0, 1.0, 0.0)]

  Args:
    key: random key.
    images: of any number of channels.
    flip: whether to mirror left and right with probability ½.
    shift: largest shift along each axis, as a fraction of that side.
    rotate: largest rotation about the centre, in radians.
    scale: largest change of the logarithm of the size.
  """

  height, width = images.shape[1:3]
  middle_y, middle_x = (height - 1) / 2, (width - 1) / 2

  def one(index, image):
    draws = jax.random.uniform(jax.random.fold_in(key, index), (5,), minval=-1)
    mirror = jnp.where(flip & (draws[0] < 0), -1, 1)
    angle, zoom = rotate * draws[1], jnp.exp(scale * draws[2])
    # Each output pixel is looked up in the input, by the inverse map.
    y, x = jnp.mgrid[:height, :width]
    y = y - middle_y - shift * draws[3] * height
    x = x - middle_x - shift * draws[4] * width
    sin, cos = jnp.sin(angle) / zoom, jnp.cos(angle) / zoom
    rows = middle_y + cos * y - sin * x
    columns = middle_x + mirror * (sin * y + cos * x)
    channels = [
      map_coordinates(channel, [rows, columns], order=1, mode="nearest")
      for channel in jnp.moveaxis(image, -1, 0)
    ]
    return jnp.stack(channels, axis=-1)

  return jax.vmap(one)(jnp.arange(len(images)), images)
