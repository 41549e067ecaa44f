"""Which labels count as similar: loops over the labels of each pair."""

import functools

import jax.numpy as jnp
import numpy as np
import pytest

import metric_learning as ml
from metric_learning.relations import RELATIONS
from tests.quick import quick_jit

GENERATOR = np.random.default_rng(0)
TAGS = GENERATOR.integers(0, 2, size=(7, 4))
TAGS[2] = 0  # no label at all
OTHER_TAGS = GENERATOR.integers(0, 2, size=(5, 4))
LEVELS = np.stack([GENERATOR.integers(0, k, size=7) for k in (2, 3, 6)], axis=1)
WEIGHTS = (0.25, 0.0, 1.0)


def same_label(a, b):
  return float(a == b), float(a != b)


def any_label(a, b):
  some = any(p and q for p, q in zip(a, b, strict=True))
  return float(some), float(not some)


def jaccard(a, b):
  a, b = set(np.flatnonzero(a)), set(np.flatnonzero(b))
  share = len(a & b) / len(a | b) if a | b else 0.0
  return share, float(not a & b)


def levels(a, b):
  equal = [w for w, p, q in zip(WEIGHTS, a, b, strict=True) if p == q]
  weight = max(equal, default=0.0)
  return weight, float(weight == 0)


CASES = {
  "same_label": (same_label, LEVELS[:, 2], LEVELS[:4, 2], {}),
  "any_label": (any_label, TAGS, OTHER_TAGS, {}),
  "jaccard": (jaccard, TAGS, OTHER_TAGS, {}),
  "levels": (levels, LEVELS, LEVELS[::-1][:5], {"weights": WEIGHTS}),
}


def expected_of(name, a, b):
  pairs = [[CASES[name][0](p, q) for q in b] for p in a]
  return np.moveaxis(np.array(pairs), 2, 0)


def test_every_relation_is_tried():
  assert set(CASES) == set(RELATIONS)


@pytest.mark.parametrize("name", CASES)
def test_weights_of_pairs(name):
  _, a, b, options = CASES[name]
  got = quick_jit(functools.partial(RELATIONS[name].weights, **options))(a, b)
  np.testing.assert_allclose(got, expected_of(name, a, b), rtol=1e-6)


@pytest.mark.parametrize("name", CASES)
def test_labels_of_many_kinds_are_an_affinity_for_a_loss(name):
  """Dense and in blocks, with padding; in blocks also against references."""
  _, a, b, options = CASES[name]
  x = np.random.default_rng(1).normal(size=(len(a), 3)).astype(np.float32)
  others = np.random.default_rng(2).normal(size=(len(b), 3)).astype(np.float32)
  kept = np.arange(len(a)) != 1
  where = jnp.asarray(kept)

  def objective(block_size):
    relation = name, options
    return ml.make_objective(
      "contrastive", relation=relation, block_size=block_size
    )

  def by_hand(x, weights, others, skip):
    D = np.linalg.norm(x[:, None] - others[None], axis=2)
    positive, negative = weights
    total = count = 0
    for i, j in np.ndindex(*D.shape):
      if (i, j) in skip:
        continue
      total += positive[i, j] * D[i, j] ** 2 / 2
      total += negative[i, j] * max(0, 1 - D[i, j]) ** 2 / 2
      count += positive[i, j] + negative[i, j]
    return total / count

  inside = by_hand(
    x[kept],
    expected_of(name, a[kept], a[kept]),
    x[kept],
    {(i, i) for i in range(len(a))},
  )
  outside = by_hand(x, expected_of(name, a, b), others, ())

  @quick_jit
  def values(x, a, others, b):
    gallery = {"references": others, "reference_labels": b}
    return [
      objective(None)({}, x, a, where=where)[0],
      objective(3)({}, x, a, where=where)[0],
      objective(3)({}, x, a, **gallery)[0],
    ]

  got = values(x, a, others, b)
  np.testing.assert_allclose(got, (inside, inside, outside), rtol=1e-5)


X, TWO = jnp.ones((3, 2)), jnp.array([[0, 1], [1, 0], [1, 1]])


@pytest.mark.parametrize(
  ("relation", "message"),
  [
    ("any_tag", r"unknown relation 'any_tag'.*Known: .*jaccard"),
    ("levels", "needs its weights"),
    (("jaccard", {"weights": 1}), "option of jaccard 'weights'"),
  ],
)
def test_a_wrong_relation(relation, message):
  with pytest.raises(ml.InputError, match=message):
    ml.make_objective("triplet", relation=relation)


def test_labels_that_do_not_fit_the_relation():
  with pytest.raises(ml.InputError, match=r"labels must be \[n, k\]"):
    ml.make_objective("triplet", relation="jaccard")({}, X, TWO[:, 0])
  with pytest.raises(ml.InputError, match=r"labels must be \[n\]"):
    ml.make_objective("triplet")({}, X, TWO)
  three = ml.make_objective(
    "triplet", relation=("levels", {"weights": (1.0, 0.5, 0.2)})
  )
  with pytest.raises(ml.InputError, match=r"3 weights.*2 levels"):
    three({}, X, TWO)


@pytest.mark.parametrize("loss", ["quadruplet", "npair"])
def test_what_goes_by_classes_takes_one_label(loss):
  objective = ml.make_objective(loss, relation="jaccard")
  with pytest.raises(ml.InputError, match="needs one class label"):
    objective({}, X, TWO)


def test_class_weights_need_one_label():
  reduction = ("mean", {"class_weights": [1.0, 2.0]})
  with pytest.raises(ml.InputError, match="class_weights need one label"):
    ml.make_objective("triplet", reduction=reduction, relation="jaccard")
