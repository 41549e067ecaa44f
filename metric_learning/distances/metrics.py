"""The metrics by name: the two forms of each, and its properties."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from metric_learning.distances.normalization import l2_normalize
from metric_learning.distances.numerics import absolute, comparable, safe_sqrt
from metric_learning.distances.tiled import (
  l1_matrix,
  linf_matrix,
  lp_matrix,
  product,
  squared_l2_matrix,
  squared_l2_product,
  zero_if_rounding,
)
from metric_learning.errors import InputError
from metric_learning.signatures import Named, keywords, split_named


def _l1(x: Array, y: Array, exact: bool) -> Array:
  return l1_matrix(x, y)


def _squared_l2(x: Array, y: Array, exact: bool) -> Array:
  return (squared_l2_matrix if exact else squared_l2_product)(x, y)


def _l2(x: Array, y: Array, exact: bool) -> Array:
  return safe_sqrt(_squared_l2(x, y, exact))


def unit_cosine(
  x: Float[Array, "n d"], y: Float[Array, "m d"]
) -> Float[Array, "n m"]:
  """The matrix of 1 - cos between points of norm 1, or 0, from a product.

  >>> unit_cosine(jnp.array([[1.0, 0.0]]), jnp.array([[0.6, 0.8], [0.0, 0.0]]))
  Array([[0.39999998, 1.        ]], dtype=float32)
  """
  x, y = comparable(x, y, rank=2)
  # Rounding moves norms away from 1, which matters most in few dimensions.
  size = 1 + 2 / math.sqrt(x.shape[1])
  return zero_if_rounding(1 - product(x, y), size, x.shape[1])


def _cosine(x: Array, y: Array, exact: bool) -> Array:
  x, y = l2_normalize(x), l2_normalize(y)
  if not exact:
    return unit_cosine(x, y)
  # 1 - cos = ½|x - y|² between unit vectors. The second summand puts a zero
  # vector at distance 1 from all points.
  zeros = (~jnp.any(x != 0, axis=1))[:, None] * 1.0
  zeros += (~jnp.any(y != 0, axis=1))[None, :] * 1.0
  return 0.5 * (squared_l2_matrix(x, y) + zeros)


def _dot(x: Array, y: Array, exact: bool) -> Array:
  return -product(x, y)


def _mahalanobis(
  x: Array, y: Array, exact: bool, factor: Array | None = None
) -> Array:
  return _l2(project(x, factor), project(y, factor), exact)


def _squared_mahalanobis(
  x: Array, y: Array, exact: bool, factor: Array | None = None
) -> Array:
  return _squared_l2(project(x, factor), project(y, factor), exact)


def _linf(x: Array, y: Array, exact: bool) -> Array:
  return linf_matrix(x, y)


def _lp(x: Array, y: Array, exact: bool, *, p: float | int) -> Array:
  return _linf(x, y, exact) if math.isinf(p) else lp_matrix(x, y, float(p))


def _angular(x: Array, y: Array, exact: bool) -> Array:
  # arccos(s) has an infinite slope at ±1, and loses half the digits there.
  near = _cosine(x, y, exact)
  far = _cosine(x, -y, exact) if exact else 2 - near
  return 2 * jnp.arctan2(safe_sqrt(near), safe_sqrt(far))


def _snr(
  x: Array, y: Array, exact: bool, *, epsilon: float | int = 1e-8
) -> Array:
  # Var(x - y) · d is the squared distance between the centered points.
  centered = lambda z: z - jnp.mean(z, axis=1, keepdims=True)
  x, y = centered(x), centered(y)
  noise = _squared_l2(x, y, exact) / x.shape[1]
  return noise / (jnp.mean(x * x, axis=1)[:, None] + epsilon)


def project(
  x: Float[Array, "*n d"], factor: Float[Array, "k d"] | None
) -> Float[Array, "*n k"]:
  """Maps each x to Lx, with the factor L of a learned metric M = LᵀL.

  Raises:
    InputError: if the factor is missing, or does not fit the dimension of x.
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
  """Σ_j |x_j - y_j|, with subgradient 0 in coordinates that are equal.

  >>> l1(jnp.array([0.0, 0.0]), jnp.array([3.0, -4.0]))
  Array(7., dtype=float32)
  """
  x, y = comparable(x, y)
  return jnp.sum(absolute(x - y))


def squared_l2(
  x: Float[Array, " d"], y: Float[Array, " d"]
) -> Float[Array, ""]:
  """Σ_j (x_j - y_j)². Not a metric: the points 0, 1, 2 give 4 > 1 + 1.

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
  """1 - x·y / (|x| |y|), in [0, 2]; 1 if a vector is zero.

  >>> cosine(jnp.array([1.0, 0.0]), jnp.array([0.0, 2.0]))
  Array(1., dtype=float32)
  """
  x, y = comparable(x, y)
  return 1 - jnp.dot(l2_normalize(x), l2_normalize(y))


def dot(x: Float[Array, " d"], y: Float[Array, " d"]) -> Float[Array, ""]:
  """-x·y, a negated similarity: not a distance, since it depends on norms.

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

  It is a metric if L has full column rank, else a pseudo-metric. `factor` is L;
  an objective learns it, starting from the identity.

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
  """(x-y)ᵀM(x-y) with M = LᵀL: not a metric (no triangle inequality).

  >>> stretch = jnp.diag(jnp.array([3.0, 1.0]))
  >>> squared_mahalanobis(jnp.array([0.0, 0.0]), jnp.array([1.0, 4.0]), stretch)
  Array(25., dtype=float32)
  """
  x, y = comparable(x, y)
  return squared_l2(project(x, factor), project(y, factor))


def linf(x: Float[Array, " d"], y: Float[Array, " d"]) -> Float[Array, ""]:
  """max_j |x_j - y_j|; tied coordinates share the gradient.

  >>> linf(jnp.array([0.0, 0.0]), jnp.array([3.0, -4.0]))
  Array(4., dtype=float32)
  """
  x, y = comparable(x, y)
  return jnp.max(absolute(x - y), initial=0)


def lp(
  x: Float[Array, " d"], y: Float[Array, " d"], *, p: float | int
) -> Float[Array, ""]:
  """(Σ_j |x_j - y_j|^p)^(1/p): a metric for p >= 1.

  The gradient is 0 at coincident points, and 0 in coordinates that are equal.

  >>> lp(jnp.array([0.0, 0.0]), jnp.array([3.0, -4.0]), p=1)
  Array(7., dtype=float32)
  """
  x, y = comparable(x, y)
  return _lp(x[None], y[None], True, p=p)[0, 0]


def angular(x: Float[Array, " d"], y: Float[Array, " d"]) -> Float[Array, ""]:
  """The angle between x and y in radians, in [0, π]; π/2 if a vector is zero.

  >>> angular(jnp.array([1.0, 0.0]), jnp.array([0.0, 2.0]))
  Array(1.5707964, dtype=float32)
  """
  x, y = comparable(x, y)
  return _angular(x[None], y[None], True)[0, 0]


def snr(
  x: Float[Array, " d"], y: Float[Array, " d"], *, epsilon: float = 1e-8
) -> Float[Array, ""]:
  """Var_j(x - y) / (Var_j(x) + ε): the noise that y adds to x, not symmetric.

  ε keeps the value finite if all coordinates of x are equal.

  >>> snr(jnp.array([0.0, 2.0, 4.0]), jnp.array([1.0, 2.0, 3.0]))
  Array(0.25, dtype=float32)
  """
  x, y = comparable(x, y)
  return jnp.var(x - y) / (jnp.var(x) + epsilon)


def _bounds(**bounds: Any) -> Callable[[str, int], float | None]:
  """The bound of each normalization: a number, or a function of dimension."""

  def bound(normalize: str, dim: int) -> float | None:
    value = bounds.get(normalize)
    return value(dim) if callable(value) else value

  return bound


def _constant(value: float) -> Callable[[str, int], float | None]:
  """The same bound for every normalization and dimension."""
  return lambda normalize, dim: value


class Metric(NamedTuple):
  """A distance in two forms that agree, and its properties.

  pointwise: maps (x [d], y [d]) to a scalar.
  matrix: maps (x [n, d], y [m, d], exact) to [n, m]; its keywords are options.
  is_distance: whether it is at least 0, and 0 from x to itself.
  is_symmetric: whether it is the same from x to y as from y to x.
  of_differences: whether it depends on x - y alone, so that a common shift of
    all points changes nothing.
  learned: if the metric has a learned factor L, the name of the metric that it
    equals between Lx and Ly.
  bound: maps (normalization, dimension) to the largest possible distance, or to
    None if there is none.
  from_squared: computes the distance from |x - y|².
  on_sphere: whether `from_squared` needs unit vectors.
  """

  pointwise: Callable[..., Array]
  matrix: Callable[..., Array]
  is_distance: bool = True
  is_symmetric: bool = True
  of_differences: bool = False
  learned: str | None = None
  bound: Callable[[str, int], float | None] = lambda normalize, dim: None
  from_squared: Callable[[np.ndarray], np.ndarray] | None = None
  on_sphere: bool = False


METRICS: dict[str, Metric] = {
  # On the unit L2 sphere |x - y|₁ <= √d |x - y|₂ <= 2√d.
  "l1": Metric(
    l1,
    _l1,
    of_differences=True,
    bound=_bounds(l1=2.0, l2=lambda dim: 2.0 * math.sqrt(dim)),
  ),
  "l2": Metric(
    l2,
    _l2,
    of_differences=True,
    bound=_bounds(l1=2.0, l2=2.0),
    from_squared=np.sqrt,
  ),
  "squared_l2": Metric(
    squared_l2,
    _squared_l2,
    of_differences=True,
    bound=_bounds(l1=4.0, l2=4.0),
    from_squared=lambda squared: squared,
  ),
  "lp": Metric(lp, _lp, of_differences=True),
  "linf": Metric(
    linf, _linf, of_differences=True, bound=_bounds(l1=2.0, l2=2.0)
  ),
  "cosine": Metric(
    cosine,
    _cosine,
    bound=_constant(2.0),
    from_squared=lambda squared: squared / 2,
    on_sphere=True,
  ),
  "angular": Metric(angular, _angular, bound=_constant(math.pi)),
  "snr": Metric(snr, _snr, is_symmetric=False),
  "mahalanobis": Metric(mahalanobis, _mahalanobis, learned="l2"),
  "squared_mahalanobis": Metric(
    squared_mahalanobis, _squared_mahalanobis, learned="squared_l2"
  ),
  "dot": Metric(dot, _dot, is_distance=False),
}

# The name of a metric, or a pair of its name and its options: ("lp", {"p": 3}).
MetricName = Named


def split_metric(metric: MetricName) -> tuple[str, dict[str, Any]]:
  """Splits a metric into its name and its options, and checks both.

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

  With `exact`, L2 and cosine subtract before they square, as evaluation does.
  By default they use a matrix product, which is faster and loses digits at
  small distances. Its error in D² is up to about √d·ε·(|x|² + |y|²), where |x|
  and |y| are measured from the center of the points. A D² below that becomes 0,
  with gradient 0: in float32, unit vectors of 128 dimensions that are nearer
  than 1.6e-3 count as one point. An offset common to all points costs no
  digits. L1, Lp and L∞ have only one form, which is exact. A metric with
  options is a pair: `("lp", {"p": 3})`.

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
