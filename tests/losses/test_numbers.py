"""The numbers of a loss and a miner: declared with each, and checked."""

import jax.numpy as jnp
import numpy as np
import pytest

import metric_learning as ml
from metric_learning.losses.search import Range
from metric_learning.miners import MINERS

OWNERS = {
  **{f"loss {name}": (e.hyper, e.kinds) for name, e in ml.LOSSES.items()},
  **{f"miner {name}": (m.options, m.kinds) for name, m in MINERS.items()},
}


@pytest.mark.parametrize("owner", OWNERS)
def test_every_number_has_an_interval_and_its_default_is_in_it(owner):
  defaults, kinds = OWNERS[owner]
  for name, default in defaults.items():
    # No value is without a declared type, so that another is refused.
    assert name in kinds, name
    if {float, int} & set(kinds[name].types):
      interval = kinds[name].interval
      assert interval is not None, name
      assert default is None or default in interval


@pytest.mark.parametrize("loss", ml.LOSSES)
def test_what_tuning_searches_can_be_used(loss):
  entry = ml.LOSSES[loss]
  for name, space in entry.search.items():
    ends = space[:2] if isinstance(space, Range) else space.values
    assert all(end in entry.kinds[name].interval for end in ends), name


def refused(loss="contrastive", match="", **options):
  with pytest.raises(ml.InputError, match=match):
    ml.make_objective(loss, **options)


def test_a_number_is_a_number():
  for scalar in (np.float32, np.int64, jnp.float32, jnp.bfloat16, np.array):
    ml.make_objective("contrastive", margin=scalar(1))
    refused(margin=scalar(-1), match="margin must be at least 0")
  for wrong in ("1", True, np.True_, None, 1j, [1.0], np.ones(1)):
    refused(margin=wrong, match="margin must be a number, got")
  refused(margin=np.inf, match="finite, got inf")
  refused(half=1, match="half must be True or False, got 1")
  refused(half="yes", match="half must be True or False, got 'yes'")
  ml.make_objective("contrastive", half=np.False_)
  many = {
    "loss": "arcface_subcenter",
    "match": "num_centers must be an integer",
  }
  for wrong in (2.0, True, "2", 0):
    refused(num_centers=wrong, **many)
  ml.make_objective("arcface_subcenter", num_centers=np.int64(2))


@pytest.mark.parametrize(
  ("loss", "name", "degrees", "radians"),
  [
    ("arcface", "margin", 28.6, "0.4992"),
    ("arcface_subcenter", "margin", 28.6, "0.4992"),
    ("tuplet_margin", "margin", 5.73, "0.1"),
    ("angular", "angle", 40, "0.6981"),
  ],
)
def test_an_angle_in_degrees_is_refused_and_turned(
  loss, name, degrees, radians
):
  message = rf"{loss}: {name} .*radians.*{degrees}.*degrees, give {radians}\."
  refused(loss, message, **{name: degrees})
  refused(loss, message, **{name: np.float64(degrees)})


@pytest.mark.parametrize(
  ("loss", "wrong"),
  [
    ("cosface", {"margin": 5.0}),
    ("soft_triple", {"margin": 2.5}),
    ("tcm", {"positive_margin": 1.5}),
    ("multi_similarity", {"alpha": -2.0}),
    ("multi_similarity", {"beta": 0.0}),
    ("proxy_anchor", {"alpha": 0.0}),
    ("margin", {"beta": -1.0}),
    ("pnp", {"b": 0.0}),
    ("center", {"rate": 2.0}),
    ("ranked_list", {"balance": 1.5}),
    ("vicreg", {"variance": -1.0}),
    ("histogram", {"num_bins": 2.5}),
    ("cross_entropy", {"label_smoothing": 1.0}),
    ("cross_entropy", {"label_smoothing": -0.1}),
  ],
)
def test_a_number_outside_of_its_interval(loss, wrong):
  (name,) = wrong
  refused(loss, f"{loss}: {name} must be", **wrong)


def test_options_of_miners_and_reductions_are_checked_alike():
  for name, wrong in (
    ("hdc", {"fraction": "half"}),
    ("pair_margin", {"negative_margin": -1}),
    ("multi_similarity", {"epsilon": np.float32(-1)}),
    ("triplet_margin", {"margin": True}),
    ("uniform_histogram", {"num_bins": 2.5}),
    ("easy_hard", {"positive_range": (2.0, 1.0)}),
    ("easy_hard", {"negative_range": (0.5,)}),
  ):
    (option,) = wrong
    refused(miner=(name, wrong), match=f"{name}: {option} must be")
  refused(
    "triplet", metric="l2", miner=("angular", {"angle": 20}), match="0.3491"
  )
  for wrong in ({"low": 2, "high": 1}, {"high": "1"}, {"low": float("nan")}):
    refused(reduction=("mean", wrong), match="low and high .*must be two num")
  refused(reduction=("mean", {"count_empty": 1}), match="count_empty .*True")


def test_numbers_of_explicit_pairs_and_regularizers_are_checked_too():
  d, same = jnp.ones(2), jnp.array([True, False])
  with pytest.raises(ml.InputError, match=r"contrastive: margin .*-1"):
    ml.pair_loss("contrastive", d, same=same, margin=-1)
  with pytest.raises(ml.InputError, match="lp: p must be at least 1"):
    ml.REGULARIZERS["lp"](jnp.ones((2, 2)), p=0.5)


def own_logit(theta, margin):
  """The own-class logit of ArcFace, by definition."""
  turned, tail = np.cos(theta + margin), np.cos(theta) - margin * np.sin(margin)
  return np.where(theta <= np.pi - margin, turned, tail)


def test_the_largest_margin_of_arcface_is_the_last_whose_logit_only_falls():
  theta = np.linspace(0, np.pi, 20001)
  largest = ml.LOSSES["arcface"].kinds["margin"].interval.high
  for margin in np.linspace(0, largest, 50):
    assert (np.diff(own_logit(theta, margin)) < 1e-4).all()
  assert np.diff(own_logit(theta, largest + 0.01)).max() > 1e-3
