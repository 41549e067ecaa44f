"""The facts in each entry of LOSSES: defaults, metrics, numbers, sources."""

import inspect

import jax
import loss_cases as cases
import numpy as np
import pytest

import metric_learning as ml
from tests.quick import quick_jit

# metric (None: its own), normalization, reduction, and the numbers.
DEFAULTS = {
  "contrastive_2005": ("l1", "none", "mean", {"upper_bound": None}),
  "contrastive": ("l2", "none", "mean", {"margin": 1, "half": True}),
  "contrastive_linear": (
    "l2",
    "l2",
    "mean_active",
    {"positive_margin": 0, "negative_margin": 1},
  ),
  "contrastive_double_margin": (
    "l2",
    "none",
    "mean",
    {"positive_margin": 0, "negative_margin": 1},
  ),
  "snr_contrastive": (
    "snr",
    "l2",
    "mean_active",
    {"positive_margin": 0, "negative_margin": 1},
  ),
  "contrastive_caffe_legacy": (
    "l2",
    "none",
    "mean",
    {"margin": 1, "half": True},
  ),
  "margin": (
    "l2",
    "l2",
    "mean_active",
    {"alpha": 0.2, "beta": 1.2, "nu": 0, "over": "pairs", "learn_beta": True},
  ),
  "intra_pair_variance": (
    "cosine",
    "l2",
    "mean",
    {"positive_epsilon": 0.01, "negative_epsilon": 0.01},
  ),
  "tcm": (
    "cosine",
    "l2",
    "mean",
    {
      "positive_weight": 1,
      "negative_weight": 1,
      "positive_margin": 0.9,
      "negative_margin": 0.5,
    },
  ),
  "contrastive_sq_margin": (
    "l2",
    "none",
    "mean",
    {"margin": 1, "half": False},
  ),
  "contrastive_inverse": (
    "l2",
    "none",
    "mean",
    {"floor": 1e-3, "half": True},
  ),
  "pair_bce": ("l1", "none", "mean", {"scale": 1, "bias": 0}),
  "pair_regression": ("cosine", "l2", "mean", {}),
  "triplet": ("squared_l2", "l2", "mean_active", {"margin": 0.2}),
  "triplet_semihard": ("squared_l2", "l2", "mean", {"margin": 0.2}),
  "triplet_batch_hard": ("l2", "none", "mean", {"margin": 0.2}),
  "triplet_soft": ("l2", "none", "mean", {"margin": 0}),
  "triplet_swap": ("l2", "l2", "mean_active", {"margin": 0.05}),
  "triplet_ratio": ("l2", "none", "mean", {}),
  "triplet_dynamic_soft": (
    "l2",
    "l2",
    "mean",
    {"low": -2, "high": 2, "num_bins": 10, "momentum": 0.01},
  ),
  "quadruplet": ("l2", "none", "mean", {"margin": 1, "second_margin": 0.5}),
  "angular": ("cosine", "l2", "mean", {"angle": np.radians(40)}),
  "lifted_hard": ("l2", "none", "mean", {"margin": 1, "positive_margin": 0}),
  "lifted": ("l2", "none", "mean", {"margin": 1, "positive_margin": 0}),
  "lifted_generalized": (
    "l2",
    "l2",
    "mean",
    {"positive_margin": 0, "negative_margin": 1},
  ),
  "tuplet_margin": (
    "cosine",
    "l2",
    "mean",
    {"margin": np.deg2rad(5.73), "scale": 64},
  ),
  "npair": ("dot", "none", "mean", {"regularization": 0.002}),
  "nca": ("squared_l2", "none", "mean", {"scale": 1, "expected": False}),
  "nce": ("l2", "none", "mean", {"temperature": 1, "log_partition": 0}),
  "soft_nn": ("squared_l2", "none", "mean", {"temperature": 1}),
  "infonce": ("cosine", "l2", "mean", {"temperature": 0.07}),
  "ntxent": ("cosine", "l2", "mean", {"temperature": 0.5}),
  "infonce_per_pair": ("cosine", "l2", "mean", {"temperature": 0.07}),
  "infonce_all": ("cosine", "l2", "mean", {"temperature": 0.07}),
  "supcon": ("cosine", "l2", "mean", {"temperature": 0.1}),
  "dcl": ("cosine", "l2", "mean", {"temperature": 0.1}),
  "debiased": (
    "cosine",
    "l2",
    "mean",
    {"temperature": 0.5, "positive_prior": 0.1},
  ),
  "hard_negative": (
    "cosine",
    "l2",
    "mean",
    {"temperature": 0.5, "positive_prior": 0.1, "concentration": 1},
  ),
  "multi_similarity": (
    "cosine",
    "l2",
    "mean",
    {"alpha": 2, "beta": 50, "base": 0.5},
  ),
  "circle": ("cosine", "l2", "mean", {"margin": 0.4, "gamma": 80}),
  "ranked_list": (
    "l2",
    "l2",
    "mean",
    {
      "margin": 0.4,
      "center": 1,
      "positive_temperature": 0,
      "negative_temperature": 10,
      "balance": 0.5,
    },
  ),
  "siglip": ("cosine", "l2", "mean", {"scale": 10, "bias": -10}),
  "histogram": ("cosine", "l2", "mean", {"num_bins": 100}),
  "fastap": ("squared_l2", "l2", "mean", {"num_bins": 10}),
  "smooth_ap": (
    "cosine",
    "l2",
    "mean",
    {"temperature": 0.01, "include_self": False},
  ),
  "pnp": (
    "cosine",
    "l2",
    "mean",
    {
      "temperature": 0.01,
      "variant": "O",
      "alpha": 1,
      "b": 2,
      "include_self": False,
    },
  ),
  "cross_entropy": (None, "none", "mean", {"label_smoothing": 0}),
  "norm_softmax": ("cosine", "l2", "mean", {"temperature": 0.05}),
  "proxy_nca": (
    "squared_l2",
    "l2",
    "mean",
    {"scale": 1, "include_positive": False},
  ),
  "proxy_nca_pp": ("squared_l2", "l2", "mean", {"temperature": 1 / 9}),
  "proxy_anchor": ("cosine", "l2", "mean", {"alpha": 32, "margin": 0.1}),
  "soft_triple": (
    "cosine",
    "l2",
    "mean",
    {
      "scale": 20,
      "gamma": 0.1,
      "margin": 0.01,
      "regularization": 0,
      "num_centers": 10,
    },
  ),
  "center": (None, "none", "mean", {"weight": 0.003, "rate": 0.5}),
  "manifold": (
    None,
    "l2",
    "mean",
    {"num_proxies": 50, "alpha": 0.8, "margin": 5e-4, "context_weight": 1},
  ),
  "l_softmax": (
    None,
    "none",
    "mean",
    {"margin": 4, "scale": 1, "annealing": 0},
  ),
  "sphereface": (
    None,
    "none",
    "mean",
    {"margin": 4, "scale": 1, "annealing": 0},
  ),
  "cosface": ("cosine", "l2", "mean", {"margin": 0.35, "scale": 64}),
  "arcface": ("cosine", "l2", "mean", {"margin": 0.5, "scale": 64}),
  "arcface_subcenter": (
    "cosine",
    "l2",
    "mean",
    {"margin": 0.5, "scale": 64, "num_centers": 3},
  ),
  "p2sgrad": ("cosine", "l2", "mean", {}),
  "instance": ("cosine", "l2", "mean", {"gamma": 64}),
  "vicreg": (
    None,
    "none",
    "mean",
    {"invariance": 25, "variance": 25, "covariance": 1},
  ),
  "barlow": (None, "none", "mean", {"off_diagonal": 0.005}),
}


def test_defaults_are_those_of_the_source():
  assert set(DEFAULTS) == set(ml.LOSSES)
  for loss, (metric, normalize, reduction, numbers) in DEFAULTS.items():
    assert cases.defaults(loss) == (metric, normalize, reduction), loss
    hyper = ml.LOSSES[loss].hyper
    assert {name: hyper[name] for name in numbers} == numbers, loss


OWN_GEOMETRY = (
  "cross_entropy",
  "center",
  "manifold",
  "l_softmax",
  "sphereface",
  "vicreg",
  "barlow",
)
COSINE_ONLY = (
  "angular",
  "tuplet_margin",
  "multi_similarity",
  "circle",
  "intra_pair_variance",
  "tcm",
  "proxy_anchor",
  "soft_triple",
  "cosface",
  "arcface",
  "arcface_subcenter",
  "p2sgrad",
  "instance",
)
ANY = set(ml.METRICS) - {"dot"}


def allowed_metrics(loss):
  """The metrics that the definition of a loss allows."""
  if loss in OWN_GEOMETRY:
    return set()
  if loss in COSINE_ONLY:
    return {"cosine"}
  if loss.startswith(
    ("contrastive", "triplet", "lifted", "margin", "ranked_list")
  ):
    return ANY
  others = {
    "siglip": {"cosine", "dot"},
    "snr_contrastive": {"snr"},
    "quadruplet": ANY - {"snr"},
    "pair_regression": ANY,
  }
  return others.get(loss, ANY | {"dot"})


def test_allowed_metrics():
  for loss, entry in ml.LOSSES.items():
    assert set(entry.metrics) == allowed_metrics(loss), loss


def test_every_loss_says_where_it_comes_from():
  for loss, entry in ml.LOSSES.items():
    assert entry.source, loss
    assert inspect.getdoc(entry.terms), loss


@pytest.mark.parametrize(
  ("metric", "normalize", "bound"),
  [
    ("l1", "l1", 2.0),
    ("l1", "l2", 2 * np.sqrt(cases.DIM)),
    ("l2", "l2", 2.0),
  ],
)
def test_upper_bound_follows_from_the_space(metric, normalize, bound, x64):
  x, labels = cases.batch("balanced", "contrastive_2005")
  value = quick_jit(cases.value_of("contrastive_2005", metric, normalize))(
    {}, {}, x, labels
  )
  expected = cases.oracle(
    "contrastive_2005",
    {"upper_bound": bound},
    {},
    x,
    labels,
    metric=metric,
    normalize=normalize,
  )
  np.testing.assert_allclose(value, expected, rtol=1e-9)


def test_upper_bound_is_asked_for_where_nothing_bounds():
  with pytest.raises(ml.InputError, match="upper_bound"):
    ml.make_objective("contrastive_2005", normalize="none")


@pytest.mark.parametrize("loss", ["histogram", "fastap"])
@pytest.mark.parametrize(
  ("metric", "normalize", "bound"),
  [
    ("cosine", "none", 2.0),
    ("squared_l2", "l2", 4.0),
    ("l1", "l2", 2 * np.sqrt(cases.DIM)),
  ],
)
def test_range_of_a_histogram_follows_from_the_space(
  loss, metric, normalize, bound, x64
):
  x, labels = cases.batch("balanced", loss)
  value = quick_jit(cases.value_of(loss, metric, normalize, value_range=None))(
    {}, {}, x, labels
  )
  options = {"metric": metric, "normalize": normalize}
  static = {"value_range": (0.0, bound)}
  expected = cases.oracle(loss, {}, {}, x, labels, static=static, **options)
  np.testing.assert_allclose(value, expected, rtol=1e-9)


@pytest.mark.parametrize("metric", ["l2", "dot", "mahalanobis"])
def test_range_of_a_histogram_is_asked_for_where_nothing_bounds(metric):
  with pytest.raises(ml.InputError, match="value_range"):
    ml.make_objective("histogram", metric, "none")


@pytest.mark.parametrize(
  ("loss", "options", "match"),
  [
    ("histogram", {"num_bins": 0}, "num_bins"),
    ("fastap", {"value_range": (1.0, 1.0)}, "value_range"),
    ("pnp", {"variant": "Dx"}, "variant"),
    ("pnp", {"include_self": True, "metric": "dot"}, "include_self"),
    ("smooth_ap", {"include_self": True, "metric": "dot"}, "include_self"),
    ("debiased", {"positive_prior": 1.0}, "positive_prior"),
    ("siglip", {"similarity": "dot"}, "similarity"),
    ("triplet_dynamic_soft", {"low": 1.0, "high": 0.5}, "low and high"),
    ("circle", {"gamma": 0.0}, "gamma"),
  ],
)
def test_numbers_and_names_that_a_loss_refuses(loss, options, match):
  with pytest.raises(ml.InputError, match=match):
    ml.make_objective(loss, **options)


@pytest.mark.parametrize("metric", ["l2", "dot"])
def test_debiased_without_a_largest_distance_has_no_floor(metric, x64):
  """Without normalization, s has no smallest value."""
  x, labels = cases.batch("unbalanced", "debiased")
  hyper = {"temperature": 0.7, "positive_prior": 0.4}
  value_of = cases.value_of("debiased", metric, "none")
  both = quick_jit(jax.value_and_grad(value_of, argnums=2))
  value, slopes = both(hyper, {}, x, labels)
  expected = cases.oracle(
    "debiased",
    {**hyper, "upper_bound": None},
    {},
    x,
    labels,
    metric=metric,
    normalize="none",
  )
  np.testing.assert_allclose(value, expected, rtol=1e-9)
  assert np.isfinite(slopes).all()


@pytest.mark.slow
def test_initial_parameters():
  key = jax.random.key(0)
  init = lambda loss, metric=None, **hyper: ml.make_objective(
    loss, metric, **hyper
  ).init(key, num_classes=3, embedding_dim=2)

  assert init("triplet") == {}
  np.testing.assert_array_equal(
    init("triplet", "mahalanobis")["metric"]["factor"], np.eye(2)
  )
  weighted = init("pair_bce", scale=3.0, bias=0.5)["loss"]
  assert set(weighted) == {"log_weights", "bias"}
  np.testing.assert_allclose(np.exp(weighted["log_weights"]), [3, 3], rtol=1e-6)
  assert weighted["bias"] == 0.5
  single = init("pair_bce", "l2", scale=3.0, bias=0.5)["loss"]
  assert set(single) == {"log_scale", "bias"}
  np.testing.assert_allclose(np.exp(single["log_scale"]), 3, rtol=1e-6)
  assert init("nce", log_partition=2.0)["loss"] == {"log_partition": 2.0}
  sigmoid = init("siglip")["loss"]
  assert set(sigmoid) == {"log_scale", "bias"}
  np.testing.assert_allclose(np.exp(sigmoid["log_scale"]), 10, rtol=1e-6)
  assert sigmoid["bias"] == -10
  for loss in cases.CLASSIFICATION:
    if loss == "center":
      assert init(loss) == {}  # centers are state
      continue
    shape = init(loss)["loss"]["weights"].shape
    centers = ml.LOSSES[loss].hyper.get("num_centers")
    classes = ml.LOSSES[loss].hyper.get("num_proxies", 3)
    assert shape == ((classes, centers, 2) if centers else (classes, 2))
  biases = init("cross_entropy")["loss"]["biases"]
  np.testing.assert_array_equal(biases, np.zeros(3))
