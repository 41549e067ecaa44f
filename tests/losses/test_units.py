"""A number in units of a distance: all of it twice as large changes nothing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import metric_learning as ml

RNG = np.random.default_rng(0)
X = jnp.asarray(RNG.normal(size=(12, 4)), jnp.float32)

# One of each kind: a margin, a bound, a square, a temperature, a factor, a
# range; and the power of the distance that the loss is then. (Of soft margins
# the softness has a unit too, and they are not homogeneous.)
POWERS = {
  "contrastive_2005": 1,
  "contrastive_caffe_legacy": 2,
  "contrastive_linear": 1,
  "margin": 1,
  "pair_bce": 0,
  "triplet_dynamic_soft": 1,
  "quadruplet": 1,
  "nca": 0,
  "hard_negative": 0,
  "ranked_list": 1,
  "norm_softmax": 0,
  "smooth_ap": 0,
  "proxy_nca": 0,
  "fastap": 0,
}
# Numbers that have no default where nothing bounds the distance. Others that
# are None follow from the rest, in its unit or not: that is tested here.
GIVEN = {
  "contrastive_2005": {"upper_bound": 3.0},
  "hard_negative": {"upper_bound": 1.0},
  "fastap": {"value_range": (0.0, 5.0)},
}


def value(loss, x, numbers, unit):
  """The loss without normalization, its numbers and proxies in `unit`s."""
  scaled = ml.LOSSES[loss].scaled
  units = {name: unit ** scaled[name] for name in numbers}
  given = {
    name: tuple(end * units[name] for end in n)
    if isinstance(n, tuple)
    else n * units[name]
    for name, n in numbers.items()
  }
  objective = ml.make_objective(loss, metric="l2", normalize="none", **given)
  shape = {"num_classes": 6, "embedding_dim": 4}
  params = objective.init(jax.random.key(0), **shape)
  if "weights" in params.get("loss", {}):
    params["loss"]["weights"] *= unit
  found, _ = objective(
    params, x, jnp.arange(12) % 6, state=objective.init_state(**shape) or None
  )
  return found


@pytest.mark.parametrize("loss", POWERS)
def test_in_twice_the_unit_the_loss_differs_by_its_own_unit(loss):
  entry = ml.LOSSES[loss]
  numbers = {**{n: entry.hyper[n] for n in entry.scaled}, **GIVEN.get(loss, {})}
  numbers = {n: value for n, value in numbers.items() if value is not None}
  of = jax.jit(lambda unit: value(loss, unit * X, numbers, unit))
  once, twice = float(of(1.0)), float(of(2.0))
  power = np.log2(twice / once)
  assert once > 0
  assert power == pytest.approx(POWERS[loss], abs=1e-4)
