"""Numbers in units of distance: the loss scales by a power of the unit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import metric_learning as ml
from metric_learning.study.standard_sweeps import multiples_of

RNG = np.random.default_rng(0)
X = jnp.asarray(RNG.normal(size=(12, 4)), jnp.float32)

# The power of the distance that a loss is, its numbers in units of it.
POWERS = {
  "contrastive_2005": 1,
  "contrastive": 2,
  "contrastive_caffe_legacy": 2,
  "contrastive_double_margin": 2,
  "contrastive_linear": 1,
  "contrastive_sq_margin": 2,
  "margin": 1,
  "pair_bce": 0,
  "triplet": 1,
  "triplet_batch_hard": 1,
  "triplet_dynamic_soft": 1,
  "triplet_semihard": 1,
  "triplet_swap": 1,
  "quadruplet": 1,
  "lifted_hard": 2,
  "nca": 0,
  "soft_nn": 0,
  "infonce_all": 0,
  "infonce_per_pair": 0,
  "supcon": 0,
  "dcl": 0,
  "debiased": 0,
  "hard_negative": 0,
  "nce": 0,
  "ranked_list": 1,
  "norm_softmax": 0,
  "smooth_ap": 0,
  "pnp": 0,
  "proxy_nca": 0,
  "proxy_nca_pp": 0,
  "fastap": 0,
}
# What says of itself that it keeps a unit.
ABSOLUTE = [name for name, entry in ml.LOSSES.items() if entry.absolute]
# Numbers that have no default where nothing bounds the distance. Others that
# are None follow from the rest, in its unit or not: that is tested here.
GIVEN = {
  "contrastive_2005": {"upper_bound": 3.0},
  "debiased": {"upper_bound": 1.0},
  "hard_negative": {"upper_bound": 1.0},
  "fastap": {"value_range": (0.0, 5.0)},
}


def value(loss, x, numbers, unit):
  """The loss without normalization, with numbers and proxies in `unit`s."""
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


def powers_of(loss):
  """The power of the unit in the loss, from units 1 to 2 and from 2 to 4."""
  entry = ml.LOSSES[loss]
  numbers = {**{n: entry.hyper[n] for n in entry.scaled}, **GIVEN.get(loss, {})}
  numbers = {n: value for n, value in numbers.items() if value is not None}
  of = jax.jit(lambda unit: value(loss, unit * X, numbers, unit))
  once, twice, more = (float(of(unit)) for unit in (1.0, 2.0, 4.0))
  assert once > 0
  return np.log2(twice / once), np.log2(more / twice)


@pytest.mark.parametrize("loss", POWERS)
def test_in_twice_the_unit_the_loss_differs_by_its_own_unit(loss):
  assert powers_of(loss) == pytest.approx([POWERS[loss]] * 2, abs=1e-4)


@pytest.mark.parametrize("loss", ABSOLUTE)
def test_a_loss_that_keeps_a_unit_says_so(loss):
  first, second = powers_of(loss)
  assert abs(first - second) > 0.01


def test_every_loss_that_is_compared_at_equal_multiples_is_tried():
  compared = {loss for loss in ml.LOSSES if multiples_of(loss)}
  assert compared <= POWERS.keys()
  assert not POWERS.keys() & {*ABSOLUTE}
