"""Values that can be checked by hand."""

import functools

import jax
import jax.numpy as jnp
import loss_cases as cases
import numpy as np
import pytest
from hand_values import evaluate, near, pair_loss
from numpy import e, exp, log, log1p, sqrt

import metric_learning as ml
from metric_learning.losses import nce_from_logits
from tests.quick import quick_jit

pytestmark = pytest.mark.usefixtures("x64")

# --- collapsed batch ---------------------------------------------------------

COLLAPSED = [(4, 2), (3, 3)]
#                      metric  normalize  numbers             C=4,K=2   C=3,K=3
COLLAPSED_VALUES = [
  ("contrastive_2005", {"upper_bound": 2.0}, 3.428571, 3.000000),
  ("contrastive", {"margin": 1.0}, 0.428571, 0.375000),
  ("contrastive_sq_margin", {"margin": 1.0}, 0.857143, 0.750000),
  ("contrastive_caffe_legacy", {"margin": 1.0}, 0.428571, 0.375000),
  (
    "contrastive_linear",
    {"positive_margin": 0.0, "negative_margin": 1.0, "reduction": "mean"},
    1.0,
    1.0,
  ),
  ("margin", {"learn_beta": False}, 1.4, 1.4),
  ("margin", {"learn_beta": False, "over": "triplets"}, 1.4, 1.4),
  ("intra_pair_variance", {}, 0.0, 0.0),
  ("tcm", {}, 0.5, 0.5),
  ("triplet_soft", {"margin": 0.0}, 0.693147, 0.693147),
  ("triplet_ratio", {}, 0.5, 0.5),
  ("triplet_swap", {"margin": 0.2}, 0.2, 0.2),
  ("quadruplet", {}, 1.5, 1.5),
  ("angular", {}, 4.034148, 4.034148),
  ("triplet", {"margin": 0.2}, 0.2, 0.2),
  ("triplet", {"margin": 0.2, "metric": "l2"}, 0.2, 0.2),
  ("triplet", {"margin": 0.2, "reduction": "mean"}, 0.2, 0.2),
  ("triplet", {"margin": 0.2, "reduction": "per_anchor_mean"}, 0.2, 0.2),
  ("triplet_batch_hard", {"margin": 0.2}, 0.2, 0.2),
  ("triplet_semihard", {"margin": 0.2}, 0.0, 0.0),
  ("lifted_hard", {"margin": 1.0}, 0.5, 0.5),
  ("lifted", {"margin": 1.0}, 6.072287, 6.072287),
  ("lifted_generalized", {}, 2.791759, 3.484907),
  ("tuplet_margin", {}, 2.225807, 2.225807),
  ("npair", {"regularization": 0.0}, 1.386294, 1.098612),
  ("npair", {"regularization": 0.5}, 1.386294 + 0.5, 1.098612 + 0.5),
  ("nca", {"scale": 1.0}, 1.945910, 1.386294),
  ("nca", {"expected": True}, -1 / 7, -2 / 8),
  ("soft_nn", {}, 1.945910, 1.386294),
  ("infonce_per_pair", {"temperature": 0.5}, 1.945910, 1.945910),
  ("infonce_all", {"temperature": 0.5}, 1.945910, 2.079442),
  ("supcon", {"temperature": 0.5}, 1.945910, 2.079442),
  ("dcl", {}, 1.791759, 1.791759),
  ("debiased", {}, 1.945910, 1.945910),
  ("hard_negative", {}, 1.945910, 1.945910),
  ("multi_similarity", {}, 0.692466, 0.811558),
  ("circle", {}, 56.191759, 56.884907),
  ("ranked_list", {}, 0.6, 0.6),
  ("histogram", {"value_range": None}, 1.0, 1.0),
  ("fastap", {"value_range": None}, 0.857143, 0.75),
  ("smooth_ap", {}, 0.75, 0.666667),
  ("pnp", {}, 3.0, 3.0),
  ("pnp", {"include_self": True}, 3.0, 3.0),
]


@pytest.mark.parametrize(
  ("loss", "options", "four", "three"),
  [case for case in COLLAPSED_VALUES if case[0] in ml.LOSSES],
)
def test_collapsed_batch(loss, options, four, three):
  for (classes, items), expected in zip(COLLAPSED, (four, three), strict=True):
    labels = np.tile(np.arange(classes), items)
    x = np.tile([[1.0, 0.0]], (len(labels), 1))
    assert evaluate(loss, x, labels, **options) == near(expected)


@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.slow
def test_collapsed_views(classes):
  labels = np.tile(np.arange(classes), 2)
  x = np.tile([[0.6, 0.8]], (len(labels), 1))
  assert evaluate("infonce", x, labels) == near(log(classes))
  assert evaluate("infonce", x, labels, symmetric=True) == near(log(classes))
  assert evaluate("ntxent", x, labels) == near(log(2 * classes - 1))
  assert evaluate("instance", x, labels) == near(log(classes))
  assert evaluate("vicreg", x, labels) == near(24.75)
  assert evaluate("barlow", x, labels) == near(2)  # the dimension


@pytest.mark.parametrize("as_references", [False, True])
def test_views_by_hand(as_references):
  """z = z' = identity: variance ½ and covariance -½, correlation ±1."""
  if as_references:
    evaluate_views = lambda loss: quick_jit(cases.value_of(loss))(
      {}, {}, np.eye(2), np.arange(2), references=np.eye(2)[::-1],
      reference_labels=np.array([1, 0]),
    )  # fmt: skip
  else:
    x, labels = np.tile(np.eye(2), (2, 1)), [0, 1, 0, 1]
    evaluate_views = lambda loss: evaluate(loss, x, labels)
  assert float(evaluate_views("vicreg")) == near(7.820563)
  assert float(evaluate_views("barlow")) == near(2 * 0.005)


def test_vicreg_pulls_views_together():
  # Two items at 0 and 1, their views 1 farther: a mean square of 1. In each
  # view the variance is ½.
  x, labels = [[0.0, 0.0], [1.0, 0.0], [1.0, 0.0], [2.0, 0.0]], [0, 1, 0, 1]
  only = {"variance": 0.0, "covariance": 0.0}
  assert evaluate("vicreg", x, labels, invariance=3.0, **only) == near(1.5)
  floor = (1 - sqrt(0.5 + 1e-4) + 1 - sqrt(1e-4)) / 2
  weights = {"invariance": 0.0, "variance": 2.0, "covariance": 9.0}
  assert evaluate("vicreg", x, labels, **weights) == near(2 * floor)


def test_views_of_one_pair_say_nothing():
  for loss in ("vicreg", "barlow"):
    assert evaluate(loss, [[1.0, 0.0], [0.0, 1.0]], [0, 0]) == 0


@pytest.mark.parametrize(
  ("classes", "items", "expected"), [(4, 2, 5.545177), (3, 3, 6.238325)]
)
@pytest.mark.slow
def test_collapsed_sigmoid(classes, items, expected):
  """Scale 10 and bias -10: each candidate adds log 2."""
  params = ml.make_objective("siglip").init(jax.random.key(0))
  labels = np.tile(np.arange(classes), items)
  x = np.tile([[0.6, 0.8]], (len(labels), 1))
  two_views = quick_jit(cases.value_of("siglip"))(
    {}, params, x, labels, references=x, reference_labels=labels
  )
  assert float(two_views) == near(expected)
  within = evaluate("siglip", x, labels, params)
  assert within == near(expected - log(2))


def test_noise_contrastive_estimation_at_the_truth():
  estimate = quick_jit(nce_from_logits)
  zeros = np.zeros((3, 1))  # p = q, k = 1
  assert float(estimate(zeros[:, 0], zeros)) == near(2 * log(2))
  logits = -log(4) * np.ones((3, 4))  # p = q, k = 4
  value = float(estimate(logits[:, 0], logits))
  assert value == near(log(5) + 4 * log(1.25)) == near(2.502012)


def test_noise_contrastive_estimation_by_hand():
  # Logits 1 for data, (0, 2) for noise: two data, two noise samples each.
  data, noise = np.ones(2), np.array([[0.0, 2.0], [0.0, 2.0]])
  expected = log1p(1 / e) + log(2) + log1p(e**2)
  value = quick_jit(nce_from_logits)(data, noise)
  assert float(value) == near(expected)


# --- two small batches -------------------------------------------------------

LINE = np.array([[0.0], [1.0], [3.0], [5.0]])
LINE_LABELS = np.array([0, 0, 1, 1])
DEGREES = np.array([0, 40, 60, 75, 160]) * np.pi / 180
CIRCLE = np.stack([np.cos(DEGREES), np.sin(DEGREES)], axis=1)
CIRCLE_LABELS = np.array([0, 0, 0, 1, 1])

MARGIN = {"line": 4.0, "circle": 1.0}
ALPHA = {"line": 2.0, "circle": 0.2}
# Loss, options, the hyperparameters that are the batch's margin, line, circle.
BOTH = [
  ("contrastive", {}, ("margin",), 5 / 6, 0.205957),
  ("contrastive_sq_margin", {}, ("margin",), 4.0, 0.498437),
  ("contrastive_caffe_legacy", {}, ("margin",), 5 / 12, 0.249219),
  (
    "contrastive_linear",
    {"positive_margin": 0.0},
    ("negative_margin",),
    3.0,
    1.414397,
  ),
  (
    "contrastive_linear",
    {"positive_margin": 0.0, "reduction": "mean"},
    ("negative_margin",),
    2.25,
    1.035219,
  ),
  ("contrastive_2005", {"upper_bound": 2.0}, (), 0.888838, 1.101350),
  ("triplet", {"metric": "l2", "reduction": "mean"}, "α", 0.5, 0.227804),
  (
    "triplet",
    {"metric": "l2", "reduction": "mean_active"},
    "α",
    4 / 3,
    0.585781,
  ),
  ("triplet", {"reduction": "mean"}, "α", 0.25, 0.325300),
  ("triplet", {}, "α", 2.0, 0.975899),
  ("triplet_batch_hard", {}, "α", 0.75, 0.506159),
  ("triplet_swap", {"reduction": "mean"}, "α", 1.0, 0.453486),
  ("triplet_swap", {}, "α", 4 / 3, 0.680229),
  ("triplet_soft", {}, (), 0.211106, 0.604657),
  ("triplet_ratio", {}, (), 0.106975, 0.416581),
  ("lifted_hard", {}, ("margin",), 6.25, 1.218073),
  ("lifted", {}, ("margin",), 7.887547, 2.768298),
  (
    "lifted_generalized",
    {"positive_margin": 0.0},
    ("negative_margin",),
    2.970095,
    2.114799,
  ),
  ("npair", {"regularization": 0.0}, (), 0.346577, 0.645790),
  ("nca", {}, (), 0.186360, 0.891917),
  ("nca", {"expected": True}, (), -0.862638, -0.518299),
]


@pytest.mark.parametrize(
  ("loss", "options", "margins", "line", "circle"),
  [case for case in BOTH if case[0] in ml.LOSSES],
)
def test_line_and_circle(loss, options, margins, line, circle):
  options = {"normalize": "none", **options}
  for name, x, labels, expected in (
    ("line", LINE, LINE_LABELS, line),
    ("circle", CIRCLE, CIRCLE_LABELS, circle),
  ):
    if margins == "α":
      numbers = {"margin": ALPHA[name]}
    else:
      numbers = {margin: MARGIN[name] for margin in margins}
    assert evaluate(loss, x, labels, **options, **numbers) == near(expected)


@pytest.mark.parametrize(
  ("loss", "options", "expected"),
  [
    ("infonce_per_pair", {"temperature": 0.5}, 0.948253),
    (
      "infonce_per_pair",
      {"temperature": 0.5, "reduction": "per_anchor_mean"},
      1.082269,
    ),
    ("infonce_all", {"temperature": 0.5}, 1.266095),
    ("supcon", {"temperature": 0.5}, 1.336542),
    ("soft_nn", {"temperature": 0.5}, 1.101206),
    ("dcl", {"temperature": 0.5}, 0.291906),
    ("multi_similarity", {}, 0.740654),
    ("circle", {}, 55.795665),
    ("ranked_list", {"negative_temperature": 0.0}, 0.380866),
    ("tuplet_margin", {}, 9.429087),
    ("angular", {}, 1.774736),
    ("tcm", {}, 0.841472),
    ("intra_pair_variance", {}, 0.290569),
    ("histogram", {"value_range": None}, 1 / 3),
    ("fastap", {"value_range": None}, 0.324015),
    ("smooth_ap", {}, 0.264807),
    ("pnp", {}, 0.892744),
    ("pnp", {"include_self": True}, 0.500507),
  ],
)
def test_circle_under_cosine(loss, options, expected):
  value = evaluate(loss, CIRCLE, CIRCLE_LABELS, **options)
  assert value == near(expected)


@pytest.mark.slow
def test_histogram_of_a_batch_is_one_value():
  """The same value for every reduction, and for each anchor."""
  for reduction in ("sum", "mean_active", "per_anchor_mean"):
    options = {"value_range": None, "reduction": reduction}
    value = evaluate("histogram", CIRCLE, CIRCLE_LABELS, **options)
    assert value == near(1 / 3)


def test_largest_distance_of_a_histogram_falls_into_the_last_bin():
  x = np.array([[1.0, 0.0], [-1.0, 0.0], [1.0, 0.0], [-1.0, 0.0]])
  value = evaluate("histogram", x, [0, 0, 1, 1], value_range=None)
  # Positives are opposite, at 2; negatives are at 0 or 2: none is farther.
  assert value == near(1.0)


@pytest.mark.slow
def test_hard_negatives_without_concentration_and_prior():
  x, labels = cases.batch("unbalanced", "hard_negative")
  plain = {"temperature": 0.5, "positive_prior": 0.0, "concentration": 0.0}
  value = evaluate("hard_negative", x, labels, **plain)
  expected = evaluate("infonce_per_pair", x, labels, temperature=0.5)
  assert value == pytest.approx(expected, rel=1e-12)
  value = evaluate("hard_negative", x, labels, concentration=0.0)
  expected = evaluate("debiased", x, labels)
  assert value == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("over", ["pairs", "triplets"])
def test_margin_on_the_line_and_the_circle(over):
  """At D = β - α, rounding decides if a pair is active: β on both sides."""
  circle = {"pairs": (0.617798, 0.494239), "triplets": (0.564475, 0.445638)}
  options = {"learn_beta": False, "normalize": "none", "over": over}
  for x, labels, expected in (
    (LINE, LINE_LABELS, (1.0, 0.5)),
    (CIRCLE, CIRCLE_LABELS, circle[over]),
  ):
    for beta, value in zip((1.2 + 1e-9, 1.2 - 1e-9), expected, strict=True):
      got = evaluate("margin", x, labels, beta=beta, **options)
      assert got == near(value)


def test_the_boundary_of_a_class_by_hand():
  # Positive distances 1 and 2, negative 2, 3, 4, 5; β = 1 and 3 by class.
  params = {"loss": {"beta": np.array([1.0, 3.0])}}
  options = {"normalize": "none", "per_class": True, "reduction": "sum"}
  value = evaluate(
    "margin", LINE, LINE_LABELS, params, alpha=0.5, nu=1.0, **options
  )
  # Class 0: [.5 + 1 - 1]+ twice, no negative nearer than 1.5. Class 1: no
  # positive farther than 2.5; negatives 3, 2 and 5, 4 against 3.5. And Σ β.
  assert value == near(2 * 0.5 + 0.5 + 1.5 + 8)


def test_triplet_ratio_by_hand():
  # One triplet whose distances are 0 and 1: 2σ(-1)².
  x, labels = [[0.0], [0.0], [1.0]], [0, 0, 1]
  value = evaluate("triplet_ratio", x, labels)
  assert value == near(0.144659)


@pytest.mark.slow
def test_signal_to_noise_contrastive_by_hand():
  # d(a, b) = ¼ and d(b, a) = 1, similar: (¼ + 1)/2.
  x = np.array([[0.0, 2.0, 4.0], [1.0, 2.0, 3.0]])
  rows = ml.pairwise("snr", jnp.asarray(x), jnp.asarray(x))
  distances = jnp.array([rows[0, 1], rows[1, 0]])
  same = jnp.array([True, True])
  value = pair_loss("snr_contrastive", distances, same=same)
  assert float(value) == near((0.25 + 1) / 2)


@pytest.mark.slow
def test_quadruplet_by_hand():
  # Three classes on a line; second part of (0, 1): D_nn' = 2 between 4 and 6.
  x, labels = [[0.0], [1.0], [4.0], [6.0]], [0, 0, 1, 2]
  numbers = {"margin": 4.0, "second_margin": 1.5}
  # First part: 1 + 4 less 4, 6 and 3, 5: (1 + 0 + 2 + 0) / 4.
  assert evaluate("quadruplet", x, labels, **numbers) == near(0.75 + 0.5)


def test_semihard_on_the_line():
  # Gaps D_an - D_ap: anchor 0: 2, 4; anchor 1: 1, 3; anchor 3: 1, 0;
  # anchor 5: 3, 2. Strictly inside (0, 2) are two gaps of 1.
  options = {"metric": "l2", "normalize": "none", "margin": 2.0}
  value = evaluate("triplet_semihard", LINE, LINE_LABELS, **options)
  assert value == near(1.0)
  total = evaluate(
    "triplet_semihard", LINE, LINE_LABELS, reduction="sum", **options
  )
  assert total == near(2.0)


def test_infonce_by_hand():
  # Views (0, 3) and (1, 5) under -D: each row has its positive and one other.
  x, labels = np.array([[0.0], [3.0], [1.0], [5.0]]), [0, 1, 0, 1]
  options = {"metric": "l2", "normalize": "none", "temperature": 2.0}
  first = log1p(exp((1 - 5) / 2)) + log1p(exp((2 - 2) / 2))
  second = log1p(exp((1 - 2) / 2)) + log1p(exp((2 - 5) / 2))
  assert evaluate("infonce", x, labels, **options) == near(first / 2)
  both = evaluate("infonce", x, labels, symmetric=True, **options)
  assert both == near((first + second) / 4)


# --- claims ------------------------------------------------------------------


def test_lifted_bounds_its_hard_form_from_above():
  generator = np.random.default_rng(0)
  labels = np.array(cases.LABELS["balanced"])
  hard, smooth = (
    quick_jit(functools.partial(cases.value_of(loss, reduction="none"), {}, {}))
    for loss in ("lifted_hard", "lifted")
  )
  for _ in range(10):
    x = generator.normal(size=(cases.N, cases.DIM))
    assert (smooth(x, labels) > hard(x, labels)).all()


@pytest.mark.slow
def test_infonce_family_agrees_where_each_anchor_has_one_positive():
  x, labels = cases.batch("balanced", "ntxent")
  values = [
    evaluate(loss, x, labels, temperature=0.5)
    for loss in ("ntxent", "supcon", "infonce_per_pair")
  ]
  np.testing.assert_allclose(values, values[0], rtol=1e-12)


@pytest.mark.parametrize("loss", ["contrastive", "contrastive_sq_margin"])
def test_half_is_a_factor(loss):
  x, labels = cases.batch("balanced", loss)
  half, whole = (evaluate(loss, x, labels, half=half) for half in (True, False))
  assert whole == pytest.approx(2 * half, rel=1e-12)


def test_one_is_the_floor_of_supcon_only_where_nothing_repels():
  """One class, one positive: the softmax has one candidate, log 1 = 0."""
  for loss in ("supcon", "ntxent", "infonce", "infonce_per_pair", "nca"):
    value = evaluate(loss, [[1.0, 0.0], [0.0, 1.0]], [0, 0])
    assert value == near(0.0, 12)
