"""Values that can be checked with pencil and paper."""

import functools

import jax
import jax.numpy as jnp
import loss_cases as cases
import numpy as np
import pytest
from numpy import e, exp, log, log1p, sqrt

import metric_learning as ml
from metric_learning.losses import nce_from_logits
from tests.quick import quick_jit

pytestmark = pytest.mark.usefixtures("x64")


SIZE = (9, 2)


@functools.cache
def jitted(loss, names):
  return quick_jit(cases.value_of(loss, **dict(names)))


def padded(x, labels, size):
  """Points of at least this size: small batches share a program."""
  x, labels = np.asarray(x, np.float64), np.asarray(labels)
  rows, columns = (
    max(0, least - there) for least, there in zip(size, x.shape, strict=True)
  )
  where = np.arange(len(x) + rows) < len(x)
  x = np.pad(x, ((0, rows), (0, columns)))
  return x, np.pad(labels, (0, rows)), where


def evaluate(loss, x, labels, params=None, **options):
  """The value of one batch; options are names, numbers, or both."""
  numbers = {k: v for k, v in options.items() if isinstance(v, float)}
  names = {k: v for k, v in options.items() if k not in numbers}
  names, params = not_default(loss, names), params or {}
  # All numbers are given: those of a test alone would be another program.
  default = ml.LOSSES[loss].hyper
  numbers = {k: default[k] for k in cases.settings(loss)[0]} | numbers
  static = known_static(loss, names)
  if static is not None and can_share(loss, x, params, numbers, static):
    batch = padded(x, labels, (cases.N, cases.DIM))
    value, _ = cases.compiled(loss, static=static)(numbers, params, *batch)
  else:
    x, labels, where = padded(x, labels, SIZE)
    # What the other tests of a loss choose is its default here.
    names = {k: default[k] for k in cases.STATIC.get(loss, {})} | names
    run = jitted(loss, tuple(sorted(names.items())))
    value = run(numbers, params, x, labels, where=where)
  return float(value)


def not_default(loss, names):
  """The names that say another thing than the loss does by default."""
  entry = ml.LOSSES[loss]
  metric, normalize, reduction = cases.defaults(loss)
  own = {"metric": metric, "normalize": normalize, "reduction": reduction}
  own |= {name: entry.hyper[name] for name in entry.static}
  return {k: v for k, v in names.items() if k not in own or own[k] != v}


def known_static(loss, names):
  """Which variant of the other tests of a loss has these names; or None."""
  variants = [
    s for name, metric, s in cases.VARIANTS if (name, metric) == (loss, None)
  ]
  for static in ({}, *variants):
    if not_default(loss, cases.STATIC.get(loss, {}) | static) == names:
      return tuple(static.items())
  return None


def can_share(loss, x, params, numbers, static):
  """Whether the program of the other tests of a loss can compute this."""
  shapes = lambda tree: jax.tree.map(np.shape, tree)
  shape = np.shape(x)
  return (
    len(shape) == 2
    and shape[0] <= cases.N
    # More coordinates, all zero: the same points. Not the same statistics.
    and (
      shape[1] == cases.DIM
      or (shape[1] < cases.DIM and (cases.defaults(loss)[0] or "snr") != "snr")
    )
    and shapes(params) == shapes(cases.params(loss, static=static))
    and set(numbers) == set(cases.settings(loss)[0])
    and None not in numbers.values()
  )


def near(expected, digits=6):
  return pytest.approx(expected, abs=0.6 * 10**-digits)


# --- collapsed batch ---------------------------------------------------------

COLLAPSED = [(4, 2), (3, 3)]
#                      metric  normalise  numbers             C=4,K=2   C=3,K=3
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
# Loss, options, the hyper-parameters that are the batch's margin, line, circle.
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
  """Whatever the reduction, and for each anchor."""
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
  """A pair at D = β - α is active or not by rounding: β on both sides."""
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
  """The cross-entropy of a logit that this many others are ahead of."""
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
def test_l_softmax_normalises_nothing(table_length):
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
  # Class 0 at cosines 1 and 0, class 1 at 0 and 0; centres 90° apart.
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


def test_the_nearest_sub_centre_counts():
  params = {"weights": np.eye(4)[[[0, 1], [2, 3]]]}
  x = np.array([[3.0, 4.0, 0, 0]]) / 5
  numbers = {"margin": 0.0, "scale": 2.0, "num_centers": 2}
  value = evaluate("arcface_subcenter", x, [0], {"loss": params}, **numbers)
  assert value == near(log1p(exp(-2 * 0.8)))


@pytest.mark.slow
def test_equal_sub_centres_can_part():
  """The first of equal centres has the whole gradient, the second none."""
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


# --- potentials ---------------------------------------------------------------


@functools.cache
def jitted_pair_loss():
  names = ("name", "reduction", "half", "similarity")
  return quick_jit(ml.pair_loss, static_argnames=names)


def pair_loss(name, distances, **keywords):
  return jitted_pair_loss()(name, distances, **keywords)


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
  """Two free points at D = 1e-3, rate .01: steps until D >= .5."""
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
  # A centre is state, and does not know these classes.
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
  """Three positives and one negative: the mean of means, not of all four."""
  distances = jnp.array([1.0, 1.0, 1.0, 0.5])
  same = jnp.array([True, True, True, False])
  split = pair_loss("contrastive_linear", distances, same=same)
  assert float(split) == near(1.0 + 0.5)
  joined = pair_loss("contrastive", distances, same=same)
  assert float(joined) == near((3 * 0.5 + 0.5 * 0.25) / 4)


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
