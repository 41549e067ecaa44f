"""The inputs of an objective: labels, weights, indices, shapes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import metric_learning as ml
from metric_learning.inputs import as_labels, points_of
from tests.objectives.four_points import LABELS, X
from tests.quick import quick_jit
from tests.scripts import script

BIG = np.array([0, 0, 2**32, 2**32])  # cut to 32 bits these are one class


def as_user(function):
  """The function without the type checks of tests, as a user has it."""
  return getattr(function, "__wrapped__", function)


# --- labels ------------------------------------------------------------------


@pytest.mark.parametrize(
  ("labels", "message"),
  [
    (BIG, r"labels hold 4294967296.*32 bits.*np\.unique"),
    (
      np.array([-1, -1, 0, 0]).astype(np.uint64),
      "labels hold 1844674407370955",
    ),
    (np.array([[0, 2**33]] * 4), "hold 8589934592"),
    (np.uint32([0, 0, 2**31, 2**31]), "hold 2147483648"),
    (list("aabb"), r"integers, got <U1.*np\.unique"),
    ([0, 0, 1, None], "integers, got object"),
    ([0.0, 0.0, 1.0, 1.0], "integers, got float64"),
    ([[0], [1, 2]], "array of numbers"),
    (None, "zeros are sufficient"),
  ],
)
def test_labels_that_jax_would_cut_or_cannot_read(labels, message):
  with pytest.raises(ml.InputError, match=message):
    as_labels(labels)


def test_labels_that_fit_stay_as_they_are():
  for labels in (
    np.array([-(2**31), 2**31 - 1]),
    np.uint64([7, 8]),
    np.array([True, False]),
    np.uint8([255, 0]),
  ):
    np.testing.assert_array_equal(as_labels(labels), labels)
  with jax.enable_x64(True):
    np.testing.assert_array_equal(as_labels(BIG), BIG)


# --- shapes ------------------------------------------------------------------


@pytest.mark.parametrize(
  ("embeddings", "message"),
  [
    (X[0], r"embeddings must be \[n, d\], got shape \(2,\)"),
    (X[:, None], r"got shape \(4, 1, 2\)"),
    (X[:, :0], "no features"),
    (X + 1j, "real numbers, got complex64"),
    ("ab", "real numbers, got <U2"),
    ([[1.0], [1.0, 2.0]], "array of numbers"),
  ],
)
def test_embeddings_of_a_wrong_shape_or_type(embeddings, message):
  with pytest.raises(ml.InputError, match=message):
    as_user(points_of)(embeddings, LABELS)


def test_an_affinity_outside_of_0_and_1_is_refused():
  objective = ml.make_objective("contrastive")
  for wrong in (-0.5, 2.0):
    affinity = jnp.eye(4).at[0, 1].set(wrong)
    with pytest.raises(ml.InputError, match=rf"\[0, 1\].*holds {wrong}"):
      objective({}, X, LABELS, affinity=affinity)


@pytest.mark.slow
def test_dimensions_and_labels_as_a_user_meets_them():
  """In galleries, tables, memories and learned metrics, for every metric."""
  lines = script("from tests.as_a_user import main; main()")
  assert lines[0] > 40 and lines[1] == []


# --- one number for each class -----------------------------------------------


@pytest.mark.parametrize(
  ("weights", "message"),
  [
    ((1.0, float("nan")), "number 1 is nan"),
    ((1.0, -1.0), "number 1 is -1"),
    ((1.0, float("inf")), "number 1 is inf"),
    ("ab", "real numbers"),
    ({"a": 1.0}, "real numbers"),
    (3.0, r"must be \[n\], got shape \(\)"),
    ([[1.0, 2.0]], r"got shape \(1, 2\)"),
    ((), "empty"),
  ],
)
def test_class_weights_that_are_none(weights, message):
  reduction = ("mean", {"class_weights": weights})
  with pytest.raises(ml.InputError, match=f"class_weights.*{message}"):
    ml.make_objective("contrastive", reduction=reduction)


def per_class(loss, **options):
  """An objective with a number for each of 3 classes, and its parameters."""
  if loss == "margin":
    objective = ml.make_objective("margin", per_class=True, **options)
  else:
    reduction = (options.pop("reduction", "mean"), {"class_weights": (1, 2, 4)})
    objective = ml.make_objective(loss, reduction=reduction, **options)
  sizes = {"num_classes": 3, "embedding_dim": 2}
  return objective, objective.init(jax.random.key(0), **sizes)


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["margin", "contrastive", "proxy_anchor"])
def test_a_class_without_a_number_of_its_own(loss):
  """An error outside jit; inside jit, NaN for every reduction."""
  labels = [jnp.array([0, 1, 2, wrong]) for wrong in (3, -1)]
  real = jnp.array([True, True, True, False])
  objective, params = per_class(loss)
  for wrong in labels:
    with pytest.raises(ml.InputError, match=rf"label {wrong[3]} is outside 0"):
      objective(params, X, wrong)

  # It is the objective that poisons, after the reduction.
  reductions = ml.REDUCTIONS if loss == "contrastive" else ("mean", "none")

  @quick_jit
  def values(labels, where):
    return [
      per_class(loss, reduction=reduction)[0](params, X, labels, where=where)[0]
      for reduction in reductions
    ]

  for wrong in labels:
    for value in values(wrong, jnp.ones(4, bool)):
      assert np.isnan(value).all()
  for value in values(labels[0], real):  # padding may have any label
    assert np.isfinite(value).all()


def test_a_class_without_a_number_has_a_gradient_of_nan():
  objective, _ = per_class("contrastive", margin=10.0)
  slope = quick_jit(jax.grad(lambda x, c: objective({}, x, c)[0]))
  assert np.isnan(slope(X, jnp.array([0, 1, 2, 3]))).any()
  assert np.isfinite(slope(X, jnp.array([0, 1, 2, 2]))).all()


def test_one_number_for_each_class_needs_one_label_for_each_item():
  objective, params = per_class("margin", relation="any_label")
  for k in (3, 4):  # as many as candidates: a shape that would broadcast
    with pytest.raises(ml.InputError, match=r"beta.*any_label labels"):
      objective(params, X, jnp.ones((4, k), int))


def test_class_weights_of_another_number_of_classes():
  reduction = ("mean", {"class_weights": (1.0, 2.0)})
  objective = ml.make_objective("contrastive", reduction=reduction)
  with pytest.raises(ml.InputError, match=r"2 weights, and .* 3 classes"):
    objective.init(jax.random.key(0), num_classes=3)


# --- weights of items --------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["contrastive_linear", "triplet", "supcon"])
def test_an_item_of_weight_2_counts_twice(loss):
  """Compared with unweighted values, by hand: all terms of an anchor count."""
  rng = np.random.default_rng(0)
  x = jnp.asarray(rng.normal(size=(7, 3)), jnp.float32)
  labels = jnp.array([0, 0, 1, 1, 0, 1, 2])  # the last has no positive
  weights = np.array([2.0, 1.0, 0.0, 0.5, 1.0, 3.0, 1.0])
  # They follow from the same four numbers of each anchor.
  every = loss == "contrastive_linear"
  reductions = ml.REDUCTIONS if every else ("mean", "mean_active", "none")

  def value(reduction, **more):
    objective = ml.make_objective(loss, reduction=reduction)
    return objective({}, x, labels, **more)[0]

  @quick_jit
  def everything(weights):
    objective = ml.make_objective(loss)
    seen = {}
    reduce = objective._reduce
    object.__setattr__(
      objective,
      "_reduce",
      lambda parts, *more: seen.update(parts=parts) or reduce(parts, *more),
    )
    objective({}, x, labels)
    weighed = {r: value(r, weights=weights) for r in reductions}
    return seen["parts"], weighed, value("none")

  parts, got, each = everything(weights)
  expected = dict.fromkeys(ml.REDUCTIONS, 0.0)
  for terms in parts.values():
    total, count, active_total, active = (
      np.asarray(field, np.float64)
      for field in (terms.total, terms.count, terms.active_total, terms.active)
    )
    own = np.divide(total, count, out=np.zeros(7), where=count > 0)
    expected["mean"] += (weights @ total) / (weights @ count)
    expected["mean_active"] += (weights @ active_total) / (weights @ active)
    expected["per_anchor_mean"] += (weights @ own) / (weights @ (count > 0))
    expected["sum"] += weights @ total
    expected["none"] += own * (weights > 0)
  for reduction, value_ in got.items():
    np.testing.assert_allclose(
      value_, expected[reduction], rtol=1e-5, atol=1e-7, err_msg=reduction
    )
  np.testing.assert_array_equal(got["none"][2], 0)
  assert each[2] > 0  # of weight 0 it says nothing, and is a candidate still


def test_weights_that_are_none():
  objective = ml.make_objective("contrastive")
  call = as_user(type(objective).__call__)
  for weights, message in (
    (np.ones(3), "must be 4 numbers, got 3"),
    (np.array([1, 1, 1, -1.0]), "number 3 is -1"),
    (np.array([1, np.nan, 1, 1]), "number 1 is nan"),
    (np.ones((4, 1)), r"got shape \(4, 1\)"),
  ):
    with pytest.raises(ml.InputError, match=f"weights.*{message}"):
      call(objective, {}, X, LABELS, weights=weights)
  traced = quick_jit(lambda w: objective({}, X, LABELS, weights=w)[0])
  assert np.isnan(traced(jnp.array([1.0, 1.0, 1.0, -1.0])))
  assert np.isfinite(traced(jnp.ones(4)))


def test_weights_are_of_items_that_are_anchors():
  proxies = ml.make_objective("proxy_anchor")
  params = proxies.init(jax.random.key(0), num_classes=2, embedding_dim=2)
  with pytest.raises(ml.InputError, match="anchors are classes"):
    jax.eval_shape(proxies, params, X, LABELS, weights=jnp.ones(4))
  views = ml.make_objective("ntxent")
  once = jnp.arange(4)
  with pytest.raises(ml.InputError, match="both views"):
    views({}, X, once, references=X, reference_labels=once, weights=jnp.ones(4))


# --- references that hold the item itself ------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["supcon", "lifted", "quadruplet", "fastap"])
def test_the_batch_as_its_own_gallery_is_the_batch(loss):
  """Shuffled, in two shards, and with an extra reference that is no item."""
  rng = np.random.default_rng(0)
  x = jnp.asarray(rng.normal(size=(8, 3)), jnp.float32)
  labels = jnp.arange(8) % 3
  order = rng.permutation(8)
  place = jnp.asarray(np.argsort(order))
  objective = ml.make_objective(loss, reduction="none")

  @quick_jit
  def values(x, labels):
    gallery = {"references": x[order], "reference_labels": labels[order]}
    halves = [
      objective({}, x[half], labels[half], self_index=place[half], **gallery)[0]
      for half in (slice(0, 4), slice(4, 8))
    ]
    whole = objective({}, x, labels, self_index=place, **gallery)[0]
    naive = objective({}, x, labels, **gallery)[0]
    strangers = [
      objective({}, x, labels, self_index=jnp.full(8, -1), **gallery)[0]
      for _ in range(loss == "supcon")  # once is enough
    ]
    return objective({}, x, labels)[0], whole, halves, naive, strangers

  alone, whole, halves, naive, strangers = values(x, labels)
  np.testing.assert_allclose(whole, alone, rtol=1e-5)
  if loss not in ("fastap",):
    np.testing.assert_allclose(np.concatenate(halves), alone, rtol=1e-5)
  for stranger in strangers:
    np.testing.assert_array_equal(naive, stranger)
  assert not np.allclose(naive, alone, rtol=1e-3)


def test_a_self_index_that_is_none():
  objective = ml.make_objective("supcon")
  call = as_user(type(objective).__call__)
  gallery = {"references": X, "reference_labels": LABELS}
  for index, message in (
    (np.array([0, 1, 2, 4]), r"holds 4, but .* reference, 0\.\.3"),
    (np.array([0, 1, 2, -2]), "holds -2"),
    (np.array([0, 1, 2]), r"4 items, got shape \(3,\)"),
    (np.ones(4), "integers"),
  ):
    with pytest.raises(ml.InputError, match=f"self_index.*{message}"):
      call(objective, {}, X, LABELS, self_index=index, **gallery)
  with pytest.raises(ml.InputError, match="give references"):
    objective({}, X, LABELS, self_index=jnp.arange(4))
  views = ml.make_objective("infonce")
  once = jnp.arange(4)
  with pytest.raises(ml.InputError, match=r"infonce with a second view"):
    views({}, X, once, references=X, reference_labels=once, self_index=once)
  traced = quick_jit(
    lambda index: objective({}, X, LABELS, self_index=index, **gallery)[0]
  )
  assert np.isnan(traced(jnp.array([0, 1, 2, 4])))
  assert np.isfinite(traced(jnp.arange(4)))


# --- precision ---------------------------------------------------------------


def test_learned_numbers_are_of_the_width_of_x64_mode():
  cases = (
    ("margin", {}),
    ("margin", {"per_class": True}),
    ("siglip", {}),
    ("nce", {}),
    ("pair_bce", {"metric": "l1"}),
    ("cosface", {}),
    ("triplet", {"metric": "mahalanobis"}),
  )
  for wide, dtype in ((False, np.float32), (True, np.float64)):
    with jax.enable_x64(wide):
      for loss, options in cases:
        params = ml.make_objective(loss, **options).init(
          jax.random.key(0), num_classes=3, embedding_dim=2
        )
        leaves = jax.tree.leaves(params)
        assert leaves and all(leaf.dtype == dtype for leaf in leaves), loss
  with jax.enable_x64(True):
    beta = ml.make_objective("margin").init(jax.random.key(0))["loss"]["beta"]
    assert float(beta) == 1.2
