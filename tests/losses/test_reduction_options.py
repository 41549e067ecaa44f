"""Value windows, class weights, and anchors without terms."""

import jax
import jax.numpy as jnp
import loss_cases as cases
import loss_oracles
import numpy as np
import pytest

import metric_learning as ml
from metric_learning.rows import made_here, make_terms, only_between
from tests.quick import quick_jit

CLASS_WEIGHTS = [0.5, 2.0, 0.0, 1.5, 3.0]
CHOICES = {
  "contrastive_linear": {"low": 0.1, "high": 0.8},
  "triplet": {"low": 0.2, "high": 1.5},
  "triplet_swap": {"low": 0.23, "high": 1.43},
  "lifted_generalized": {"low": 1.3, "high": 2.5},
  "infonce_per_pair": {"low": 2.0, "high": 4.5},
  "supcon": {"low": 2.6, "high": 2.93},
  "smooth_ap": {"low": 0.545, "high": 0.608},
  "norm_softmax": {"low": 0.5, "high": 2.5},
}


def expected_of(reduction, options, terms, labels):
  """The sum over parts, from terms (part: (anchor, weight, value))."""
  low, high = options.get("low", -np.inf), options.get("high", np.inf)
  class_weights = options.get("class_weights")
  value = 0.0
  for part in terms.values():
    sums = np.zeros((len(labels), 4))  # total, count, active total, active
    for i, w, v in part:
      if low < v < high:
        factor = 1 if class_weights is None else class_weights[labels[i]]
        sums[i] += w * np.array(
          [factor * v, 1, factor * v * (v > 0), float(v > 0)]
        )
    if options.get("count_empty"):
      sums[sums[:, 1] == 0, 1] = 1
    total, count, active_total, active = sums.sum(0)
    each = sums[:, 0] / np.where(sums[:, 1] > 0, sums[:, 1], 1)
    value += {
      "mean": total / max(count, 1e-30),
      "mean_active": active_total / max(active, 1e-30),
      "sum": total,
      "per_anchor_mean": each.sum() / max(1, (sums[:, 1] > 0).sum()),
      "none": each,
    }[reduction]
  return value


def oracle_terms(loss, params, x, labels):
  metric, normalize, _ = cases.defaults(loss)
  return loss_oracles.terms(
    loss,
    x,
    labels,
    metric=metric,
    normalize=normalize,
    hyper=cases.settings(loss)[-1],
    params=params,
  )


@pytest.mark.slow
@pytest.mark.parametrize("loss", CHOICES)
def test_options_of_every_reduction(loss, x64):
  params, hyper = cases.params(loss), cases.settings(loss)[-1]
  x, labels = cases.batch("unbalanced", loss)
  window = CHOICES[loss]
  together = {**window, "class_weights": CLASS_WEIGHTS, "count_empty": True}
  # What the options do to the terms of an anchor is seen in each; what then
  # becomes of these, with a loss of pairs and with one of triplets.
  shown = ("per_anchor_mean", "mean_active")
  choices = [*((name, together) for name in shown), ("mean", window)]
  if loss in ("contrastive_linear", "triplet"):
    choices += [
      *((name, together) for name in ml.REDUCTIONS if name not in shown),
      ("mean_active", {"class_weights": CLASS_WEIGHTS}),
      ("per_anchor_mean", {"count_empty": True}),
    ]

  @quick_jit
  def values(params, x, labels):
    return [
      cases.value_of(loss, reduction=choice)(hyper, params, x, labels)
      for choice in choices
    ]

  terms = oracle_terms(loss, params, x, labels)
  plain = expected_of("mean", {}, terms, labels)
  got = values(params, x, labels)
  for choice, value in zip(choices, got, strict=True):
    expected = expected_of(*choice, terms, labels)
    np.testing.assert_allclose(value, expected, rtol=1e-9, err_msg=str(choice))
  assert abs(expected_of("mean", window, terms, labels) - plain) > 1e-3


@pytest.mark.parametrize("loss", ["triplet", "triplet_swap", "smooth_ap"])
@pytest.mark.parametrize("block_size", [None, 5])
def test_a_window_holds_in_the_derivative(loss, block_size, x64):
  """Derivatives are traced after the call has ended: in jit, and in blocks."""
  params, hyper = cases.params(loss), cases.settings(loss)[-1]
  x, labels = cases.batch("unbalanced", loss)
  reduction = ("mean", CHOICES[loss])
  value_of = cases.value_of(loss, reduction=reduction, block_size=block_size)
  inner = jax.jit(lambda x: value_of(hyper, params, x, jnp.asarray(labels)))
  value, slopes = quick_jit(jax.value_and_grad(inner))(x)

  def expected(x):
    terms = oracle_terms(loss, params, x, labels)
    return expected_of(*reduction, terms, labels)

  np.testing.assert_allclose(value, expected(x), rtol=1e-9)
  cases.check_slopes(expected, (x,), (slopes,))


def test_a_window_of_a_sum_in_closed_form_is_refused():
  for options in ({"low": 0.0}, {"high": 1.0}):
    with pytest.raises(ml.InputError, match=r"quadruplet .* low and high"):
      ml.make_objective("quadruplet", reduction=("mean", options))


def test_a_wrong_option_of_a_reduction():
  with pytest.raises(ml.InputError, match="option of mean 'lo'; did you mean"):
    ml.make_objective("triplet", reduction=("mean", {"lo": 0.0}))


def test_ends_of_a_window_are_outside():
  values = jnp.array([1.0, 2.0, 3.0])
  with only_between(1.0, 3.0):
    terms = make_terms(values, jnp.ones(3))
    later = made_here(make_terms)
  assert (terms.total, terms.count) == (2, 1)
  assert make_terms(values, jnp.ones(3)).count == 3
  assert later(values, jnp.ones(3)).count == 1


def test_without_a_window_nothing_is_swallowed():
  terms = make_terms(jnp.array([jnp.inf, 1.0]), jnp.ones(2))
  assert terms.count == 2 and terms.total == jnp.inf
