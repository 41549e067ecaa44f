"""Each loss under each metric against its oracle, in value and gradient."""

import loss_cases as cases
import loss_oracles
import numpy as np
import pytest

import metric_learning as ml
from tests.quick import quick_jit

EVERY = list(ml.LOSSES)
ROWS = [
  name for name in cases.ONE_OF_EACH_KIND if name not in cases.CLASSIFICATION
]


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

    point = (hyper, params, x)

    def expected(hyper, params, x, point=point):
      return cases.oracle(
        loss,
        hyper,
        params,
        x,
        labels,
        metric=metric,
        static=static,
        constant=point,
      )

    cases.check_slopes(expected, point, gradients)


def test_every_loss_has_an_oracle():
  assert set(ml.LOSSES) <= set(loss_oracles.ORACLES)


def test_every_number_is_tried():
  """The settings of these tests include each numeric hyperparameter."""
  for loss, entry in ml.LOSSES.items():
    numbers = set(entry.hyper) - set(entry.static) - set(entry.learned)
    assert set(cases.SETTINGS[loss][0]) == numbers, loss


@pytest.mark.parametrize(("loss", "metric"), cases.PRODUCT)
def test_value_and_gradient(loss, metric, x64):
  check_value(loss, metric)
  check_gradient(loss, metric)


@pytest.mark.parametrize(("loss", "metric", "static"), cases.VARIANTS)
def test_variant(loss, metric, static, x64):
  check_value(loss, metric, static)
  check_gradient(loss, metric, static)


@pytest.mark.parametrize("loss", cases.A_FEW)
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


TELLING = {"none", "mean", "mean_active"}
# These reduce each part of its own, classes, and a batch as a whole.
ALL_REDUCTIONS = ("contrastive", "proxy_anchor", "vicreg")
MORE_TERMS = (
  *("margin", "triplet", "triplet_batch_hard", "quadruplet", "lifted"),
  *("fastap", "smooth_ap"),
)


@pytest.mark.parametrize("loss", (*cases.A_FEW, *MORE_TERMS))
def test_reductions(loss, x64):
  """All reductions use four numbers per anchor; three of them suffice here."""
  others = set(ml.REDUCTIONS) if loss in ALL_REDUCTIONS else TELLING
  others = others - {ml.LOSSES[loss].reduction}
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
    by_class = loss in loss_oracles.CLASS_ANCHORS
    assert got["none"].shape == (cases.CLASSES if by_class else cases.N,)
    for reduction, value in got.items():
      expected = cases.oracle(
        loss, hyper, params, x, labels, reduction=reduction
      )
      np.testing.assert_allclose(value, expected, rtol=1e-9, err_msg=reduction)


REFERENCE_LABELS = {
  "many": np.array([3, 1, 1, 0, 0, 0, 4]),
  "few": np.array([5, 1, 7, 0, 4, 3, 2]),
}


# To a loss that reads one row at a time a gallery is as a batch.
PLAIN_ROWS = (
  *("contrastive_linear", "margin", "tcm"),
  *("triplet_batch_hard", "nce", "fastap"),
)


@pytest.mark.parametrize(
  "loss", [name for name in ROWS if name not in PLAIN_ROWS]
)
def test_references(loss, x64):
  """Anchors are compared with a gallery: other points, never themselves."""
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
  """The weights of positives and negatives are a and 1 - a."""
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
