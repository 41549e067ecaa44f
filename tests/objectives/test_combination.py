"""Sums of objectives and regularizers against their parts."""

import jax
import jax.numpy as jnp
import loss_oracles
import numpy as np
import pytest

import metric_learning as ml
from metric_learning.losses.regularizers import REGULARIZERS
from metric_learning.objectives.combination import combine, regularize
from metric_learning.objectives.memory import with_memory
from tests.quick import quick_jit

X = np.random.default_rng(0).normal(size=(8, 3)).astype(np.float32)
LABELS = np.array([0, 1, 2, 0, 1, 2, 0, 1])
SIZES = {"num_classes": 3, "embedding_dim": 3}


def make_all():
  """One objective that learns, one that mines at random, one with a state."""
  return [
    ml.make_objective("cosface", scale=5.0),
    ml.make_objective("triplet", "l2", miner="distance_weighted"),
    ml.make_objective("center", weight=1.0),
    with_memory(ml.make_objective("contrastive"), 8),
  ]


@pytest.mark.slow
def test_a_sum_is_the_sum_of_its_parts():
  weights, parts = (2.0, 0.5, 1.0, 3.0), make_all()
  whole = combine(list(zip(weights, parts, strict=True)))
  params = whole.init(jax.random.key(0), **SIZES)
  state = whole.init_state(**SIZES)
  assert set(params) == set(state) == {"0", "1", "2", "3"}
  key = jax.random.key(1)

  @quick_jit
  def everything(params, x, labels, state):
    own = [
      part(
        params[str(i)],
        x,
        labels,
        state=state[str(i)],
        key=jax.random.fold_in(key, i),
      )
      for i, part in enumerate(parts)
    ]
    both = jax.value_and_grad(
      lambda params: whole(params, x, labels, state=state, key=key),
      has_aux=True,
    )
    return own, both(params)

  for _ in range(2):  # the state of the first is that of the second
    own, ((value, aux), slopes) = everything(params, X, LABELS, state)
    expected = sum(w * v for w, (v, _) in zip(weights, own, strict=True))
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    for i, (_, theirs) in enumerate(own):
      jax.tree.map(
        np.testing.assert_array_equal, aux.state[str(i)], theirs.state
      )
      for name, number in theirs.diagnostics.items():
        np.testing.assert_array_equal(aux.diagnostics[f"{i}/{name}"], number)
    assert (np.asarray(slopes["0"]["loss"]["weights"]) != 0).any()
    state = aux.state


def test_a_weight_may_be_traced():
  parts = ml.make_objective("contrastive"), ml.make_objective("supcon")

  def value(weight, x):
    return combine([(1.0, parts[0]), (weight, parts[1])])(
      {"0": {}, "1": {}}, x, jnp.asarray(LABELS)
    )[0]

  slope, second = quick_jit(
    lambda w, x: (jax.grad(value)(w, x), parts[1]({}, x, LABELS_)[0])
  )(0.5, X)
  np.testing.assert_allclose(slope, second, rtol=1e-6)


LABELS_ = jnp.asarray(LABELS)


def test_the_first_objective_says_how_points_compare():
  whole = combine(
    [
      (1.0, ml.make_objective("triplet", "l1", "l2")),
      (1.0, ml.make_objective("contrastive", "l2", "none")),
    ]
  )
  assert whole.eval_metric == "l1"
  lengths = np.linalg.norm(whole.embed({"0": {}}, jnp.asarray(X)), axis=1)
  np.testing.assert_allclose(lengths, 1, rtol=1e-5)


def test_a_sum_of_nothing():
  with pytest.raises(ml.InputError, match="at least one"):
    combine([])


@pytest.mark.slow
@pytest.mark.parametrize(
  ("name", "options", "expected"),
  [
    ("lp", {}, np.mean([np.sqrt(x @ x) for x in X.astype(float)])),
    (("lp", {"p": 3.0}), {}, np.mean((np.abs(X) ** 3).sum(1) ** (1 / 3))),
    ("zero_mean", {}, np.mean([abs(sum(x)) for x in X.astype(float)])),
  ],
)
def test_a_regularizer_of_embeddings(name, options, expected):
  plain = ml.make_objective("contrastive")
  whole = regularize(plain, name, 0.3)
  run = quick_jit(whole)
  value, aux = run({}, X, LABELS)
  alone = quick_jit(plain)({}, X, LABELS)[0]
  np.testing.assert_allclose(value, alone + 0.3 * expected, rtol=1e-5)
  own = name if isinstance(name, str) else name[0]
  np.testing.assert_allclose(aux.diagnostics[own], expected, rtol=1e-5)
  where = np.arange(8) < 4
  value, _ = run({}, X, LABELS, where=where)
  some = run({}, X[:4], LABELS[:4])[0]
  np.testing.assert_allclose(value, some, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
  ("loss", "name"),
  [
    ("cross_entropy", "center_invariant"),
    ("cosface", "regular_face"),
    ("soft_triple", "sparse_centers"),
    ("cosface", ("center_invariant", {})),
  ],
)
def test_a_regularizer_of_class_weights(loss, name):
  whole = regularize(ml.make_objective(loss), name, 0.3)
  params = whole.init(jax.random.key(0), **SIZES)
  table = params["loss"]["weights"]
  function = REGULARIZERS[name if isinstance(name, str) else name[0]]
  value, alone, extra = quick_jit(
    lambda params, x, labels: (
      whole(params, x, labels)[0],
      whole.objective(params, x, labels)[0],
      function(params["loss"]["weights"]),
    )
  )(params, X, LABELS)
  assert table.shape[0] == 3 and extra > 0
  np.testing.assert_allclose(value, alone + 0.3 * extra, rtol=1e-5)


@pytest.mark.slow
def test_a_regularizer_of_weights_that_are_not_there():
  whole = regularize(ml.make_objective("contrastive"), "regular_face")
  with pytest.raises(ml.InputError, match="regular_face acts on class"):
    jax.eval_shape(whole, {}, jnp.asarray(X), LABELS_)


@pytest.mark.parametrize(
  ("name", "message"),
  [
    ("l2", r"unknown regularizer 'l2'.*Known: .*zero_mean"),
    (("lp", {"q": 2}), "option of lp 'q'"),
    (("lp", {"where": None}), "option of lp 'where'"),
  ],
)
def test_a_wrong_regularizer(name, message):
  with pytest.raises(ml.InputError, match=message):
    regularize(ml.make_objective("contrastive"), name)


def test_memory_and_regularizer_of_a_sum():
  """They nest: the regularized objective may be a sum, and have a memory."""
  inner = with_memory(ml.make_objective("contrastive", normalize="none"), 8)
  whole = regularize(combine([(1.0, inner)]), "lp", 0.5)
  state = whole.init_state(**SIZES)
  value, aux = quick_jit(whole.__call__)({"0": {}}, X, LABELS, state=state)
  contrast = loss_oracles.loss(
    "contrastive",
    X,
    LABELS,
    metric="l2",
    normalize="none",
    hyper={"margin": 1.0},
    reduction="mean",
  )
  expected = contrast + 0.5 * np.mean(np.linalg.norm(X, axis=1))
  np.testing.assert_allclose(value, expected, rtol=1e-5)
  assert np.asarray(aux.state["0"]["memory"].valid).all()


@pytest.mark.slow
def test_a_regularizer_of_class_weights_of_a_sum():
  """For each objective with a class table, wherever it is in the sum."""
  tables = ml.make_objective("cosface"), ml.make_objective("norm_softmax")
  plain = ml.make_objective("contrastive")
  inner = combine([(2.0, tables[1])])
  whole = regularize(
    combine([(1.0, plain), (0.5, tables[0]), (1.0, inner)]), "regular_face", 0.3
  )
  params = whole.init(jax.random.key(0), **SIZES)
  function = REGULARIZERS["regular_face"]
  value, alone, extra = quick_jit(
    lambda params: (
      whole(params, jnp.asarray(X), LABELS_)[0],
      whole.objective(params, jnp.asarray(X), LABELS_)[0],
      [
        function(params["1"]["loss"]["weights"]),
        function(params["2"]["0"]["loss"]["weights"]),
      ],
    )
  )(params)
  assert min(extra) > 0
  np.testing.assert_allclose(value, alone + 0.3 * sum(extra), rtol=1e-5)
