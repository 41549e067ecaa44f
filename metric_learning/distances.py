"""Distances between embeddings: pointwise, and as matrices that stay small.

A larger number is always farther: `cosine` is 1 - cos, a dot product enters
negated. Distances are computed in float32 or wider, whatever the embeddings
are. Normalisation is a separate choice (`NORMALIZATIONS`).
"""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from metric_learning.errors import InputError
from metric_learning.signatures import Named, keywords, split_named

# Features, or rows, that one pass over a tile accumulates (measured: 8 is
# slower, 32 gains nothing).
_UNROLL = 16


def widen(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
  """Casts to float32, or leaves a wider type as it is."""
  return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def comparable(x: Any, y: Any, rank: int = 1) -> tuple[Array, Array]:
  """Both sides, widened, once their shapes are known to fit.

  Raises:
    InputError: if the numbers of features differ: a missing one is not 0.
  """
  x, y = jnp.asarray(x), jnp.asarray(y)
  if (x.ndim, y.ndim) != (rank, rank) or x.shape[-1] != y.shape[-1]:
    wanted = "[d] and [d]" if rank == 1 else "[n, d] and [m, d]"
    raise InputError(
      f"points of shapes {x.shape} and {y.shape} cannot be compared: they must"
      f" be {wanted}, with the same d. References and galleries come from the"
      " network that made the embeddings; init and init_state need its"
      " embedding_dim."
    )
  return widen(x), widen(y)


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
  term: Callable[[Array], Array],
  x: Float[Array, "n d"],
  y: Float[Array, "m d"],
  join: Callable[[Array, Array], Array] = jnp.add,
) -> Float[Array, "n m"]:
  """Σ_j term(x_ij - y_kj), a few features at a time over the n * m tile.

  Another `join` than the sum must leave a term of 0 without effect too.
  """

  def add(total, features):
    for a, b in zip(*features, strict=True):
      total = join(total, term(a[:, None] - b[None, :]))
    return total, None

  zero = jnp.zeros((x.shape[0], y.shape[0]), x.dtype)
  # The features that fill the last group are 0 in both and add term(0) = 0.
  return jax.lax.scan(add, zero, (_groups(x.T), _groups(y.T)))[0]


def _sum_signs(
  x: Float[Array, "n d"],
  y: Float[Array, "m d"],
  weights: Float[Array, "n m"],
  size: Callable[..., Array] | None = None,
  *tiles: Float[Array, "n m"],
) -> Float[Array, "m d"]:
  """Σ_i w_ik sign(x_ij - y_kj), a few rows of x at a time; sign(0) = 0.

  With `size`, each sign is multiplied by size(|x_ij - y_kj|, *t_ik).
  """
  y = y.T

  def add(total, rows):
    for a, w, *own in zip(*rows, strict=True):
      difference = a[:, None] - y
      slope = w[None, :]
      if size is not None:
        slope = slope * size(jnp.abs(difference), *(t[None, :] for t in own))
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
def linf_matrix(
  x: Float[Array, "n d"], y: Float[Array, "m d"]
) -> Float[Array, "n m"]:
  """max_j |x_ij - y_kj| for all pairs of rows, without n * m * d numbers.

  Coordinates that tie for the maximum share the gradient. Reverse mode only.

  >>> linf_matrix(jnp.array([[0.0, 0.0]]), jnp.array([[3.0, -4.0]]))
  Array([[4.]], dtype=float32)
  """
  return _sum_features(jnp.abs, x, y, jnp.maximum)


def _linf_forward(x, y):
  distances = linf_matrix(x, y)
  return distances, (x, y, distances)


def _linf_backward(residuals, g):
  x, y, distances = residuals

  def largest(size, distance):
    return (size == distance).astype(size.dtype)

  # Features of 0 that fill a group would tie at distance 0: no slope there.
  distances = jnp.where(distances > 0, distances, jnp.inf)
  ties = _sum_features(lambda z: largest(jnp.abs(z), distances), x, y)
  g = g / jnp.maximum(ties, 1)
  return (
    -_sum_signs(y, x, g.T, largest, distances.T),
    -_sum_signs(x, y, g, largest, distances),
  )


linf_matrix.defvjp(_linf_forward, _linf_backward)


def _power(x: Float[Array, "*shape"], p: float | int) -> Float[Array, "*shape"]:
  """x^p for x >= 0; 0 at 0 whatever p. Powers of an integer are products."""
  if p == int(p) and p > 0:
    return x ** int(p)
  return jnp.where(x > 0, jnp.where(x > 0, x, 1) ** p, 0)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def lp_matrix(
  x: Float[Array, "n d"], y: Float[Array, "m d"], p: float | int
) -> Float[Array, "n m"]:
  """(Σ_j |x_ij - y_kj|^p)^(1/p) for all pairs, without n * m * d numbers.

  Differences are divided by the largest first: no power overflows, and none
  of the largest underflows. Reverse mode only.

  >>> lp_matrix(jnp.array([[0.0, 0.0]]), jnp.array([[3.0, -4.0]]), 2)
  Array([[5.]], dtype=float32)
  """
  largest = linf_matrix(x, y)
  inverse = 1 / jnp.where(largest == 0, 1, largest)
  powers = _sum_features(lambda z: _power(jnp.abs(z) * inverse, p), x, y)
  return largest * _power(powers, 1 / p)


def _lp_forward(x, y, p):
  distances = lp_matrix(x, y, p)
  return distances, (x, y, distances)


def _lp_backward(p, residuals, g):
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


def _center(y: Float[Array, "m d"]) -> Float[Array, " d"]:
  """The mean of the rows of y, as a constant.

  Rows of zeros are padding or empty slots of a memory, and numbers that are
  not finite are errors of their own row: neither moves the center.
  """
  y = jax.lax.stop_gradient(y)
  y = jnp.where(jnp.isfinite(y), y, 0)
  rows = jnp.sum(jnp.any(y != 0, axis=1))
  center = jnp.sum(y, axis=0) / jnp.maximum(rows, 1)
  return jnp.where(jnp.isfinite(center), center, 0)


def _zero_if_rounding(
  distances: Float[Array, "n m"], size: Float[Array, "#n #m"] | float, dim: int
) -> Float[Array, "n m"]:
  """Distances of a product form; 0, with gradient 0, where only rounding is.

  A sum of d products is wrong by up to about √d·ε·size. Below that the form
  cannot tell two points from one, so that they count as one: a duplicate is
  then no active term, whatever the order in which products were added.
  """
  limits = jnp.finfo(distances.dtype)
  rounding = math.sqrt(dim) * float(limits.eps) * size
  # An infinite size must not make a distance of infinity 0.
  rounding = jnp.minimum(rounding, limits.max)
  return jnp.where(distances <= rounding, 0, distances)


def _squared_l2_fast(
  x: Float[Array, "n d"], y: Float[Array, "m d"]
) -> Float[Array, "n m"]:
  """|x|² + |y|² - 2 x·y about the mean of y, which moves no distance.

  Without it an offset that all points share would cost the digits. It is of y
  alone, so that blocks of x see the same. See `_zero_if_rounding` as well.
  """
  center = _center(y)
  x, y = x - center, y - center
  norms = jnp.sum(x * x, axis=1)[:, None] + jnp.sum(y * y, axis=1)[None, :]
  squared = norms - 2 * _product(x, y)
  size = jax.lax.stop_gradient(norms)
  return _zero_if_rounding(squared, size, x.shape[1])


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
    return _zero_if_rounding(1 - _product(x, y), 1.0, x.shape[1])
  # 1 - cos = ½|x - y|² between unit vectors; a zero vector is at distance 1.
  zeros = (~jnp.any(x != 0, axis=1))[:, None] * 1.0
  zeros += (~jnp.any(y != 0, axis=1))[None, :] * 1.0
  return 0.5 * (squared_l2_matrix(x, y) + zeros)


def _dot(x, y, exact):
  return -_product(x, y)


def _mahalanobis(x, y, exact, factor=None):
  return _l2(project(x, factor), project(y, factor), exact)


def _squared_mahalanobis(x, y, exact, factor=None):
  return _squared_l2(project(x, factor), project(y, factor), exact)


def _linf(x, y, exact):
  return linf_matrix(x, y)


def _lp(x, y, exact, *, p: float | int):
  return _linf(x, y, exact) if math.isinf(p) else lp_matrix(x, y, float(p))


def _angular(x, y, exact):
  # arccos(s) has an infinite slope at ±1, and loses half the digits there.
  near = _cosine(x, y, exact)
  far = _cosine(x, -y, exact) if exact else 2 - near
  return 2 * jnp.arctan2(safe_sqrt(near), safe_sqrt(far))


def _snr(x, y, exact, *, epsilon: float | int = 1e-8):
  # The variance of a difference is the squared distance of what is centred.
  centred = lambda z: z - jnp.mean(z, axis=1, keepdims=True)
  x, y = centred(x), centred(y)
  noise = _squared_l2(x, y, exact) / x.shape[1]
  return noise / (jnp.mean(x * x, axis=1)[:, None] + epsilon)


def project(
  x: Float[Array, "*n d"], factor: Float[Array, "k d"] | None
) -> Float[Array, "*n k"]:
  """L x for each x, with the factor L of a learned metric M = LᵀL.

  Raises:
    InputError: without a factor, or for one of another dimension.
  """
  if factor is None:
    raise InputError("this metric needs factor=, the matrix L of M = LᵀL.")
  factor = jnp.asarray(factor)
  if factor.ndim != 2 or factor.shape[1] != x.shape[-1]:
    raise InputError(
      f"a factor of shape {factor.shape} cannot project embeddings of"
      f" {x.shape[-1]} dimensions: call init with their embedding_dim."
    )
  return jnp.matmul(x, factor.T, precision=jax.lax.Precision.HIGHEST)


def l1(x: Float[Array, " d"], y: Float[Array, " d"]) -> Float[Array, ""]:
  """Σ_j |x_j - y_j|. The subgradient at a tie of a coordinate is 0.

  >>> l1(jnp.array([0.0, 0.0]), jnp.array([3.0, -4.0]))
  Array(7., dtype=float32)
  """
  x, y = comparable(x, y)
  return jnp.sum(absolute(x - y))


def squared_l2(
  x: Float[Array, " d"], y: Float[Array, " d"]
) -> Float[Array, ""]:
  """Σ_j (x_j - y_j)². Not a metric: 0, 1, 2 on a line give 4 > 1 + 1.

  >>> squared_l2(jnp.array([0.0, 0.0]), jnp.array([3.0, -4.0]))
  Array(25., dtype=float32)
  """
  x, y = comparable(x, y)
  return jnp.sum(jnp.square(x - y))


def l2(x: Float[Array, " d"], y: Float[Array, " d"]) -> Float[Array, ""]:
  """√Σ_j (x_j - y_j)², with gradient 0 at coincident points.

  >>> l2(jnp.array([0.0, 0.0]), jnp.array([3.0, -4.0]))
  Array(5., dtype=float32)
  """
  return safe_sqrt(squared_l2(*comparable(x, y)))


def cosine(x: Float[Array, " d"], y: Float[Array, " d"]) -> Float[Array, ""]:
  """1 - x·y / (|x| |y|), in [0, 2]; 1 where a vector is zero.

  >>> cosine(jnp.array([1.0, 0.0]), jnp.array([0.0, 2.0]))
  Array(1., dtype=float32)
  """
  x, y = comparable(x, y)
  return 1 - jnp.dot(l2_normalize(x), l2_normalize(y))


def dot(x: Float[Array, " d"], y: Float[Array, " d"]) -> Float[Array, ""]:
  """-x·y: a similarity, negated; not a distance, since norms matter.

  >>> dot(jnp.array([1.0, 2.0]), jnp.array([3.0, 4.0]))
  Array(-11., dtype=float32)
  """
  return -jnp.dot(*comparable(x, y))


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
  x, y = comparable(x, y)
  return l2(project(x, factor), project(y, factor))


def squared_mahalanobis(
  x: Float[Array, " d"],
  y: Float[Array, " d"],
  factor: Float[Array, "k d"] | None = None,
) -> Float[Array, ""]:
  """(x-y)ᵀM(x-y) with M = LᵀL: no metric, since the triangle fails.

  >>> stretch = jnp.diag(jnp.array([3.0, 1.0]))
  >>> squared_mahalanobis(jnp.array([0.0, 0.0]), jnp.array([1.0, 4.0]), stretch)
  Array(25., dtype=float32)
  """
  x, y = comparable(x, y)
  return squared_l2(project(x, factor), project(y, factor))


def linf(x: Float[Array, " d"], y: Float[Array, " d"]) -> Float[Array, ""]:
  """max_j |x_j - y_j|; coordinates that tie for it share the gradient.

  >>> linf(jnp.array([0.0, 0.0]), jnp.array([3.0, -4.0]))
  Array(4., dtype=float32)
  """
  x, y = comparable(x, y)
  return jnp.max(absolute(x - y), initial=0)


def lp(
  x: Float[Array, " d"], y: Float[Array, " d"], *, p: float | int
) -> Float[Array, ""]:
  """(Σ_j |x_j - y_j|^p)^(1/p): a metric for p >= 1.

  The gradient is 0 at coincident points, and through a tie of a coordinate.

  >>> lp(jnp.array([0.0, 0.0]), jnp.array([3.0, -4.0]), p=1)
  Array(7., dtype=float32)
  """
  x, y = comparable(x, y)
  return _lp(x[None], y[None], True, p=p)[0, 0]


def angular(x: Float[Array, " d"], y: Float[Array, " d"]) -> Float[Array, ""]:
  """The angle between x and y in radians, in [0, π]; π/2 where one is zero.

  >>> angular(jnp.array([1.0, 0.0]), jnp.array([0.0, 2.0]))
  Array(1.5707964, dtype=float32)
  """
  x, y = comparable(x, y)
  return _angular(x[None], y[None], True)[0, 0]


def snr(
  x: Float[Array, " d"], y: Float[Array, " d"], *, epsilon: float = 1e-8
) -> Float[Array, ""]:
  """Var_j(x - y) / (Var_j(x) + ε): the noise that y adds to x, not symmetric.

  ε keeps an x whose coordinates are equal finite.

  >>> snr(jnp.array([0.0, 2.0, 4.0]), jnp.array([1.0, 2.0, 3.0]))
  Array(0.25, dtype=float32)
  """
  x, y = comparable(x, y)
  return jnp.var(x - y) / (jnp.var(x) + epsilon)


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
  "squared_mahalanobis": Metric(squared_mahalanobis, _squared_mahalanobis),
  "lp": Metric(lp, _lp),
  "linf": Metric(linf, _linf),
  "angular": Metric(angular, _angular),
  "snr": Metric(snr, _snr),
}

# Metrics with a learned factor L, and that of Lx and Ly which each is.
LEARNED = {"mahalanobis": "l2", "squared_mahalanobis": "squared_l2"}

# A metric by its name, or with its options: ("lp", {"p": 3}).
MetricName = Named


def split_metric(metric: MetricName) -> tuple[str, dict[str, Any]]:
  """The name of a metric and its options, checked.

  Raises:
    InputError: for an unknown name or option, or if an option is missing.

  >>> split_metric("l1"), split_metric(("lp", {"p": 3}))
  (('l1', {}), ('lp', {'p': 3}))
  """
  name, options = split_named(
    "metric", metric, METRICS, lambda name: keywords(METRICS[name].matrix)
  )
  for key, value in options.items():
    if not isinstance(value, int | float) or not value > 0:
      raise InputError(
        f"{name}: {key} must be a positive number, got {value!r}."
      )
  return name, options


def pairwise(
  metric: MetricName,
  x: Float[Array, "n d"],
  y: Float[Array, "m d"],
  *,
  exact: bool = False,
  **parameters: Array,
) -> Float[Array, "n m"]:
  """The matrix of distances between the rows of x and of y.

  `exact` takes differences before squaring, as evaluation does. The default
  for L2 and cosine is a matrix product, which is faster and loses digits at
  small distances. About the center of the points it is wrong by up to about
  √d·ε·(|x|² + |y|²) in D², and a D² below that is 0, with gradient 0: in
  float32, unit vectors of 128 dimensions nearer than 1.6e-3 count as one
  point. A common offset of all points costs no digits. L1, Lp and L∞ have one
  form, and it is exact. A metric with options is a pair: `("lp", {"p": 3})`.

  Raises:
    InputError: for an unknown metric or option, or if the dimensions of x, y
      and a learned factor differ.

  >>> pairwise("l1", jnp.array([[0.0], [1.0]]), jnp.array([[3.0], [5.0]]))
  Array([[3., 5.],
         [2., 4.]], dtype=float32)
  """
  name, options = split_metric(metric)
  x, y = comparable(x, y, rank=2)
  return METRICS[name].matrix(x, y, exact, **options, **parameters)


def largest_distance(metric: str, normalize: str, dim: int) -> float | None:
  """The largest distance that normalised embeddings can have, or None.

  On the unit L2 sphere |x - y|₁ <= √d |x - y|₂ <= 2√d.

  >>> largest_distance("l1", "l2", 4), largest_distance("l2", "none", 4)
  (4.0, None)
  """
  if metric in ("cosine", "angular"):
    return 2.0 if metric == "cosine" else math.pi
  table = {
    ("l1", "l1"): 2.0,
    ("l2", "l1"): 2.0,
    ("squared_l2", "l1"): 4.0,
    ("linf", "l1"): 2.0,
    ("l1", "l2"): 2.0 * math.sqrt(dim),
    ("l2", "l2"): 2.0,
    ("squared_l2", "l2"): 4.0,
    ("linf", "l2"): 2.0,
  }
  return table.get((metric, normalize))
