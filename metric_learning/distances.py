"""Distances between embeddings: pointwise, and as matrices that stay small.

A larger number is always farther: `cosine` is 1 - cos, a dot product enters
negated. Distances are computed in float32 or wider, whatever the embeddings
are. Normalisation is a separate choice (`NORMALIZATIONS`).
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from metric_learning.errors import check_choice

# Features, or rows, that one pass over a tile accumulates (measured: 8 is
# slower, 32 gains nothing).
_UNROLL = 16


def widen(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
  """Casts to float32, or leaves a wider type as it is."""
  return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def safe_sqrt(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
  """Square root of max(x, 0) whose gradient at 0 is 0 and not infinite.

  >>> float(jax.grad(safe_sqrt)(0.0))
  0.0
  """
  # Both selects are needed: the derivative of the branch that is not taken
  # would still enter as 0 * inf = NaN.
  # Compared with <=, so that a NaN stays one.
  x = jnp.asarray(x)
  empty = x <= 0
  return jnp.where(empty, 0, jnp.sqrt(jnp.where(empty, 1, x)))


def absolute(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
  """|x| with derivative 0 at 0, where that of `jnp.abs` is 1."""
  return x * jax.lax.stop_gradient(jnp.sign(x))


# --- Normalisation ----------------------------------------------------------


def _identity(x: Float[Array, "*n d"]) -> Float[Array, "*n d"]:
  return x


def _divide(
  x: Float[Array, "*n d"], norm: Float[Array, "*n 1"]
) -> Float[Array, "*n d"]:
  zero = norm == 0
  return jnp.where(zero, 0, x / jnp.where(zero, 1, norm))


def l1_normalize(x: Float[Array, "*n d"]) -> Float[Array, "*n d"]:
  """x / Σ|x_j|; the zero vector stays zero, with gradient 0.

  >>> l1_normalize(jnp.array([1.0, -3.0]))
  Array([ 0.25, -0.75], dtype=float32)
  """
  return _divide(x, jnp.sum(absolute(x), axis=-1, keepdims=True))


def l2_normalize(x: Float[Array, "*n d"]) -> Float[Array, "*n d"]:
  """x / √Σx_j²; the zero vector stays zero, with gradient 0.

  >>> l2_normalize(jnp.array([3.0, -4.0]))
  Array([ 0.6, -0.8], dtype=float32)
  """
  # Dividing by the largest coordinate first keeps the squares of tiny and of
  # huge vectors inside float32. The scale cancels, so it has no gradient.
  scale = jax.lax.stop_gradient(jnp.max(jnp.abs(x), axis=-1, keepdims=True))
  x = _divide(x, scale)
  return _divide(x, safe_sqrt(jnp.sum(x * x, axis=-1, keepdims=True)))


NORMALIZATIONS: dict[str, Callable[[Array], Array]] = {
  "none": _identity,
  "l1": l1_normalize,
  "l2": l2_normalize,
}


# --- Matrices without n * m * d numbers -------------------------------------


def _groups(z: Float[Array, "n k"]) -> Float[Array, "groups unroll k"]:
  """Rows in groups of `_UNROLL`, filled with zeros."""
  n, k = z.shape
  z = jnp.pad(z, ((0, -n % _UNROLL), (0, 0)))
  return z.reshape(-(-n // _UNROLL), _UNROLL, k)


def _sum_features(
  term: Callable[[Array], Array], x: Float[Array, "n d"], y: Float[Array, "m d"]
) -> Float[Array, "n m"]:
  """Σ_j term(x_ij - y_kj), a few features at a time over the n * m tile."""

  def add(total, features):
    for a, b in zip(*features, strict=True):
      total += term(a[:, None] - b[None, :])
    return total, None

  zero = jnp.zeros((x.shape[0], y.shape[0]), x.dtype)
  # The features that fill the last group are 0 in both and add term(0) = 0.
  return jax.lax.scan(add, zero, (_groups(x.T), _groups(y.T)))[0]


def _sum_signs(
  x: Float[Array, "n d"], y: Float[Array, "m d"], weights: Float[Array, "n m"]
) -> Float[Array, "m d"]:
  """Σ_i w_ik sign(x_ij - y_kj), a few rows of x at a time; sign(0) = 0."""
  y = y.T

  def add(total, rows):
    for a, w in zip(*rows, strict=True):
      difference = a[:, None] - y
      # Selecting +w, -w or 0 is faster than multiplying by the sign.
      negative = jnp.where(difference < 0, -w[None, :], 0)
      total += jnp.where(difference > 0, w[None, :], negative)
    return total, None

  rows = (_groups(x), _groups(weights))
  return jax.lax.scan(add, jnp.zeros_like(y), rows)[0].T


@jax.custom_vjp
def l1_matrix(
  x: Float[Array, "n d"], y: Float[Array, "m d"]
) -> Float[Array, "n m"]:
  """Σ_j |x_ij - y_kj| for all pairs of rows.

  Neither the value nor the gradient holds n * m * d numbers. The derivative
  is the sign, so that a tie in a coordinate contributes 0. Reverse mode only.

  >>> l1_matrix(jnp.array([[0.0, 0.0]]), jnp.array([[3.0, -4.0]]))
  Array([[7.]], dtype=float32)
  """
  return _sum_features(jnp.abs, x, y)


def _l1_forward(x, y):
  return l1_matrix(x, y), (x, y)


def _l1_backward(residuals, g):
  x, y = residuals
  return -_sum_signs(y, x, g.T), -_sum_signs(x, y, g)


l1_matrix.defvjp(_l1_forward, _l1_backward)


@jax.custom_vjp
def squared_l2_matrix(
  x: Float[Array, "n d"], y: Float[Array, "m d"]
) -> Float[Array, "n m"]:
  """Σ_j (x_ij - y_kj)² for all pairs of rows, from exact differences.

  The form |x|² + |y|² - 2 x·y loses digits where distances are small: in
  float32 it is wrong by half at distance 1e-3 between unit vectors. This one
  does not, at about twice the price. Reverse mode only.

  >>> squared_l2_matrix(jnp.array([[0.0, 0.0]]), jnp.array([[3.0, -4.0]]))
  Array([[25.]], dtype=float32)
  """
  return _sum_features(jnp.square, x, y)


def _squared_l2_forward(x, y):
  return squared_l2_matrix(x, y), (x, y)


def _squared_l2_backward(residuals, g):
  x, y = residuals
  x_bar = 2 * (x * jnp.sum(g, axis=1)[:, None] - _product(g, y.T))
  y_bar = 2 * (y * jnp.sum(g, axis=0)[:, None] - _product(g.T, x.T))
  return x_bar, y_bar


squared_l2_matrix.defvjp(_squared_l2_forward, _squared_l2_backward)


def _product(
  x: Float[Array, "n d"], y: Float[Array, "m d"]
) -> Float[Array, "n m"]:
  # Without a stated precision, accelerators round the operands.
  return jnp.matmul(x, y.T, precision=jax.lax.Precision.HIGHEST)


def _squared_l2_fast(
  x: Float[Array, "n d"], y: Float[Array, "m d"]
) -> Float[Array, "n m"]:
  """|x|² + |y|² - 2 x·y, clamped at 0 with gradient 0 there."""
  norms = jnp.sum(x * x, axis=1)[:, None] + jnp.sum(y * y, axis=1)[None, :]
  squared = norms - 2 * _product(x, y)
  return jnp.where(squared <= 0, 0, squared)


# --- Metrics ----------------------------------------------------------------


def _l1(x, y, exact):
  return l1_matrix(x, y)


def _squared_l2(x, y, exact):
  return (squared_l2_matrix if exact else _squared_l2_fast)(x, y)


def _l2(x, y, exact):
  return safe_sqrt(_squared_l2(x, y, exact))


def _cosine(x, y, exact):
  x, y = l2_normalize(x), l2_normalize(y)
  if not exact:
    return 1 - _product(x, y)
  # 1 - cos = ½|x - y|² between unit vectors; a zero vector is at distance 1.
  zeros = (~jnp.any(x != 0, axis=1))[:, None] * 1.0
  zeros += (~jnp.any(y != 0, axis=1))[None, :] * 1.0
  return 0.5 * (squared_l2_matrix(x, y) + zeros)


def _dot(x, y, exact):
  return -_product(x, y)


def _mahalanobis(x, y, exact, factor=None):
  return _l2(_project(x, factor), _project(y, factor), exact)


def _project(
  x: Float[Array, "*n d"], factor: Float[Array, "k d"] | None
) -> Float[Array, "*n k"]:
  if factor is None:
    raise TypeError("mahalanobis needs factor=, the matrix L of M = LᵀL")
  return jnp.matmul(x, factor.T, precision=jax.lax.Precision.HIGHEST)


def l1(x: Float[Array, " d"], y: Float[Array, " d"]) -> Float[Array, ""]:
  """Σ_j |x_j - y_j|. The subgradient at a tie of a coordinate is 0.

  >>> l1(jnp.array([0.0, 0.0]), jnp.array([3.0, -4.0]))
  Array(7., dtype=float32)
  """
  return jnp.sum(absolute(widen(x) - widen(y)))


def squared_l2(
  x: Float[Array, " d"], y: Float[Array, " d"]
) -> Float[Array, ""]:
  """Σ_j (x_j - y_j)². Not a metric: 0, 1, 2 on a line give 4 > 1 + 1.

  >>> squared_l2(jnp.array([0.0, 0.0]), jnp.array([3.0, -4.0]))
  Array(25., dtype=float32)
  """
  return jnp.sum(jnp.square(widen(x) - widen(y)))


def l2(x: Float[Array, " d"], y: Float[Array, " d"]) -> Float[Array, ""]:
  """√Σ_j (x_j - y_j)², with gradient 0 at coincident points.

  >>> l2(jnp.array([0.0, 0.0]), jnp.array([3.0, -4.0]))
  Array(5., dtype=float32)
  """
  return safe_sqrt(squared_l2(x, y))


def cosine(x: Float[Array, " d"], y: Float[Array, " d"]) -> Float[Array, ""]:
  """1 - x·y / (|x| |y|), in [0, 2]; 1 where a vector is zero.

  >>> cosine(jnp.array([1.0, 0.0]), jnp.array([0.0, 2.0]))
  Array(1., dtype=float32)
  """
  return 1 - jnp.dot(l2_normalize(widen(x)), l2_normalize(widen(y)))


def dot(x: Float[Array, " d"], y: Float[Array, " d"]) -> Float[Array, ""]:
  """-x·y: a similarity, negated; not a distance, since norms matter.

  >>> dot(jnp.array([1.0, 2.0]), jnp.array([3.0, 4.0]))
  Array(-11., dtype=float32)
  """
  return -jnp.dot(widen(x), widen(y))


def mahalanobis(
  x: Float[Array, " d"],
  y: Float[Array, " d"],
  factor: Float[Array, "k d"] | None = None,
) -> Float[Array, ""]:
  """√((x-y)ᵀM(x-y)) with M = LᵀL, the L2 distance of Lx and Ly.

  A metric if L has full column rank, else a pseudo-metric. `factor` is L; an
  objective learns it, from the identity.

  >>> stretch = jnp.diag(jnp.array([3.0, 1.0]))
  >>> mahalanobis(jnp.array([0.0, 0.0]), jnp.array([1.0, 4.0]), stretch)
  Array(5., dtype=float32)
  """
  return l2(_project(widen(x), factor), _project(widen(y), factor))


class Metric(NamedTuple):
  """A distance in two forms that agree.

  pointwise: (x [d], y [d]) to a scalar.
  matrix: (x [n, d], y [m, d], exact) to [n, m].
  """

  pointwise: Callable[..., Array]
  matrix: Callable[..., Array]


METRICS: dict[str, Metric] = {
  "l1": Metric(l1, _l1),
  "l2": Metric(l2, _l2),
  "squared_l2": Metric(squared_l2, _squared_l2),
  "cosine": Metric(cosine, _cosine),
  "dot": Metric(dot, _dot),
  "mahalanobis": Metric(mahalanobis, _mahalanobis),
}


def pairwise(
  metric: str,
  x: Float[Array, "n d"],
  y: Float[Array, "m d"],
  *,
  exact: bool = False,
  **parameters: Array,
) -> Float[Array, "n m"]:
  """The matrix of distances between the rows of x and of y.

  `exact` takes differences before squaring, as evaluation does; the default
  for L2 and cosine is a matrix product, which is faster and loses digits at
  small distances (absolute error about 1e-3 between unit vectors that are
  equal). L1 has one form, and it is exact.

  Raises:
    InputError: for an unknown metric.

  >>> pairwise("l1", jnp.array([[0.0], [1.0]]), jnp.array([[3.0], [5.0]]))
  Array([[3., 5.],
         [2., 4.]], dtype=float32)
  """
  check_choice("metric", metric, METRICS)
  x, y = widen(jnp.asarray(x)), widen(jnp.asarray(y))
  return METRICS[metric].matrix(x, y, exact, **parameters)


def largest_distance(metric: str, normalize: str, dim: int) -> float | None:
  """The largest distance that normalised embeddings can have, or None.

  On the unit L2 sphere |x - y|₁ <= √d |x - y|₂ <= 2√d.

  >>> largest_distance("l1", "l2", 4), largest_distance("l2", "none", 4)
  (4.0, None)
  """
  if metric == "cosine":
    return 2.0
  table = {
    ("l1", "l1"): 2.0,
    ("l2", "l1"): 2.0,
    ("squared_l2", "l1"): 4.0,
    ("l1", "l2"): 2.0 * math.sqrt(dim),
    ("l2", "l2"): 2.0,
    ("squared_l2", "l2"): 4.0,
  }
  return table.get((metric, normalize))
