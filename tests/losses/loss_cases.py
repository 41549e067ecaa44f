"""Batches, hyperparameters and compiled losses that tests share."""

import functools
import math

import jax
import jax.numpy as jnp
import loss_oracles
import numpy as np

import metric_learning as ml
from tests.quick import quick_jit

N, DIM, CLASSES = 12, 3, 5

# Two settings of the numbers of each loss; all of them may be traced. A new
# loss is tested at its defaults until it has its own line here.
SETTINGS = {
  "contrastive_2005": [{"upper_bound": 2.0}, {"upper_bound": 7.0}],
  "contrastive": [{"margin": 1.0}, {"margin": 2.5}],
  "contrastive_linear": [
    {"positive_margin": 0.0, "negative_margin": 1.0},
    {"positive_margin": 0.3, "negative_margin": 1.7},
  ],
  "contrastive_double_margin": [
    {"positive_margin": 0.0, "negative_margin": 1.0},
    {"positive_margin": 0.3, "negative_margin": 1.7},
  ],
  "snr_contrastive": [
    {"positive_margin": 0.0, "negative_margin": 1.0},
    {"positive_margin": 0.3, "negative_margin": 2.7},
  ],
  "contrastive_sq_margin": [{"margin": 1.0}, {"margin": 2.5}],
  "contrastive_caffe_legacy": [{"margin": 1.0}, {"margin": 2.5}],
  "contrastive_inverse": [{"floor": 1e-3}, {"floor": 0.8}],
  "margin": [{"alpha": 0.2, "nu": 0.05}, {"alpha": 0.5, "nu": 0.3}],
  "intra_pair_variance": [
    {"positive_epsilon": 0.01, "negative_epsilon": 0.01},
    {"positive_epsilon": 0.3, "negative_epsilon": 0.2},
  ],
  "tcm": [
    {
      "positive_weight": 1.0,
      "negative_weight": 1.0,
      "positive_margin": 0.9,
      "negative_margin": 0.5,
    },
    {
      "positive_weight": 0.5,
      "negative_weight": 3.0,
      "positive_margin": 0.7,
      "negative_margin": 0.1,
    },
  ],
  "pair_bce": [{}],
  "pair_regression": [{}],
  "triplet": [{"margin": 0.2}, {"margin": 1.1}],
  "triplet_semihard": [{"margin": 0.2}, {"margin": 1.1}],
  "triplet_batch_hard": [{"margin": 0.2}, {"margin": 1.1}],
  "triplet_soft": [{"margin": 0.0}, {"margin": 1.1}],
  "triplet_swap": [{"margin": 0.05}, {"margin": 1.1}],
  "triplet_ratio": [{}],
  # Without an edge of a bin at v = 0, where points coincide.
  "triplet_dynamic_soft": [
    {"low": -1.9, "high": 2.3, "momentum": 0.01},
    {"low": -0.65, "high": 0.9, "momentum": 0.4},
  ],
  "quadruplet": [
    {"margin": 1.0, "second_margin": 0.5},
    {"margin": 0.3, "second_margin": 0.1},
  ],
  "angular": [{"angle": math.radians(40)}, {"angle": 0.5}],
  "lifted_hard": [
    {"margin": 1.0, "positive_margin": 0.0},
    {"margin": 2.5, "positive_margin": 0.3},
  ],
  "lifted": [
    {"margin": 1.0, "positive_margin": 0.0},
    {"margin": 2.5, "positive_margin": 0.3},
  ],
  "lifted_generalized": [
    {"positive_margin": 0.0, "negative_margin": 1.0},
    {"positive_margin": 0.3, "negative_margin": 1.7},
  ],
  "tuplet_margin": [
    {"margin": 0.1, "scale": 64.0},
    {"margin": 0.4, "scale": 5.0},
  ],
  "npair": [{"regularization": 0.002}, {"regularization": 0.5}],
  "nca": [{"scale": 1.0}, {"scale": 3.0}],
  "soft_nn": [{"temperature": 1.0}, {"temperature": 0.3}],
  "nce": [{"temperature": 1.0}, {"temperature": 0.3}],
  "infonce": [{"temperature": 0.07}, {"temperature": 0.5}],
  "ntxent": [{"temperature": 0.5}, {"temperature": 0.1}],
  "infonce_per_pair": [{"temperature": 0.07}, {"temperature": 0.5}],
  "infonce_all": [{"temperature": 0.07}, {"temperature": 0.5}],
  "supcon": [{"temperature": 0.1}, {"temperature": 0.5}],
  "dcl": [{"temperature": 0.1}, {"temperature": 0.5}],
  "debiased": [
    {"temperature": 0.5, "positive_prior": 0.1, "upper_bound": 2.0},
    {"temperature": 0.7, "positive_prior": 0.4, "upper_bound": 1.0},
  ],
  "hard_negative": [
    {
      "temperature": 0.5,
      "positive_prior": 0.1,
      "upper_bound": 2.0,
      "concentration": 1.0,
    },
    {
      "temperature": 0.7,
      "positive_prior": 0.4,
      "upper_bound": 1.0,
      "concentration": 0.3,
    },
  ],
  "multi_similarity": [
    {"alpha": 2.0, "beta": 50.0, "base": 0.5},
    {"alpha": 3.0, "beta": 7.0, "base": 0.2},
  ],
  "circle": [{"margin": 0.4, "gamma": 80.0}, {"margin": 0.2, "gamma": 7.0}],
  "ranked_list": [
    {
      "margin": 0.4,
      "center": 1.0,
      "positive_temperature": 0.0,
      "negative_temperature": 10.0,
      "balance": 0.5,
    },
    {
      "margin": 0.7,
      "center": 1.15,
      "positive_temperature": 2.0,
      "negative_temperature": 3.0,
      "balance": 0.3,
    },
  ],
  "siglip": [{}],
  "histogram": [{}],
  "fastap": [{}],
  "smooth_ap": [{"temperature": 0.01}, {"temperature": 0.3}],
  "pnp": [
    {"temperature": 0.01, "alpha": 1.0, "b": 2.0},
    {"temperature": 0.3, "alpha": 0.5, "b": 3.0},
  ],
  "cross_entropy": [{"label_smoothing": 0.0}, {"label_smoothing": 0.2}],
  "norm_softmax": [
    {"temperature": 0.05, "label_smoothing": 0.0},
    {"temperature": 0.5, "label_smoothing": 0.2},
  ],
  "proxy_nca": [{"scale": 1.0}, {"scale": 3.0}],
  "proxy_nca_pp": [
    {"temperature": 1 / 9, "label_smoothing": 0.0},
    {"temperature": 0.7, "label_smoothing": 0.2},
  ],
  "proxy_anchor": [
    {"alpha": 32.0, "margin": 0.1},
    {"alpha": 4.0, "margin": 0.3},
  ],
  "soft_triple": [
    {
      "scale": 20.0,
      "gamma": 0.1,
      "margin": 0.01,
      "regularization": 0.0,
      "label_smoothing": 0.0,
    },
    {
      "scale": 5.0,
      "gamma": 0.4,
      "margin": 0.2,
      "regularization": 0.6,
      "label_smoothing": 0.2,
    },
  ],
  "center": [{"weight": 0.003, "rate": 0.5}, {"weight": 2.0, "rate": 0.1}],
  "manifold": [
    {"alpha": 0.8, "margin": 5e-4, "context_weight": 1.0},
    {"alpha": 0.5, "margin": 0.02, "context_weight": 2.5},
  ],
  "l_softmax": [
    {"scale": 1.0, "annealing": 0.0, "label_smoothing": 0.0},
    {"scale": 3.0, "annealing": 5.0, "label_smoothing": 0.2},
  ],
  "sphereface": [
    {"scale": 1.0, "annealing": 0.0, "label_smoothing": 0.0},
    {"scale": 3.0, "annealing": 5.0, "label_smoothing": 0.2},
  ],
  "cosface": [
    {"margin": 0.35, "scale": 64.0, "label_smoothing": 0.0},
    {"margin": 0.1, "scale": 5.0, "label_smoothing": 0.2},
  ],
  "arcface": [
    {"margin": 0.5, "scale": 64.0, "label_smoothing": 0.0},
    {"margin": 1.2, "scale": 5.0, "label_smoothing": 0.2},
  ],
  "arcface_subcenter": [
    {"margin": 0.5, "scale": 64.0, "label_smoothing": 0.0},
    {"margin": 1.2, "scale": 5.0, "label_smoothing": 0.2},
  ],
  "p2sgrad": [{}],
  "instance": [{"gamma": 64.0}, {"gamma": 2.0}],
  "vicreg": [
    {"invariance": 25.0, "variance": 25.0, "covariance": 1.0},
    {"invariance": 2.0, "variance": 7.0, "covariance": 3.0},
  ],
  "barlow": [{"off_diagonal": 0.005}, {"off_diagonal": 0.7}],
}
# What selects code and is not the default.
STATIC = {
  "manifold": {"num_proxies": CLASSES},
  "l_softmax": {"margin": 4},
  "sphereface": {"margin": 4},
  # For every metric, without an edge of a bin at distance 0.
  "histogram": {"value_range": (-1.1, 4.0)},
  "fastap": {"value_range": (-1.1, 4.0)},
}
# What some losses keep from batch to batch, as an earlier batch left it.
STATES = {
  "triplet_dynamic_soft": {
    "histogram": np.array([1, 3, 2, 5, 9, 8, 7, 7, 4, 3, 1]) / 50
  },
  "center": {
    "centers": 0.4 * np.random.default_rng(8).normal(size=(CLASSES, DIM))
  },
}
VARIANTS = [
  ("contrastive", None, {"half": False}),
  ("contrastive_sq_margin", None, {"half": True}),
  ("contrastive_caffe_legacy", None, {"half": False}),
  ("contrastive_inverse", None, {"half": False}),
  ("margin", None, {"per_class": True}),
  ("margin", None, {"learn_beta": False}),
  ("margin", None, {"over": "triplets"}),
  ("margin", None, {"over": "triplets", "per_class": True}),
  ("pair_bce", "l1", {"weighted": False}),
  ("pair_regression", "cosine", {"similarity": "cosine"}),
  ("pair_regression", "cosine", {"similarity": "exp"}),
  ("nca", None, {"expected": True}),
  ("infonce", None, {"symmetric": True}),
  ("proxy_nca", None, {"include_positive": True}),
  ("soft_triple", None, {"num_centers": 1}),
  ("soft_triple", None, {"num_centers": 2}),
  ("manifold", None, {"num_proxies": 3}),
  ("l_softmax", None, {"margin": 1}),
  ("l_softmax", None, {"margin": 3}),
  ("arcface_subcenter", None, {"num_centers": 1}),
  ("histogram", None, {"num_bins": 7}),
  ("fastap", None, {"num_bins": 23}),
  ("smooth_ap", None, {"include_self": True}),
  ("pnp", None, {"variant": "Ds"}),
  ("pnp", None, {"variant": "Dq"}),
  ("pnp", None, {"variant": "Iu"}),
  ("pnp", None, {"variant": "Ib"}),
  ("pnp", None, {"include_self": True}),
  ("sphereface", None, {"margin": 1}),
  ("sphereface", None, {"margin": 3}),
]
# Losses that meet each class at most twice.
PAIRED = ("infonce", "ntxent", "instance", "vicreg", "barlow")
# Losses that meet a class table, which takes no references and no affinity.
CLASSIFICATION = (
  "cross_entropy",
  "norm_softmax",
  "proxy_nca",
  "proxy_nca_pp",
  "proxy_anchor",
  "soft_triple",
  "center",
  "manifold",
  "l_softmax",
  "sphereface",
  "cosface",
  "arcface",
  "arcface_subcenter",
  "p2sgrad",
)

LABELS = {
  "balanced": [0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3],
  "unbalanced": [4, 0, 0, 1, 0, 2, 3, 0, 1, 0, 1, 1],
  "duplicates": [0, 0, 1, 1, 2, 2, 0, 1, 2, 3, 3, 3],
}
PAIRED_LABELS = {
  "balanced": [0, 1, 2, 3, 4, 5, 5, 4, 3, 2, 1, 0],
  "unbalanced": [0, 9, 2, 3, 3, 4, 5, 2, 6, 7, 8, 0],
  "duplicates": [0, 1, 2, 3, 4, 5, 5, 4, 3, 2, 1, 0],
}


def batch(kind, loss, n=N):
  """Raw embeddings and labels of one kind of batch."""
  labels = (PAIRED_LABELS if loss in PAIRED else LABELS)[kind]
  seed = sorted(LABELS).index(kind)
  x = 0.6 * np.random.default_rng(seed).normal(size=(N, DIM))
  if kind == "duplicates":
    x[1], x[2], x[11] = x[0], x[0], x[8]
  return x[:n], np.array(labels[:n])


def defaults(loss):
  """Metric (None: the loss's own geometry), normalization and reduction."""
  entry = ml.LOSSES[loss]
  metric = entry.metric if entry.metrics else None
  return metric, entry.normalize, entry.reduction


def settings(loss):
  return SETTINGS.get(loss, [{}])


# Each program takes half a second to compile. What a loss does not do itself,
# such as normalizing, reducing or widening, is tested on one of each kind.
ONE_OF_EACH_KIND = (
  "contrastive",
  "contrastive_linear",
  "margin",
  "tcm",
  "pair_bce",
  "triplet",
  "triplet_swap",
  "triplet_batch_hard",
  "triplet_dynamic_soft",
  "quadruplet",
  "angular",
  "lifted",
  "npair",
  "nce",
  "supcon",
  "infonce",
  "siglip",
  "histogram",
  "fastap",
  "smooth_ap",
  "cross_entropy",
  "sphereface",
  "arcface",
  "proxy_anchor",
  "soft_triple",
  "center",
  "vicreg",
)
# What is not the loss's at all, but the objective's: one of each way to arrange
# anchors and candidates, to project them, and to keep a state.
A_FEW = (
  "contrastive",
  "pair_bce",
  "triplet_dynamic_soft",
  "npair",
  "infonce",
  "arcface",
  "proxy_anchor",
  "soft_triple",
  "center",
  "vicreg",
)
# A loss sees distances alone: one that computes some itself meets every metric,
# rows of items and of a class table one of each kind (that learns, that is not
# symmetric, that has options), the others their own.
UNDER_EVERY_METRIC = ("triplet_swap",)
UNDER_SOME = {
  name: ("l1", "cosine", "mahalanobis", "snr", "lp")
  for name in ("contrastive", "proxy_nca")
}


def metrics(loss):
  """The metrics to test a loss under; None if it has its own geometry."""
  entry = ml.LOSSES[loss]
  if not entry.metrics:
    return [None]
  others = entry.metrics if loss in UNDER_EVERY_METRIC else UNDER_SOME.get(loss)
  if others is None:
    return [entry.metric]
  every = dict.fromkeys((entry.metric, *others))
  return [("lp", {"p": 3}) if m == "lp" else m for m in every]


PRODUCT = [(loss, metric) for loss in ml.LOSSES for metric in metrics(loss)]


def params(loss, metric=None, static=()):
  """Parameters that differ from their initial values, in float64."""
  # Metrics with options have no hash, and learn nothing.
  return _params(loss, metric if isinstance(metric, str) else None, static)


@functools.cache
def _params(loss, metric, static):
  hyper = {**settings(loss)[0], **STATIC.get(loss, {}), **dict(static)}
  objective = ml.make_objective(loss, metric, **hyper)
  initial = objective.init(
    jax.random.key(0), num_classes=CLASSES, embedding_dim=DIM
  )
  generator = np.random.default_rng(7)
  return jax.tree.map(
    lambda leaf: np.asarray(leaf) + 0.3 * generator.normal(size=leaf.shape),
    initial,
  )


def state(loss, x):
  """The state of a loss, as wide as it computes; None for most losses."""
  if loss not in STATES:
    return None
  wide = jnp.promote_types(x.dtype, jnp.float32)
  return jax.tree.map(lambda leaf: jnp.asarray(leaf, wide), STATES[loss])


def value_of(loss, metric=None, normalize=None, reduction=None, **static):
  """`(hyper, params, x, labels, **keywords) -> value` of an objective."""
  static = {"block_size": None, **STATIC.get(loss, {}), **static}

  def value(hyper, params, x, labels, **keywords):
    objective = ml.make_objective(
      loss, metric, normalize, reduction, **static, **hyper
    )
    return objective(params, x, labels, state=state(loss, x), **keywords)[0]

  return value


def compiled(loss, metric=None, static=(), block_size=None):
  """Value and gradient w.r.t. (hyper, params, x), compiled for all tests.

  Call it as `(hyper, params, x, labels, where)`, with x64 enabled.
  """
  # A metric with options has no hash.
  make = _compiled if isinstance(metric, str | None) else _compiled.__wrapped__
  # One program for a metric that is named and for the same one by default.
  metric = None if metric == defaults(loss)[0] else metric
  return make(loss, metric, static, block_size)


@functools.cache
def _compiled(loss, metric, static, block_size):
  value = value_of(loss, metric, block_size=block_size, **dict(static))

  def masked(hyper, params, x, labels, where):
    return value(hyper, params, x, labels, where=where)

  return quick_jit(jax.value_and_grad(masked, argnums=(0, 1, 2)))


def oracle(
  loss, hyper, params, x, labels, *, metric=None, static=None, **options
):
  """The value of the oracle, under the defaults of the loss unless given."""
  own, normalize, reduction = defaults(loss)
  hyper = {**hyper, **STATIC.get(loss, {}), **(static or {})}
  if loss == "pair_regression" and "similarity" not in hyper:
    # The default: a cosine is read as one, any other distance by exp(-D).
    cosine = (metric or own) == "cosine"
    hyper["similarity"] = "cosine01" if cosine else "exp"
  options = {"normalize": normalize, "reduction": reduction, **options}
  options.setdefault("state", STATES.get(loss))
  return loss_oracles.loss(
    loss,
    x,
    labels,
    metric=metric or own,
    params=params,
    hyper=hyper,
    **options,
  )


def all_true():
  return np.ones(N, bool)


def check_slopes(function, point, gradients, directions=4):
  """Compares gradients with finite differences of `function`.

  `function` takes a tree of arrays. Differences are along random directions,
  which mix all coordinates, so that each shows a single wrong coordinate.
  """
  leaves, tree = jax.tree.flatten(point)
  leaves = [np.asarray(leaf, np.float64) for leaf in leaves]
  generator = np.random.default_rng(11)
  for _ in range(directions):
    direction = [generator.normal(size=leaf.shape) for leaf in leaves]
    expected = loss_oracles.numeric_slope(
      lambda *moved: function(*jax.tree.unflatten(tree, moved)),
      leaves,
      direction,
    )
    products = [
      np.sum(v * np.asarray(g))
      for v, g in zip(direction, jax.tree.leaves(gradients), strict=True)
    ]
    size = np.sum(np.abs(products))
    np.testing.assert_allclose(
      np.sum(products), expected, rtol=1e-5, atol=1e-7 * size + 1e-8
    )
