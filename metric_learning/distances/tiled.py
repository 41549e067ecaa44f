"""Distance matrices and their derivatives, without n * m * d numbers."""

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

# The number of features, or of rows, that one pass over a tile accumulates.
# Measured: 8 is slower, and 32 gains nothing.
_UNROLL = 16


def _groups(z: Float[Array, "n k"]) -> Float[Array, "groups unroll k"]:
  """Splits the rows into groups of `_UNROLL`; zeros fill the last group."""
  n, k = z.shape
  z = jnp.pad(z, ((0, -n % _UNROLL), (0, 0)))
  return z.reshape(-(-n // _UNROLL), _UNROLL, k)


def _sum_features(
  term: Callable[[Array], Array],
  x: Float[Array, "n d"],
  y: Float[Array, "m d"],
  join: Callable[[Array, Array], Array] = jnp.add,
) -> Float[Array, "n m"]:
  """Σ_j term(x_ij - y_kj), a few features at a time over the n * m tile.

  `join` may replace the sum. A term of 0 must have no effect under it either.
  """

  def add(total: Array, features: tuple[Array, ...]) -> tuple[Array, None]:
    for a, b in zip(*features, strict=True):
      total = join(total, term(a[:, None] - b[None, :]))
    return total, None

  zero = jnp.zeros((x.shape[0], y.shape[0]), x.dtype)
  # Padding features of the last group are 0 in x and y, and add term(0) = 0.
  return jax.lax.scan(add, zero, (_groups(x.T), _groups(y.T)))[0]


def _sum_signs(
  x: Float[Array, "n d"],
  y: Float[Array, "m d"],
  weights: Float[Array, "n m"],
  size: Callable[..., Array] | None = None,
  *tiles: Float[Array, "n m"],
) -> Float[Array, "m d"]:
  """Σ_i w_ik sign(x_ij - y_kj), a few rows of x at a time; sign(0) = 0.

  With `size`, each sign is multiplied by size(|x_ij - y_kj|, *t_ik), where t
  are the `tiles`.
  """
  y = y.T

  def add(total: Array, rows: tuple[Array, ...]) -> tuple[Array, None]:
    for a, w, *entries in zip(*rows, strict=True):
      difference = a[:, None] - y
      slope = w[None, :]
      if size is not None:
        per_pair = [t[None, :] for t in entries]
        slope = slope * size(jnp.abs(difference), *per_pair)
      # Selecting +w, -w or 0 is faster than multiplying by the sign.
      negative = jnp.where(difference < 0, -slope, 0)
      total += jnp.where(difference > 0, slope, negative)
    return total, None

  rows = (_groups(x), _groups(weights), *map(_groups, tiles))
  return jax.lax.scan(add, jnp.zeros_like(y), rows)[0].T


@jax.custom_vjp
def l1_matrix(
  x: Float[Array, "n d"], y: Float[Array, "m d"]
) -> Float[Array, "n m"]:
  """Σ_j |x_ij - y_kj| for all pairs of rows.

  Neither the value nor the gradient holds n * m * d numbers. The derivative is
  the sign, which is 0 in coordinates that are equal. Reverse mode only.

  >>> l1_matrix(jnp.array([[0.0, 0.0]]), jnp.array([[3.0, -4.0]]))
  Array([[7.]], dtype=float32)
  """
  return _sum_features(jnp.abs, x, y)


def _l1_forward(x: Array, y: Array) -> tuple[Array, tuple[Array, Array]]:
  return l1_matrix(x, y), (x, y)


def _l1_backward(
  residuals: tuple[Array, Array], g: Array
) -> tuple[Array, Array]:
  x, y = residuals
  return -_sum_signs(y, x, g.T), -_sum_signs(x, y, g)


l1_matrix.defvjp(_l1_forward, _l1_backward)


@jax.custom_vjp
def linf_matrix(
  x: Float[Array, "n d"], y: Float[Array, "m d"]
) -> Float[Array, "n m"]:
  """max_j |x_ij - y_kj| for all pairs of rows, without n * m * d numbers.

  Coordinates that tie for the maximum share the gradient. Reverse mode only.

  >>> linf_matrix(jnp.array([[0.0, 0.0]]), jnp.array([[3.0, -4.0]]))
  Array([[4.]], dtype=float32)
  """
  return _sum_features(jnp.abs, x, y, jnp.maximum)


def _linf_forward(
  x: Array, y: Array
) -> tuple[Array, tuple[Array, Array, Array]]:
  distances = linf_matrix(x, y)
  return distances, (x, y, distances)


def _linf_backward(
  residuals: tuple[Array, Array, Array], g: Array
) -> tuple[Array, Array]:
  x, y, distances = residuals

  def largest(size: Array, distance: Array) -> Array:
    return (size == distance).astype(size.dtype)

  # At distance 0, padding features would tie for the maximum too. Such pairs
  # get no slope.
  distances = jnp.where(distances > 0, distances, jnp.inf)
  ties = _sum_features(lambda z: largest(jnp.abs(z), distances), x, y)
  g = g / jnp.maximum(ties, 1)
  return (
    -_sum_signs(y, x, g.T, largest, distances.T),
    -_sum_signs(x, y, g, largest, distances),
  )


linf_matrix.defvjp(_linf_forward, _linf_backward)


def _power(x: Float[Array, "*shape"], p: float | int) -> Float[Array, "*shape"]:
  """x^p for x >= 0, with 0^p = 0 for all p; integer powers are products."""
  if p == int(p) and p > 0:
    return x ** int(p)
  return jnp.where(x > 0, jnp.where(x > 0, x, 1) ** p, 0)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def lp_matrix(
  x: Float[Array, "n d"], y: Float[Array, "m d"], p: float | int
) -> Float[Array, "n m"]:
  """(Σ_j |x_ij - y_kj|^p)^(1/p) for all pairs, without n * m * d numbers.

  Differences are first divided by the largest one, so that no power overflows
  and the power of the largest does not underflow. Reverse mode only.

  >>> lp_matrix(jnp.array([[0.0, 0.0]]), jnp.array([[3.0, -4.0]]), 2)
  Array([[5.]], dtype=float32)
  """
  largest = linf_matrix(x, y)
  inverse = 1 / jnp.where(largest == 0, 1, largest)
  powers = _sum_features(lambda z: _power(jnp.abs(z) * inverse, p), x, y)
  return largest * _power(powers, 1 / p)


def _lp_forward(
  x: Array, y: Array, p: float | int
) -> tuple[Array, tuple[Array, Array, Array]]:
  distances = lp_matrix(x, y, p)
  return distances, (x, y, distances)


def _lp_backward(
  p: float | int, residuals: tuple[Array, Array, Array], g: Array
) -> tuple[Array, Array]:
  x, y, distances = residuals
  inverse = 1 / jnp.where(distances == 0, 1, distances)
  size = lambda z, inverse: _power(z * inverse, p - 1) if p != 1 else z * 0 + 1
  return (
    -_sum_signs(y, x, g.T, size, inverse.T),
    -_sum_signs(x, y, g, size, inverse),
  )


lp_matrix.defvjp(_lp_forward, _lp_backward)


@jax.custom_vjp
def squared_l2_matrix(
  x: Float[Array, "n d"], y: Float[Array, "m d"]
) -> Float[Array, "n m"]:
  """Σ_j (x_ij - y_kj)² for all pairs of rows, from exact differences.

  The form |x|² + |y|² - 2 x·y loses digits where distances are small: between
  unit vectors at distance 1e-3, in float32, it is wrong by half. This form
  loses none, and costs about twice as much. Reverse mode only.

  >>> squared_l2_matrix(jnp.array([[0.0, 0.0]]), jnp.array([[3.0, -4.0]]))
  Array([[25.]], dtype=float32)
  """
  return _sum_features(jnp.square, x, y)


def _squared_l2_forward(
  x: Array, y: Array
) -> tuple[Array, tuple[Array, Array]]:
  return squared_l2_matrix(x, y), (x, y)


def _squared_l2_backward(
  residuals: tuple[Array, Array], g: Array
) -> tuple[Array, Array]:
  x, y = residuals
  x_bar = 2 * (x * jnp.sum(g, axis=1)[:, None] - product(g, y.T))
  y_bar = 2 * (y * jnp.sum(g, axis=0)[:, None] - product(g.T, x.T))
  return x_bar, y_bar


squared_l2_matrix.defvjp(_squared_l2_forward, _squared_l2_backward)


def product(
  x: Float[Array, "n d"], y: Float[Array, "m d"]
) -> Float[Array, "n m"]:
  """x yᵀ at the highest precision that the device has."""
  # Without a stated precision, accelerators round the operands.
  return jnp.matmul(x, y.T, precision=jax.lax.Precision.HIGHEST)


def _center(y: Float[Array, "m d"]) -> Float[Array, " d"]:
  """The mean of the rows of y, without a gradient.

  Rows of zeros do not count: they are padding or empty slots of a memory.
  Numbers that are not finite count as 0, so that an error in one row does not
  spread to the others.
  """
  y = jax.lax.stop_gradient(y)
  y = jnp.where(jnp.isfinite(y), y, 0)
  rows = jnp.sum(jnp.any(y != 0, axis=1))
  center = jnp.sum(y, axis=0) / jnp.maximum(rows, 1)
  return jnp.where(jnp.isfinite(center), center, 0)


def zero_if_rounding(
  distances: Float[Array, "n m"], size: Float[Array, "#n #m"] | float, dim: int
) -> Float[Array, "n m"]:
  """Replaces distances that are only rounding error by 0, with gradient 0.

  A sum of d products is wrong by up to about √d·ε·size. Below that, a product
  form cannot tell two points from one, so they count as one point. A duplicate
  is then never an active term, in whatever order the products are added.
  """
  limits = jnp.finfo(distances.dtype)
  rounding = math.sqrt(dim) * float(limits.eps) * size
  # An infinite size must not turn an infinite distance into 0.
  rounding = jnp.minimum(rounding, limits.max)
  return jnp.where(distances <= rounding, 0, distances)


def squared_l2_product(
  x: Float[Array, "n d"], y: Float[Array, "m d"]
) -> Float[Array, "n m"]:
  """|x|² + |y|² - 2 x·y, after the mean of y is subtracted from x and y.

  Centering changes no distance; without it, an offset that all points share
  would cost digits. The center depends on y alone, so that all blocks of x use
  the same one. Distances that are only rounding error become 0, as in
  `zero_if_rounding`.
  """
  center = _center(y)
  x, y = x - center, y - center
  # The barrier makes XLA compute the norms once, and add them where it reads
  # the product. It would otherwise write their sums as one more matrix.
  x_norms, y_norms = jax.lax.optimization_barrier(
    (jnp.sum(x * x, axis=1), jnp.sum(y * y, axis=1))
  )
  norms = x_norms[:, None] + y_norms[None, :]
  # A factor in y costs less than one in the product.
  squared = norms + product(x, -2 * y)
  size = jax.lax.stop_gradient(norms)
  return zero_if_rounding(squared, size, x.shape[1])
