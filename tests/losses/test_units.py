"""A number in units of a distance: all of it twice as large changes nothing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import metric_learning as ml

RNG = np.random.default_rng(0)
X = jnp.asarray(RNG.normal(size=(12, 4)), jnp.float32)

# One of each kind: a margin, a bound, a square, a temperature, a factor. (Of
# soft margins the softness has a unit too, and they are not homogeneous.)
KINDS = (
  "contrastive_2005",
  "contrastive_caffe_legacy",
  "contrastive_linear",
  "margin",
  "pair_bce",
  "triplet_dynamic_soft",
  "quadruplet",
  "nca",
  "hard_negative",
  "ranked_list",
  "norm_softmax",
  "smooth_ap",
  "proxy_nca",
)


def value(loss, x, numbers, unit):
  """The loss without normalisation, its numbers and proxies in `unit`s."""
  scaled = ml.LOSSES[loss].scaled
  given = {name: n * unit ** scaled[name] for name, n in numbers.items()}
  objective = ml.make_objective(loss, metric="l2", normalize="none", **given)
  shape = {"num_classes": 6, "embedding_dim": 4}
  params = objective.init(jax.random.key(0), **shape)
  if "weights" in params.get("loss", {}):
    params["loss"]["weights"] *= unit
  found, _ = objective(
    params, x, jnp.arange(12) % 6, state=objective.init_state(**shape) or None
  )
  return found


@pytest.mark.parametrize("loss", KINDS)
def test_in_twice_the_unit_the_loss_differs_by_its_own_unit(loss):
  entry = ml.LOSSES[loss]
  # Those that are None follow from the space: far enough not to matter.
  numbers = {
    n: 3.0 if (v := entry.hyper[n]) is None else v for n in entry.scaled
  }
  of = jax.jit(lambda unit: value(loss, unit * X, numbers, unit))
  once, twice = float(of(1.0)), float(of(2.0))
  power = np.log2(twice / once)
  assert once > 0
  assert power == pytest.approx(round(power), abs=1e-4)
