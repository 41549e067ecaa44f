"""Each loss under each metric against its oracle, in value and gradient."""

import inspect

import jax
import jax.numpy as jnp
import loss_cases as cases
import loss_oracles
import numpy as np
import pytest

import metric_learning as ml
from tests.quick import quick_jit

EVERY = list(ml.LOSSES)
ROWS = [name for name in EVERY if name not in cases.CLASSIFICATION]


def check_value(loss, metric, static=None):
  params = cases.params(loss, metric, tuple((static or {}).items()))
  run = cases.compiled(loss, metric, tuple((static or {}).items()))
  for kind in cases.LABELS:
    x, labels = cases.batch(kind, loss)
    # The product form of a distance is exact to √eps where points coincide.
    near = kind == "duplicates"
    for hyper in cases.settings(loss):
      value, _ = run(hyper, params, x, labels, cases.all_true())
      expected = cases.oracle(
        loss, hyper, params, x, labels, metric=metric, static=static
      )
      np.testing.assert_allclose(
        value, expected, rtol=1e-6 if near else 1e-9, err_msg=f"{kind} {hyper}"
      )


def check_gradient(loss, metric, static=None):
  params = cases.params(loss, metric, tuple((static or {}).items()))
  run = cases.compiled(loss, metric, tuple((static or {}).items()))
  x, labels = cases.batch("unbalanced", loss)
  for hyper in cases.settings(loss):
    _, gradients = run(hyper, params, x, labels, cases.all_true())

    def expected(hyper, params, x):
      return cases.oracle(
        loss, hyper, params, x, labels, metric=metric, static=static
      )

    cases.check_slopes(expected, (hyper, params, x), gradients)


def test_every_loss_has_an_oracle():
  assert set(ml.LOSSES) <= set(loss_oracles.ORACLES)


@pytest.mark.parametrize("loss", EVERY)
def test_every_number_is_tried(loss):
  """The settings of these tests name each hyper-parameter that is a number."""
  entry = ml.LOSSES[loss]
  numbers = set(entry.hyper) - set(entry.static) - set(entry.learned)
  assert set(cases.SETTINGS[loss][0]) == numbers


@pytest.mark.parametrize(("loss", "metric"), cases.PRODUCT)
def test_value_and_gradient(loss, metric, x64):
  check_value(loss, metric)
  check_gradient(loss, metric)


@pytest.mark.parametrize(("loss", "metric", "static"), cases.VARIANTS)
def test_variant(loss, metric, static, x64):
  check_value(loss, metric, static)
  check_gradient(loss, metric, static)


@pytest.mark.parametrize("loss", EVERY)
def test_float32(loss):
  params = cases.params(loss)
  narrow = jax.tree.map(lambda leaf: np.asarray(leaf, np.float32), params)

  @quick_jit
  def value_of(hyper, params, x, labels):
    static = cases.STATIC.get(loss, {})
    value, aux = ml.make_objective(loss, **static, **hyper)(params, x, labels)
    return value, aux.diagnostics

  for kind in ("balanced", "unbalanced"):
    x, labels = cases.batch(kind, loss)
    for hyper in cases.settings(loss):
      x = x.astype(np.float32)
      value, diagnostics = value_of(hyper, narrow, x, labels)
      expected = cases.oracle(loss, hyper, params, x, labels)
      assert value.dtype == jnp.float32
      np.testing.assert_allclose(value, expected, rtol=1e-4, atol=1e-6)
      assert {"positive_distance", "negative_distance"} <= set(diagnostics)
      for number in diagnostics.values():
        assert number.shape == () and np.isfinite(number)


@pytest.mark.parametrize("loss", EVERY)
def test_normalizations(loss, x64):
  others = set(ml.NORMALIZATIONS) - {ml.LOSSES[loss].normalize}
  params, hyper = cases.params(loss), cases.settings(loss)[-1]
  x, labels = cases.batch("unbalanced", loss)

  @quick_jit
  def values(params, x, labels):
    return {
      normalize: cases.value_of(loss, normalize=normalize)(
        hyper, params, x, labels
      )
      for normalize in others
    }

  for normalize, value in values(params, x, labels).items():
    expected = cases.oracle(loss, hyper, params, x, labels, normalize=normalize)
    np.testing.assert_allclose(value, expected, rtol=1e-9, err_msg=normalize)


@pytest.mark.parametrize("loss", EVERY)
def test_reductions(loss, x64):
  others = set(ml.REDUCTIONS) - {ml.LOSSES[loss].reduction}
  params, hyper = cases.params(loss), cases.settings(loss)[-1]

  @quick_jit
  def values(params, x, labels):
    return {
      reduction: cases.value_of(loss, reduction=reduction)(
        hyper, params, x, labels
      )
      for reduction in others
    }

  for kind in ("balanced", "unbalanced"):
    x, labels = cases.batch(kind, loss)
    got = values(params, x, labels)
    assert got["none"].shape == (cases.N,)
    for reduction, value in got.items():
      expected = cases.oracle(
        loss, hyper, params, x, labels, reduction=reduction
      )
      np.testing.assert_allclose(value, expected, rtol=1e-9, err_msg=reduction)


REFERENCE_LABELS = {
  "many": np.array([3, 1, 1, 0, 0, 0, 4]),
  "few": np.array([5, 1, 7, 0, 4, 3, 2]),
}


@pytest.mark.parametrize("loss", ROWS)
def test_references(loss, x64):
  """Anchors meet a gallery: other points, never themselves."""
  few = loss in cases.PAIRED
  params, hyper = cases.params(loss), cases.settings(loss)[-1]
  x, labels = cases.batch("unbalanced", loss)
  if few:  # each class once on each side
    x, labels = x[:6], np.array([0, 9, 2, 3, 5, 4])
  others = 0.6 * np.random.default_rng(5).normal(size=(7, cases.DIM))
  references = {
    "references": others,
    "reference_labels": REFERENCE_LABELS["few" if few else "many"],
  }
  value = quick_jit(cases.value_of(loss))(
    hyper, params, x, labels, **references
  )
  expected = cases.oracle(loss, hyper, params, x, labels, **references)
  np.testing.assert_allclose(value, expected, rtol=1e-9)


def test_references_in_both_directions(x64):
  hyper, params = {"temperature": 0.5}, {}
  x, _ = cases.batch("balanced", "infonce", 6)
  labels = np.arange(6)
  others = 0.6 * np.random.default_rng(5).normal(size=(6, cases.DIM))
  references = {"references": others, "reference_labels": labels[::-1].copy()}
  value = quick_jit(cases.value_of("infonce", symmetric=True))(
    hyper, params, x, labels, **references
  )
  expected = cases.oracle(
    "infonce",
    hyper,
    params,
    x,
    labels,
    static={"symmetric": True},
    **references,
  )
  np.testing.assert_allclose(value, expected, rtol=1e-9)


@pytest.mark.parametrize(
  "loss",
  [name for name in ROWS if name not in (*cases.PAIRED, "npair", "quadruplet")],
)
def test_affinity(loss, x64):
  """Positives and negatives are weights: a and 1 - a."""
  params, hyper = cases.params(loss), cases.settings(loss)[-1]
  x, labels = cases.batch("unbalanced", loss)
  affinity = np.random.default_rng(3).uniform(size=(cases.N, cases.N))
  affinity[affinity < 0.3] = 0
  affinity[affinity > 0.8] = 1
  affinity = np.maximum(affinity, affinity.T)
  value = quick_jit(cases.value_of(loss))(
    hyper, params, x, labels, affinity=affinity
  )
  expected = cases.oracle(loss, hyper, params, x, labels, affinity=affinity)
  np.testing.assert_allclose(value, expected, rtol=1e-9)


# --- defaults ----------------------------------------------------------------

# metric (None: its own), normalisation, reduction, and the numbers.
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
  "quadruplet": ("l2", "none", "mean", {"margin": 1, "second_margin": 0.5}),
  "angular": ("cosine", "l2", "mean", {"angle": np.radians(40)}),
  "lifted_hard": ("l2", "none", "mean", {"margin": 1, "positive_margin": 0}),
  "lifted": ("l2", "none", "mean", {"margin": 1, "positive_margin": 0}),
  "npair": ("dot", "none", "mean", {"regularization": 0.002}),
  "nca": ("squared_l2", "none", "mean", {"scale": 1}),
  "infonce": ("cosine", "l2", "mean", {"temperature": 0.07}),
  "ntxent": ("cosine", "l2", "mean", {"temperature": 0.5}),
  "infonce_per_pair": ("cosine", "l2", "mean", {"temperature": 0.07}),
  "supcon": ("cosine", "l2", "mean", {"temperature": 0.1}),
  "cross_entropy": (None, "none", "mean", {}),
  "norm_softmax": ("cosine", "l2", "mean", {"temperature": 0.05}),
  "sphereface": (
    None,
    "none",
    "mean",
    {"margin": 4, "scale": 1, "annealing": 0},
  ),
  "cosface": ("cosine", "l2", "mean", {"margin": 0.35, "scale": 64}),
  "arcface": ("cosine", "l2", "mean", {"margin": 0.5, "scale": 64}),
}


@pytest.mark.parametrize("loss", [name for name in DEFAULTS if name in EVERY])
def test_defaults_are_those_of_the_source(loss):
  metric, normalize, reduction, numbers = DEFAULTS[loss]
  assert cases.defaults(loss) == (metric, normalize, reduction)
  hyper = ml.LOSSES[loss].hyper
  assert {name: hyper[name] for name in numbers} == numbers


ANY = set(ml.METRICS) - {"dot"}


@pytest.mark.parametrize("loss", EVERY)
def test_allowed_metrics(loss):
  allowed = set(ml.LOSSES[loss].metrics)
  if loss in ("cross_entropy", "sphereface"):
    assert allowed == set()
  elif loss in ("cosface", "arcface", "intra_pair_variance", "tcm", "angular"):
    assert allowed == {"cosine"}
  elif loss == "snr_contrastive":
    assert allowed == {"snr"}
  elif loss == "quadruplet":
    assert allowed == ANY - {"snr"}
  elif loss.startswith(("contrastive", "triplet", "lifted", "margin")):
    assert allowed == ANY
  elif loss != "pair_regression":
    assert allowed == ANY | {"dot"}


@pytest.mark.parametrize("loss", EVERY)
def test_every_loss_says_where_it_comes_from(loss):
  entry = ml.LOSSES[loss]
  assert entry.source
  assert inspect.getdoc(entry.terms)


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
  for loss in cases.CLASSIFICATION:
    assert init(loss)["loss"]["weights"].shape == (3, 2)
  biases = init("cross_entropy")["loss"]["biases"]
  np.testing.assert_array_equal(biases, np.zeros(3))
