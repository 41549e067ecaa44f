"""Losses with class tables, checked by hand."""

import jax
import jax.numpy as jnp
import loss_cases as cases
import numpy as np
import pytest
from hand_values import evaluate, near
from numpy import e, exp, log, log1p, sqrt

from tests.quick import quick_jit

pytestmark = pytest.mark.usefixtures("x64")

# --- classification ----------------------------------------------------------


def one_item(cosines, length=1.0, table_length=1.0):
  """An item of class 0 with these cosines to the class weights."""
  cosines = np.asarray(cosines)
  x = np.zeros((1, len(cosines) + 1))
  x[0, 0] = length
  sines = np.diag(sqrt(1 - cosines**2))
  weights = table_length * np.concatenate([cosines[:, None], sines], axis=1)
  params = {"weights": weights}
  return x, np.array([0]), params


def ahead_of(classes, by):
  """The cross-entropy of a logit that `classes` other logits exceed by `by`."""
  return log1p(classes * exp(by))


TURNED = 64 * np.sin(0.5)  # from 90° by the margin: -cos(90° + m)


@pytest.mark.parametrize(
  ("loss", "cosine", "options", "expected"),
  [
    ("cross_entropy", 0.3, {}, log(5)),
    ("norm_softmax", 0.3, {"temperature": 0.05}, log(5)),
    ("proxy_nca", 0.3, {"scale": 1.0}, log(4)),
    ("proxy_nca", 0.3, {"include_positive": True}, log(5)),
    ("proxy_nca_pp", 0.3, {}, log(5)),
    ("soft_triple", 0.3, {"num_centers": 2}, log1p(4 * exp(20 * 0.01))),
    ("p2sgrad", 0.0, {}, 1 / 5),
    ("cosface", 0.3, {"margin": 0.35, "scale": 64.0}, ahead_of(4, 64 * 0.35)),
    ("arcface", 0.0, {"margin": 0.5, "scale": 64.0}, ahead_of(4, TURNED)),
    (
      "arcface",
      1.0,
      {"margin": 0.5, "scale": 64.0},
      ahead_of(4, 64 - 64 * np.cos(0.5)),
    ),
    ("arcface_subcenter", 0.0, {"num_centers": 3}, ahead_of(4, TURNED)),
  ],
)
def test_five_classes_at_one_cosine(loss, cosine, options, expected):
  # On a cone around the item, which is the first axis.
  around = 2 * np.pi * np.arange(cases.CLASSES) / cases.CLASSES
  sine = sqrt(1 - cosine**2)
  weights = np.stack(
    [0 * around + cosine, sine * np.cos(around), sine * np.sin(around)], axis=1
  )
  params = {"weights": weights}
  if loss == "cross_entropy":
    params["biases"] = np.zeros(cases.CLASSES)
  if centers := options.get("num_centers"):
    params["weights"] = np.stack([weights] * centers, axis=1)
  x = [[1.0, 0.0, 0.0]]
  value = evaluate(loss, x, [0], {"loss": params}, **options)
  assert value == near(expected)


@pytest.mark.parametrize("table_length", [1.0, 3.0])
@pytest.mark.parametrize(
  ("loss", "length", "options", "expected"),
  [
    ("norm_softmax", 2.0, {"temperature": 0.05}, near(0.000336238, 9)),
    ("cosface", 2.0, {"margin": 0.35, "scale": 64.0}, near(0.0399533, 7)),
    ("arcface", 2.0, {"margin": 0.5, "scale": 64.0}, near(3.673142)),
    ("sphereface", 2.0, {"margin": 4}, near(3.193003)),
    ("proxy_nca", 2.0, {"scale": 1.0}, near(-0.362512)),
    ("proxy_nca", 2.0, {"include_positive": True}, near(0.528229)),
    ("proxy_nca_pp", 2.0, {"temperature": 1 / 9}, near(0.000749677, 9)),
    ("proxy_anchor", 2.0, {"alpha": 32.0, "margin": 0.1}, near(3.431072)),
    ("p2sgrad", 2.0, {}, near(0.07)),
  ],
)
def test_three_classes(loss, length, options, expected, table_length):
  x, labels, params = one_item([0.6, 0.2, -0.1], length, table_length)
  value = evaluate(loss, x, labels, {"loss": params}, **options)
  assert value == expected


@pytest.mark.parametrize("table_length", [1.0, 3.0])
def test_l_softmax_normalizes_nothing(table_length):
  x, labels, params = one_item([0.6, 0.2, -0.1], 2.0, table_length)
  value = evaluate("l_softmax", x, labels, {"loss": params})
  length, psi = 2 * table_length, 8 * 0.6**4 - 8 * 0.6**2 + 1  # cos 4θ
  psi = -psi - 2  # θ in [π/4, π/2]: k = 1
  logits = length * np.array([psi, 0.2, -0.1])
  assert value == near(log(np.sum(exp(logits - logits[0]))))
  if table_length == 1:
    assert value == near(3.193003)


def test_proxy_anchor_has_divisors_of_its_own():
  # Two items of class 0 among four classes, all cosines 0: the positive part
  # is a mean over one class, the negative part over four.
  x = np.array([[1.0, 0, 0], [0, 1.0, 0]])
  params = {"weights": np.tile([0, 0, 1.0], (4, 1))}
  numbers = {"alpha": 2.0, "margin": 0.1}
  value = evaluate("proxy_anchor", x, [0, 0], {"loss": params}, **numbers)
  one = log1p(2 * exp(0.2))
  assert value == near(one + 3 / 4 * one)


def test_soft_triple_by_hand():
  # Class 0 at cosines 1 and 0, class 1 at 0 and 0; centers 90° apart.
  params = {"weights": np.eye(4)[[[0, 1], [2, 3]]]}
  numbers = {"scale": 2.0, "gamma": 1.0, "margin": 0.1, "regularization": 0.0}
  x, options = [[5.0, 0, 0, 0]], {"num_centers": 2}
  value = evaluate(
    "soft_triple", x, [0], {"loss": params}, **numbers, **options
  )
  own = e / (e + 1) - 0.1
  assert value == near(log1p(exp(-2 * own)))
  numbers["regularization"] = 0.5
  more = evaluate("soft_triple", x, [0], {"loss": params}, **numbers, **options)
  assert more - value == near(0.5 * sqrt(2) / 2)


def test_the_nearest_sub_center_counts():
  params = {"weights": np.eye(4)[[[0, 1], [2, 3]]]}
  x = np.array([[3.0, 4.0, 0, 0]]) / 5
  numbers = {"margin": 0.0, "scale": 2.0, "num_centers": 2}
  value = evaluate("arcface_subcenter", x, [0], {"loss": params}, **numbers)
  assert value == near(log1p(exp(-2 * 0.8)))


@pytest.mark.slow
def test_equal_sub_centers_can_part():
  """The first of two equal centers has all of the gradient."""
  params = {"loss": {"weights": jnp.eye(4)[jnp.array([[0, 0], [2, 3]])]}}
  x = jnp.array([[3.0, 4.0, 0, 0]])
  value = cases.value_of("arcface_subcenter", num_centers=2)
  slope = quick_jit(
    jax.grad(lambda params: value({}, params, x, jnp.array([0])))
  )
  first, second = slope(params)["loss"]["weights"][0]
  assert jnp.any(first != 0)
  assert not jnp.any(second != 0)


def test_cross_entropy_by_hand():
  params = {"weights": np.eye(2), "biases": np.array([0.5, 0.0])}
  value = evaluate("cross_entropy", [[2.0, 1.0]], [1], {"loss": params})
  assert value == near(log1p(exp(2.5 - 1)))


@pytest.mark.parametrize(
  ("degrees", "psi"), [(0, 1), (45, -1), (90, -3), (135, -5), (180, -7)]
)
def test_sphereface_angle(degrees, psi):
  # Two classes, the other at a right angle: the loss is log(1 + e^-ψ).
  angle = degrees * np.pi / 180
  x = np.array([[np.cos(angle), np.sin(angle), 0.0]])
  params = {"weights": np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])}
  value = evaluate("sphereface", x, [0], {"loss": params})
  assert value == near(log1p(exp(-psi)))


def test_arcface_beyond_the_last_angle_keeps_falling():
  # θ + m > π: S(cosθ - m sin m), and not S cos(θ + m), which would rise.
  x, labels, params = one_item([-0.95, 0.0])
  value = evaluate("arcface", x, labels, {"loss": params}, scale=1.0)
  own = -0.95 - 0.5 * np.sin(0.5)
  assert value == near(log1p(exp(-own)))
