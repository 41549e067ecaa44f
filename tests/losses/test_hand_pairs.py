"""Pair potentials and losses, checked by hand."""

import functools

import jax
import jax.numpy as jnp
import loss_cases as cases
import numpy as np
import pytest
from hand_values import evaluate, near, pair_loss
from numpy import exp

import metric_learning as ml
from tests.quick import quick_jit

pytestmark = pytest.mark.usefixtures("x64")

# --- potentials ---------------------------------------------------------------


@functools.cache
def value_and_slope(name, same, half=None):
  """A pair potential of a distance, and its derivative."""
  static = {} if half is None else {"half": half}

  def value(distance, **hyper):
    pairs = {"same": jnp.array([same]), **static, **hyper}
    return ml.pair_loss(name, distance[None], **pairs)

  return quick_jit(jax.value_and_grad(value))


def potential(name, distance, same, half=None, **hyper):
  value, _ = value_and_slope(name, same, half)(jnp.float64(distance), **hyper)
  return float(value)


def slope(name, distance, same, half=None, **hyper):
  _, slope = value_and_slope(name, same, half)(jnp.float64(distance), **hyper)
  return float(slope)


@pytest.mark.parametrize("Q", [2.0, 100.0])
def test_the_curve_of_2005(Q):
  curve = functools.partial(potential, "contrastive_2005", upper_bound=Q)
  crossing = {2.0: 1.001295, 100.0: 50.064760}[Q]
  end = {2.0: 0.250648, 100.0: 12.532401}[Q]
  assert curve(Q / 2, True) == near(Q / 2)
  assert curve(Q / 2, False) == near(crossing)
  assert curve(0.0, False) == near(2 * Q)
  assert curve(Q, True) == near(2 * Q)
  assert curve(Q, False) == near(end)
  steepness = functools.partial(slope, "contrastive_2005", upper_bound=Q)
  assert steepness(0.0, False) == near(-5.54)
  assert steepness(Q / 4, True) == near(1.0)  # 4E/Q


# Dissimilar pairs without the factor ½, m = 1, Q = 2.
REPELLING = {
  "contrastive": {"half": False, "margin": 1.0},
  "contrastive_sq_margin": {"half": False, "margin": 1.0},
  "contrastive_linear": {"negative_margin": 1.0},
  "contrastive_2005": {"upper_bound": 2.0},
  "contrastive_inverse": {"floor": 1e-4},
}


@pytest.mark.parametrize(
  ("name", "expected"),
  [
    ("contrastive", 1.998),
    ("contrastive_sq_margin", 0.002),
    ("contrastive_linear", 1.0),
    ("contrastive_2005", 5.5323),
    ("contrastive_inverse", 1e6),
  ],
)
def test_slope_of_the_repulsion_at_a_small_distance(name, expected):
  steepness = slope(name, 1e-3, False, **REPELLING[name])
  assert steepness == pytest.approx(-expected, rel=1e-5)


@pytest.mark.parametrize(
  ("name", "steps"),
  [
    ("contrastive_2005", 7),
    ("contrastive", 17),
    ("contrastive_linear", 25),
    ("contrastive_sq_margin", 159),
  ],
)
def test_steps_out_of_a_near_collapse(name, steps):
  """Two free points at D = 1e-3, with rate .01: the steps until D >= .5."""
  distance, taken = 1e-3, 0
  while distance < 0.5:
    # Both points move.
    distance -= 2 * 0.01 * slope(name, distance, False, **REPELLING[name])
    taken += 1
  assert taken == steps


@pytest.mark.parametrize(
  ("name", "hyper", "end", "expected"),
  [
    # D(t) = (D0³ + 6t)^(1/3)
    ("contrastive_inverse", {"floor": 1e-3}, 10.0, (0.5**3 + 60) ** (1 / 3)),
    # D(t) = m - (m - D0) e^(-2t)
    ("contrastive", {"margin": 1.0}, 1.0, 1 - 0.5 * exp(-2)),
  ],
)
def test_gradient_flow_of_two_free_points(name, hyper, end, expected):
  def loss(points):
    distance = ml.METRICS["l2"].pointwise(*points)
    same = jnp.array([False])
    return ml.pair_loss(name, distance[None], same=same, **hyper)

  count = 2000
  step = lambda points, _: (points - end / count * jax.grad(loss)(points), None)
  start = jnp.array([[0.0, 0.0], [0.3, 0.4]])
  flow = quick_jit(lambda x: jax.lax.scan(step, x, length=count)[0])
  points = flow(start)
  distance = np.linalg.norm(points[0] - points[1])
  assert distance == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("name", ml.PAIR_POTENTIALS)
def test_flipping_same_raises_the_loss_of_separated_pairs(name):
  distances = jnp.array([0.05, 0.1, 1.5, 1.9])
  same = jnp.array([True, True, False, False])
  hyper = {"upper_bound": 2.0} if name == "contrastive_2005" else {}
  if name == "pair_bce":
    hyper = {"bias": 1.0}
  right = pair_loss(name, distances, same=same, **hyper)
  wrong = pair_loss(name, distances, same=~same, **hyper)
  assert wrong > 2 * right


# What is semi-hard is nearly right: wrong labels leave nothing of it.
@pytest.mark.parametrize(
  "loss",
  # A center is state, and does not know these classes.
  [name for name in ml.LOSSES if name not in ("triplet_semihard", "center")],
)
def test_wrong_labels_raise_the_loss_of_separated_classes(loss):
  items = 2 if loss in cases.PAIRED else 3
  right = np.repeat(np.arange(4), items)
  wrong = np.tile(np.arange(4), items)
  angles = right * np.pi / 2 + 0.02 * np.tile(np.arange(items), 4)
  x = 1.3 * np.stack([np.cos(angles), np.sin(angles), 0 * angles], axis=1)
  table = 4 * np.array(
    [[1, 0, 0], [0, 1, 0], [-1, 0, 0], [0, -1, 0], [0, 0, 1]]
  )
  params = cases.params(loss)
  if loss in cases.CLASSIFICATION:
    learned = {"weights": table.astype(float), "biases": np.zeros(5)}
    centers = ml.LOSSES[loss].hyper.get("num_centers")
    if centers:
      learned["weights"] = np.stack([learned["weights"]] * centers, axis=1)
    params = {"loss": {name: learned[name] for name in params["loss"]}}
  # Numbers that follow from others are given: one program for each loss.
  options = cases.STATIC.get(loss, {}) | {
    name: number
    for name, number in cases.settings(loss)[0].items()
    if ml.LOSSES[loss].hyper[name] is None
  }
  if loss == "contrastive_2005":
    options["upper_bound"] = 4.0
  low, high = (evaluate(loss, x, c, params, **options) for c in (right, wrong))
  assert high > low + 0.01


def test_pair_loss_on_explicit_pairs():
  distances = jnp.array([0.5, 2.0, 0.25])
  same = jnp.array([True, False, False])
  each = pair_loss(
    "contrastive", distances, same=same, margin=1.0, reduction="none"
  )
  expected = np.array([0.125, 0.0, 0.5 * 0.75**2])
  np.testing.assert_allclose(each, expected)
  for reduction, value in {
    "mean": expected.mean(),
    "sum": expected.sum(),
    "mean_active": expected.sum() / 2,
  }.items():
    got = pair_loss("contrastive", distances, same=same, reduction=reduction)
    assert float(got) == near(value)


def test_pair_loss_with_targets():
  # Cosine distances .5 and 1.5: g = (1 + s)/2 = .75 and .25.
  distances, targets = jnp.array([0.5, 1.5]), jnp.array([1.0, 0.5])
  value = pair_loss("pair_regression", distances, targets=targets)
  assert float(value) == near((0.25**2 + 0.25**2) / 2)
  cosine = pair_loss(
    "pair_regression", distances, targets=targets, similarity="cosine"
  )
  assert float(cosine) == near((0.5**2 + 1.0**2) / 2)
  kernel = pair_loss(
    "pair_regression", distances, targets=targets, similarity="exp"
  )
  expected = ((exp(-0.5) - 1) ** 2 + (exp(-1.5) - 0.5) ** 2) / 2
  assert float(kernel) == near(expected)


def test_positive_and_negative_parts_are_reduced_apart():
  """Three positives, one negative: the mean of two means, not of all four."""
  distances = jnp.array([1.0, 1.0, 1.0, 0.5])
  same = jnp.array([True, True, True, False])
  split = pair_loss("contrastive_linear", distances, same=same)
  assert float(split) == near(1.0 + 0.5)
  joined = pair_loss("contrastive", distances, same=same)
  assert float(joined) == near((3 * 0.5 + 0.5 * 0.25) / 4)
