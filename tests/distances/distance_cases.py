"""Distances by SciPy and by this package, for comparison."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from scipy.spatial.distance import cdist

import metric_learning as ml
from tests.quick import quick_jit

METRICS = sorted(ml.METRICS)
FACTOR = np.array([[2.0, 0.5, 0.0], [0.0, 1.0, -1.0], [0.0, 0.0, 0.5]])
# "yes" cells of the reference: which axioms hold for all points.
AXIOMS = {
  "l1": {"non_negative", "identity", "symmetry", "triangle"},
  "l2": {"non_negative", "identity", "symmetry", "triangle"},
  "squared_l2": {"non_negative", "identity", "symmetry"},
  "cosine": {"non_negative", "symmetry"},
  "dot": {"symmetry"},
  "mahalanobis": {"non_negative", "identity", "symmetry", "triangle"},
  "squared_mahalanobis": {"non_negative", "identity", "symmetry"},
  "lp": {"non_negative", "identity", "symmetry", "triangle"},
  "linf": {"non_negative", "identity", "symmetry", "triangle"},
  "angular": {"non_negative", "symmetry", "triangle"},
  "snr": {"non_negative"},
}


def scipy_distances(metric, x, y, factor):
  x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
  if metric == "dot":
    return -(x @ y.T)
  if metric in ("mahalanobis", "squared_mahalanobis"):
    matrix = cdist(x, y, "mahalanobis", VI=factor.T @ factor)
    return matrix**2 if metric == "squared_mahalanobis" else matrix
  if metric == "lp":
    return cdist(x, y, "minkowski", p=3)
  if metric == "angular":
    return np.arccos(np.clip(1 - cdist(x, y, "cosine"), -1, 1))
  if metric == "snr":
    noise = np.var(x[:, None] - y[None], axis=2)
    return noise / (np.var(x, axis=1)[:, None] + 1e-8)
  names = {
    "linf": "chebyshev",
    "l1": "cityblock",
    "l2": "euclidean",
    "squared_l2": "sqeuclidean",
    "cosine": "cosine",
  }
  return cdist(x, y, names[metric])


def options(metric, d=3, dtype=np.float64):
  """The keywords of a metric that has parameters."""
  if metric == "lp":
    return {"p": 3}
  if metric not in ("mahalanobis", "squared_mahalanobis"):
    return {}
  factor = np.eye(d)
  factor[:3, :3] = FACTOR
  return {"factor": jnp.asarray(factor, dtype)}


def matrix_of(metric, x, y, *, exact=False, p=None, **factor):
  """`ml.pairwise` with the options of a metric, besides its parameters."""
  named = metric if p is None else (metric, {"p": p})
  return ml.pairwise(named, x, y, exact=exact, **factor)


def points(n, d, seed=0):
  return np.random.default_rng(seed).normal(size=(n, d))


pairwise = quick_jit(matrix_of, static_argnames=("metric", "exact", "p"))
normalized = quick_jit(
  lambda name, x: ml.NORMALIZATIONS[name](x), static_argnames="name"
)
# More than one group of rows, of columns and of features, none of them full.
X, Y, WEIGHTS = points(19, 37), points(35, 37, seed=1), points(19, 35, seed=2)


def forms(metric, factor):
  """The ways to compute a distance matrix, by name."""
  one = lambda a, b: ml.METRICS[metric].pointwise(a, b, **factor)
  of_matrix = functools.partial(matrix_of, metric, **factor)
  return {
    "product": of_matrix,
    "exact": functools.partial(of_matrix, exact=True),
    "pointwise": jax.vmap(jax.vmap(one, (None, 0)), (0, None)),
  }


@functools.cache
def computed(metric):
  """For each form, the distances of X and Y, and gradients of their sum.

  WEIGHTS weigh the sum. All float64 tests share this one program.
  """

  @quick_jit
  def everything(x, y, weights):
    found = {}
    for name, form in forms(metric, options(metric, X.shape[1])).items():
      matrix, pull = jax.vjp(form, x, y)
      found[name] = matrix, pull(weights)
    return found

  with jax.enable_x64(True):
    return jax.device_get(everything(X, Y, WEIGHTS))


def scipy_of(metric, x, y):
  factor = options(metric, X.shape[1], np.float32).get("factor")
  return scipy_distances(metric, x, y, np.asarray(factor))


@functools.cache
def in_float32(metric):
  """From 9 points with 8 features to distances and gradients of their sum.

  For each form; the gradients are with respect to both sides.
  """
  factor = options(metric, 8, np.float32)

  @quick_jit
  def everything(x, y):
    found = {}
    for name, form in forms(metric, factor).items():
      matrix, pull = jax.vjp(form, x, y)
      found[name] = matrix, pull(jnp.ones_like(matrix))
    return found

  return lambda x: jax.device_get(everything(x, x))
