"""The parts of an objective, its arguments and its results."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.distance import cdist

import metric_learning as ml
from metric_learning.objectives import block_rows
from tests.objectives.four_points import LABELS, X
from tests.quick import quick_jit


def test_a_metric_with_options():
  named = ("lp", {"p": 3})
  objective = ml.make_objective("contrastive", named, margin=0.0)
  assert (objective.metric, objective.eval_metric) == ("lp", named)
  value, _ = quick_jit(objective)({}, X, LABELS)
  # Positive pairs: 1, and (0, 3) to (4, 0).
  expected = (0.5 + 0.5 * (27 + 64) ** (2 / 3)) / 6
  np.testing.assert_allclose(value, expected, rtol=1e-6)
  for wrong in ("lp", ("lp", {"p": -1}), ("lp", {"q": 2}), ("l2", {"p": 2})):
    with pytest.raises(ml.InputError):
      ml.make_objective("contrastive", wrong)


def test_squared_mahalanobis_learns_a_factor():
  objective = ml.make_objective("contrastive_linear", "squared_mahalanobis")
  params = objective.init(jax.random.key(0), embedding_dim=2)
  assert objective.eval_metric == "squared_l2"
  np.testing.assert_array_equal(params["metric"]["factor"], np.eye(2))
  plain = ml.make_objective("contrastive_linear", "squared_l2")
  np.testing.assert_allclose(
    quick_jit(objective)(params, X, LABELS)[0],
    quick_jit(plain)({}, X, LABELS)[0],
    rtol=1e-6,
  )


@pytest.mark.parametrize("loss", ["lifted", "lifted_hard", "histogram"])
def test_an_affinity_needs_no_labels(loss):
  """Labels have no effect beside an affinity of a batch and a gallery."""
  labels, others = jnp.array([0, 0, 1, 1]), jnp.array([0, 1, 1, 2, 2, 0])
  gallery = jnp.arange(12.0).reshape(6, 2) % 5
  same = (labels[:, None] == others[None]) * 1.0
  zeros = jnp.zeros_like
  objective = ml.make_objective(loss, normalize="l2")

  @quick_jit
  def values():
    call = lambda labels, others, **more: objective(
      {}, X, labels, references=gallery, reference_labels=others, **more
    )[0]
    return (
      call(labels, others),
      call(labels, others, affinity=same),
      call(zeros(labels), zeros(others), affinity=same),
    )

  by_labels, by_affinity, alone = values()
  assert by_affinity == alone > 0
  # Labels compare references too, which both ends of a lifted pair repel.
  if loss not in ("lifted", "lifted_hard"):
    np.testing.assert_allclose(by_labels, by_affinity, rtol=1e-6)


def test_what_goes_by_classes_takes_no_affinity():
  for loss in ("quadruplet", "npair"):
    with pytest.raises(ml.InputError, match=f"{loss} needs one class label"):
      ml.make_objective(loss)({}, X, LABELS, affinity=jnp.eye(4))


def test_a_boundary_is_learned_or_kept():
  init = lambda **static: ml.make_objective("margin", beta=2.0, **static).init(
    jax.random.key(0), num_classes=3
  )
  assert init()["loss"] == {"beta": 2.0}
  assert init(learn_beta=False) == {}
  np.testing.assert_array_equal(init(per_class=True)["loss"]["beta"], [2, 2, 2])
  with pytest.raises(ml.InputError, match="num_classes="):
    ml.make_objective("margin", per_class=True).init(jax.random.key(0))
  with pytest.raises(ml.InputError, match=r"over 'pear'.*did you mean 'pairs'"):
    ml.make_objective("margin", over="pear")


def test_traced_numbers_are_not_checked():
  def value(margin):
    return ml.make_objective("contrastive", margin=margin)({}, X, LABELS)[0]

  assert np.isfinite(quick_jit(value)(-1.0))


@pytest.mark.parametrize(("items", "classes"), [(0, 3), (2, 3), (4, 3)])
def test_a_value_of_each_class_where_classes_are_the_anchors(items, classes):
  objective = ml.make_objective("proxy_anchor", reduction="none")
  params = objective.init(
    jax.random.key(0), num_classes=classes, embedding_dim=2
  )
  value, _ = quick_jit(objective)(params, X[:items], LABELS[:items])
  assert value.shape == (classes,)


def test_diagnostics_by_hand():
  objective = ml.make_objective(
    "contrastive_linear", normalize="none", negative_margin=3.5
  )
  value, aux = quick_jit(objective.__call__)({}, X, LABELS)
  # Same: 1 and 5. Different: 3, 4, √10, 3.
  negatives = np.array([3, 4, np.sqrt(10), 3])
  positive = (1 + 5) / 2
  negative = np.mean(3.5 - negatives[negatives < 3.5])
  diagnostics = aux.diagnostics
  close = lambda name, expected: np.testing.assert_allclose(
    diagnostics[name], expected, rtol=1e-6, err_msg=name
  )
  np.testing.assert_allclose(value, positive + negative, rtol=1e-6)
  close("positive_distance", 3)
  close("negative_distance", negatives.mean())
  close("positive_loss", positive)
  close("negative_loss", negative)
  close("positive_active_fraction", 1)
  close("negative_active_fraction", 3 / 4)
  close("active_fraction", 5 / 6)
  assert aux.state == {}


@pytest.mark.parametrize("loss", ["triplet", "cross_entropy"])
@pytest.mark.parametrize("bad", [jnp.nan, jnp.inf])
def test_diagnostics_count_embeddings_that_are_not_finite(loss, bad):
  objective = ml.make_objective(loss)
  params = objective.init(jax.random.key(0), num_classes=2, embedding_dim=2)
  call = quick_jit(objective.__call__)
  for items in ([], [2], [0, 3]):
    value, aux = call(params, X.at[np.array(items, int), 0].set(bad), LABELS)
    assert aux.diagnostics["not_finite_embeddings"] == len(items)
    assert np.isnan(value) == bool(items)


def test_diagnostics_count_references_that_are_not_finite():
  call = quick_jit(ml.make_objective("triplet").__call__)
  others = X.at[1].set(jnp.nan)
  value, aux = call({}, X, LABELS, references=others, reference_labels=LABELS)
  assert np.isnan(value) and aux.diagnostics["not_finite_embeddings"] == 1


@pytest.mark.slow
def test_a_batch_in_which_every_label_stands_once_warns():
  labels = jnp.arange(4)
  with pytest.warns(UserWarning, match="triplet needs positives"):
    value, _ = ml.make_objective("triplet")({}, X, labels)
  assert value == 0
  # What needs none, a gallery, and a trace say nothing; warnings are errors.
  quick_jit(ml.make_objective("triplet"))({}, X, labels)
  ml.make_objective("triplet")(
    {}, X, labels, references=X, reference_labels=labels
  )
  softmax = ml.make_objective("norm_softmax")
  params = softmax.init(jax.random.key(0), num_classes=4, embedding_dim=2)
  softmax(params, X, labels)


def test_diagnostics_have_no_gradient():
  def distance(x):
    _, aux = ml.make_objective("contrastive")({}, x, LABELS)
    return aux.diagnostics["negative_distance"]

  assert (np.asarray(quick_jit(jax.grad(distance))(X)) == 0).all()


def test_state_passes_through():
  state = {"step": jnp.array(3)}
  objective = ml.make_objective("contrastive")
  _, aux = quick_jit(objective.__call__)({}, X, LABELS, state=state)
  assert aux.state == state


@pytest.mark.parametrize("metric", ["l1", "mahalanobis", "cosine"])
@pytest.mark.parametrize("normalize", ["none", "l2"])
def test_embedded_points_compare_as_the_objective_does(metric, normalize):
  objective = ml.make_objective("triplet", metric, normalize)
  params = objective.init(jax.random.key(0), embedding_dim=2)
  factor = np.array([[2.0, 1.0], [0.0, 0.5]])
  if metric == "mahalanobis":
    params["metric"]["factor"] = jnp.asarray(factor, jnp.float32)
  x = X + 1.0
  points = objective.embed(params, x)
  got = ml.pairwise(objective.eval_metric, points, points, exact=True)
  x = np.asarray(x, np.float64)
  if normalize == "l2":
    x /= np.linalg.norm(x, axis=1, keepdims=True)
  names = {"l1": "cityblock", "cosine": "cosine", "mahalanobis": "euclidean"}
  x = x @ factor.T if metric == "mahalanobis" else x
  np.testing.assert_allclose(got, cdist(x, x, names[metric]), atol=1e-5)


def test_blocks_are_chosen_by_device():
  assert block_rows(None, 10**6, 10**6) is None
  assert block_rows(7, 10, 10) == 7
  for backend in ("cpu", "gpu", "tpu"):
    assert block_rows("auto", 64, 64, backend=backend) is None
  assert block_rows("auto", 1024, 2048, backend="cpu") is None
  assert block_rows("auto", 2048, 2048, backend="cpu") == 256
  assert block_rows("auto", 32768, 32768, backend="cpu") == 128
  # 2,049 rows of 256 would leave a block of one.
  assert block_rows("auto", 2049, 2048, backend="cpu") == 228
  assert block_rows("auto", 8192, 8192, backend="gpu") is None
  twice = {"backend": "cpu", "recomputes_distances": True}
  assert block_rows("auto", 8192, 8192, **twice) is None
  assert block_rows("auto", 8193, 8192, **twice) == 127
  huge = block_rows("auto", 10**6, 10**6, backend="gpu")
  assert huge is not None and huge * 10**6 < 2**30


@pytest.mark.parametrize(("loss", "blocks"), [("lifted", 0), ("supcon", 1)])
def test_a_loss_of_two_passes_is_dense_for_longer(loss, blocks):
  objective = ml.make_objective(loss)
  x = jax.ShapeDtypeStruct((2048, 2), jnp.float32)
  labels = jax.ShapeDtypeStruct((2048,), jnp.int32)
  value = lambda x, labels: objective({}, x, labels)[0]
  traced = str(jax.make_jaxpr(value)(x, labels))
  assert traced.count("scan[") == blocks


def test_key_changes_initial_weights_only():
  objective = ml.make_objective("cosface")
  init = lambda seed: objective.init(
    jax.random.key(seed), num_classes=50, embedding_dim=16
  )["loss"]["weights"]
  one, same, other = init(0), init(0), init(1)
  assert (one == same).all()
  assert not (one == other).any()
