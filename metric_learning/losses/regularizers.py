"""Regularizers: one number computed from embeddings or from class weights.

They use neither labels nor the distance of an objective. Each is a pure
function, whose value and gradient are finite wherever its argument is.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from metric_learning.distances import (
  absolute,
  l2_normalize,
  pairwise,
  safe_sqrt,
  widen,
)
from metric_learning.intervals import AtLeastOne, Positive, check_options
from metric_learning.rows import ratio
from metric_learning.signatures import kinds


def _rows_and_weights(x: Array, where: Array | None) -> tuple[Array, Array]:
  """The rows in float32 or wider, with zeros for padding, and their weights."""
  x = widen(jnp.asarray(x))
  if where is None:
    return x, jnp.ones(x.shape[0], x.dtype)
  return jnp.where(where[:, None], x, 0), where.astype(x.dtype)


def lp(
  x: Float[Array, "n d"],
  *,
  where: Bool[Array, " n"] | None = None,
  p: AtLeastOne = 2.0,
  power: Positive = 1.0,
) -> Float[Array, ""]:
  """Mean over rows of norm_p(x)^power, p >= 1.

  The rows are embeddings (`where` is False for padding) or class weights. The
  gradient of a zero vector is 0.

  >>> lp(jnp.array([[3.0, 4.0], [0.0, 0.0]]))  # (5 + 0) / 2
  Array(2.5, dtype=float32)

  Source: weight decay of the embeddings; with power 2, Sohn, NIPS 2016.
  """
  check_options("lp", kinds(lp), {"p": p, "power": power})
  x, weight = _rows_and_weights(x, where)
  # Divides by the largest coordinate, which cancels and so has no gradient.
  scale = jax.lax.stop_gradient(jnp.max(jnp.abs(x), axis=1, initial=0))
  nonzero = scale > 0
  scale = jnp.where(nonzero, scale, 1)
  total = jnp.sum(absolute(x / scale[:, None]) ** p, axis=1)
  norm = scale * jnp.where(nonzero, total, 1) ** (1 / p)
  value = jnp.where(nonzero, norm**power, 0)
  return ratio(jnp.sum(weight * value), jnp.sum(weight))


def zero_mean(
  x: Float[Array, "n d"], *, where: Bool[Array, " n"] | None = None
) -> Float[Array, ""]:
  """Mean over items of |Σ_j x_j|; `where` is False for padding.

  >>> zero_mean(jnp.array([[1.0, -1.0], [1.0, -4.0]]))  # (0 + 3) / 2
  Array(1.5, dtype=float32)

  Source: Yuan et al., CVPR 2019 (arXiv 1904.02616), for the SNR distance.
  """
  x, weight = _rows_and_weights(x, where)
  value = absolute(jnp.sum(x, axis=1))
  return ratio(jnp.sum(weight * value), jnp.sum(weight))


def center_invariant(weights: Float[Array, "c d"]) -> Float[Array, ""]:
  """Mean over classes of (|w_c|² - mean |w|²)² / 4, of raw class weights.

  >>> center_invariant(jnp.array([[1.0], [3.0]]))  # ((1 - 5)² + (9 - 5)²) / 8
  Array(4., dtype=float32)

  Source: Wu et al., ACM Multimedia Workshops 2017, "Deep face recognition with
  center invariant loss".
  """
  squares = jnp.sum(widen(jnp.asarray(weights)) ** 2, axis=1)
  count = jnp.asarray(squares.size, squares.dtype)
  deviation = squares - ratio(jnp.sum(squares), count)
  return ratio(jnp.sum(deviation**2) / 4, count)


def regular_face(weights: Float[Array, "c d"]) -> Float[Array, ""]:
  """Mean over classes of the largest cosine to another class weight.

  The choice of that class has no gradient; ties take the lowest class. A single
  class gives 0. It stores C² numbers.

  >>> regular_face(jnp.array([[1.0, 0.0], [3.0, 4.0], [0.0, -1.0]]))
  Array(0.4, dtype=float32)

  Source: Zhao, Xu, Cheng, CVPR 2019, "RegularFace".
  """
  unit = l2_normalize(widen(jnp.asarray(weights)))
  classes = unit.shape[0]
  if classes < 2:
    return jnp.zeros((), unit.dtype)
  distances = pairwise("dot", *[jax.lax.stop_gradient(unit)] * 2)
  itself = jnp.eye(classes, dtype=bool)
  nearest = jnp.argmin(jnp.where(itself, jnp.inf, distances), axis=1)
  return jnp.sum(unit * unit[nearest]) / classes


def sparse_centers(centers: Float[Array, "c k d"]) -> Float[Array, ""]:
  """Σ √(2 - 2cos) / (2 · pairs), over unordered pairs of centers of a class.

  This is half the mean distance on the sphere. It makes superfluous centers of
  a class merge. Equal centers have gradient 0. With one center per class, the
  value is 0.

  >>> jax.jit(sparse_centers)(jnp.array([[[1.0, 0.0], [-2.0, 0.0]]]))  # √4 / 2
  Array(1., dtype=float32)

  Source: Qian et al., ICCV 2019 (arXiv 1909.05235), SoftTriple, section 3.3.
  """
  centers = widen(jnp.asarray(centers))
  classes, number, _ = centers.shape
  pairs = classes * number * (number - 1) // 2
  if not pairs:
    return jnp.zeros((), centers.dtype)
  cosine = jax.vmap(lambda x: pairwise("cosine", x, x, exact=True))(centers)
  above = jnp.triu(jnp.ones((number, number), bool), 1)
  # 2 - 2cos is twice the cosine distance.
  return jnp.sum(jnp.where(above, safe_sqrt(2 * cosine), 0)) / (2 * pairs)


REGULARIZERS: dict[str, Callable[..., Array]] = {
  "lp": lp,
  "zero_mean": zero_mean,
  "center_invariant": center_invariant,
  "regular_face": regular_face,
  "sparse_centers": sparse_centers,
}
