"""From names and numbers to an objective: errors, blocks, diagnostics."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.distance import cdist

import metric_learning as ml
from metric_learning.inputs import points_of
from metric_learning.objectives import block_rows
from tests.quick import quick_jit
from tests.scripts import script

X = jnp.array([[0.0, 0.0], [1.0, 0.0], [0.0, 3.0], [4.0, 0.0]])
LABELS = jnp.array([0, 0, 1, 1])
CLASS_TABLES = (
  "cross_entropy",
  "norm_softmax",
  "proxy_nca",
  "proxy_nca_pp",
  "proxy_anchor",
  "soft_triple",
  "l_softmax",
  "sphereface",
  "cosface",
  "arcface",
  "arcface_subcenter",
  "p2sgrad",
)


# --- errors ------------------------------------------------------------------


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"loss": "tripplet"}, r"unknown loss 'tripplet'; did you mean 'triplet'.*"
     r"Known: .*contrastive.*supcon"),
    ({"loss": "triplet", "metric": "l3"},
     r"unknown metric 'l3'; did you mean 'l[12p]'.*Known: .*cosine"),
    ({"loss": "triplet", "normalize": "l3"},
     r"'l3'; did you mean 'l[12]'.*Known: l1, l2, none"),
    ({"loss": "triplet", "reduction": "average"},
     r"unknown reduction 'average'.*Known: mean, mean_active, none"),
    ({"loss": "triplet", "miner": "al"}, r"unknown miner 'al'.*'all'"),
    ({"loss": "triplet", "margins": 0.2},
     r"hyper-parameter of triplet 'margins'; did you mean 'margin'.*"
     r"Known: margin\."),
    ({"loss": "supcon", "margin": 0.2}, r"'margin'.*Known: temperature\."),
    ({"loss": "triplet", "metric": "dot"},
     r"triplet does not allow .*'dot'.*l1, l2"),
    ({"loss": "arcface", "metric": "l2"}, r"arcface does not allow .*'l2'"),
    ({"loss": "cross_entropy", "metric": "l2"}, r"cross_entropy .*'l2'"),
    ({"loss": "contrastive", "margin": -1.0}, r"contrastive: margin .*-1\.0"),
    ({"loss": "triplet", "margin": -0.1}, r"triplet: margin .*-0\.1"),
    ({"loss": "contrastive_linear", "negative_margin": -1},
     r"negative_margin .*-1"),
    ({"loss": "supcon", "temperature": 0.0}, r"supcon: temperature .*positive"),
    ({"loss": "infonce", "temperature": -1}, r"temperature .*positive"),
    ({"loss": "arcface", "scale": 0}, r"scale .*positive"),
    ({"loss": "soft_triple", "gamma": 0.0}, r"gamma .*positive"),
    ({"loss": "triplet", "margin": float("nan")}, r"triplet: margin"),
    ({"loss": "contrastive_2005", "upper_bound": 0.0}, r"upper_bound"),
    ({"loss": "contrastive_2005"}, r"needs upper_bound"),
    ({"loss": "sphereface", "margin": 2.5}, r"margin.*integer.*2\.5"),
    ({"loss": "l_softmax", "margin": 0}, r"l_softmax: margin.*integer.*0"),
    ({"loss": "manifold", "num_proxies": 0}, r"num_proxies.*integer.*0"),
    ({"loss": "manifold", "alpha": 1.0}, r"manifold: alpha .*1\.0"),
    ({"loss": "soft_triple", "num_centers": 0}, r"num_centers.*integer.*0"),
    ({"loss": "arcface_subcenter", "num_centers": 1.5}, r"integer.*1\.5"),
    ({"loss": "pair_bce", "metric": "l2", "weighted": True}, r"weighted.*l1"),
    ({"loss": "pair_regression", "similarity": "sine"}, r"'sine'.*Known"),
    ({"loss": "triplet", "block_size": 0}, r"block_size .*0"),
    ({"loss": "triplet", "block_size": "big"}, r"block_size .*'big'"),
  ],
)  # fmt: skip
def test_a_wrong_name_or_number(options, message):
  with pytest.raises(ml.InputError, match=f"(?s){message}"):
    ml.make_objective(**options)


@pytest.mark.parametrize("metric", ml.METRICS)
def test_a_metric_is_allowed_or_refused(metric):
  """By the loss's entry, and with a message that names both."""
  for loss, entry in ml.LOSSES.items():
    check_metric(loss, entry, metric)


def check_metric(loss, entry, metric):
  hyper = {
    "contrastive_2005": {"upper_bound": 2.0},
    "histogram": {"value_range": (0.0, 1.0)},
    "fastap": {"value_range": (0.0, 1.0)},
  }.get(loss, {})
  named = ("lp", {"p": 3}) if metric == "lp" else metric
  # A loss that has a geometry of its own allows to name it, and nothing else.
  if metric in (entry.metrics or (entry.metric,)):
    assert ml.make_objective(loss, named, **hyper).metric == metric
  else:
    with pytest.raises(ml.InputError, match=rf"{loss} .*'{metric}'"):
      ml.make_objective(loss, named, **hyper)


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
  """Beside an affinity of a batch and a gallery, labels change nothing."""
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
    with pytest.raises(ml.InputError, match=f"{loss} goes by classes"):
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


@pytest.mark.parametrize("loss", CLASS_TABLES)
def test_a_class_table_needs_its_size(loss):
  objective = ml.make_objective(loss)
  for known in ({}, {"num_classes": 3}, {"embedding_dim": 2}):
    with pytest.raises(ml.InputError, match=r"num_classes=.*embedding_dim="):
      objective.init(jax.random.key(0), **known)


@pytest.mark.parametrize(
  ("loss", "metric"), [("triplet", "mahalanobis"), ("pair_bce", "l1")]
)
def test_what_is_learned_for_each_dimension_needs_it(loss, metric):
  with pytest.raises(ml.InputError, match="embedding_dim="):
    ml.make_objective(loss, metric).init(jax.random.key(0))


@pytest.mark.parametrize(
  ("loss", "labels"), [("infonce", [0, 0, 0, 1]), ("ntxent", [5, 5, 5, 1])]
)
def test_several_positives_are_refused_outside_jit(loss, labels):
  objective = ml.make_objective(loss)
  with pytest.raises(ml.InputError, match=r"3 times.*infonce_per_pair"):
    objective({}, X, jnp.array(labels))
  # Inside jit labels that are not traced are still looked at.
  where = jnp.array([True, True, False, True])  # padding does not count
  known = lambda x: objective({}, x, jnp.array(labels), where=where)[0]
  assert np.isfinite(quick_jit(known)(X))


@pytest.mark.parametrize(
  ("loss", "options"),
  [
    ("infonce", {}),
    ("infonce", {"symmetric": True}),
    ("ntxent", {}),
    ("instance", {}),
    ("vicreg", {}),
    ("barlow", {}),
  ],
)
def test_traced_labels_that_give_several_positives_give_nan(loss, options):
  """What is an error outside of jit: one number would not say what it is."""
  objective = ml.make_objective(loss, **options)
  x = jnp.concatenate([X, -X])

  @quick_jit
  def value(labels, where, others):
    alone = objective({}, x, labels, where=where)[0]
    apart = objective({}, x, labels, references=-x, reference_labels=others)[0]
    return alone, apart

  every, once = jnp.ones(8, bool), jnp.arange(8)
  twice, thrice = once // 2, jnp.array([0, 0, 0, 1, 1, 2, 2, 3])
  assert np.isfinite(value(twice, every, once)[0])
  assert np.isnan(value(thrice, every, once)[0])
  # Padding may have any label.
  assert np.isfinite(value(thrice, every.at[1].set(False), once)[0])
  assert np.isfinite(value(once, every, once)[1])
  assert np.isnan(value(twice, every, once)[1])
  assert np.isnan(value(once, every, twice)[1])
  with pytest.raises(ml.InputError, match="3 times"):
    objective({}, x, thrice)


def test_each_class_once_on_each_side():
  once, twice = jnp.array([0, 1, 2, 3]), jnp.array([0, 1, 1, 3])
  for loss in ("infonce", "ntxent"):
    objective = ml.make_objective(loss)
    call = lambda labels, others, objective=objective: objective(
      {}, X, labels, references=X[::-1], reference_labels=others
    )[0]
    assert np.isfinite(quick_jit(call)(once, once))
    for labels, others in ((twice, once), (once, twice)):
      with pytest.raises(ml.InputError, match="infonce_per_pair"):
        call(labels, others)


def test_references_need_labels():
  with pytest.raises(ml.InputError, match="reference_labels"):
    ml.make_objective("triplet")({}, X, LABELS, references=X)


@pytest.mark.parametrize("loss", CLASS_TABLES)
def test_a_class_table_takes_neither_references_nor_affinity(loss):
  objective = ml.make_objective(loss)
  # As many classes as items: the shape alone does not give it away.
  params = objective.init(jax.random.key(0), num_classes=4, embedding_dim=2)
  with pytest.raises(ml.InputError, match="references"):
    objective(params, X, LABELS, references=X, reference_labels=LABELS)
  with pytest.raises(ml.InputError, match="affinity"):
    objective(params, X, LABELS, affinity=jnp.eye(4))


@pytest.mark.parametrize("loss", CLASS_TABLES)
@pytest.mark.parametrize("wrong", [2, -1])
def test_labels_outside_the_class_table_are_refused(loss, wrong):
  objective = ml.make_objective(loss)
  params = objective.init(jax.random.key(0), num_classes=2, embedding_dim=2)
  labels = jnp.array([0, 1, 1, wrong])
  with pytest.raises(ml.InputError, match=rf"label {wrong} is outside 0\.\.1"):
    objective(params, X, labels)


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["proxy_nca", "proxy_anchor", "soft_triple"])
def test_traced_labels_outside_the_class_table_give_nan(loss):
  """Whatever the reduction; padding may have any label."""
  init = ml.make_objective(loss).init
  params = init(jax.random.key(0), num_classes=2, embedding_dim=2)

  @quick_jit
  def values(labels, where):
    return [
      ml.make_objective(loss, reduction=reduction)(
        params, X, labels, where=where
      )[0]
      for reduction in ml.REDUCTIONS
    ]

  real = np.array([True, True, True, False])
  for labels in ([0, 1, 1, 2], [0, 1, 1, -1], [2, 2, 2, 2]):
    labels = np.array(labels)
    for value in values(labels, np.ones(4, bool)):
      assert np.isnan(value).all()
  for value in values(np.array([0, 1, 1, 2]), real):
    assert np.isfinite(value).all()


@pytest.mark.parametrize(("items", "classes"), [(0, 3), (2, 3), (4, 3)])
def test_a_value_of_each_class_where_classes_are_the_anchors(items, classes):
  objective = ml.make_objective("proxy_anchor", reduction="none")
  params = objective.init(
    jax.random.key(0), num_classes=classes, embedding_dim=2
  )
  value, _ = quick_jit(objective)(params, X[:items], LABELS[:items])
  assert value.shape == (classes,)


def test_same_must_be_boolean():
  for same in (jnp.array([0, 1]), jnp.array([0.0, 1.0]), None):
    # Enforced types refuse it here, the function itself for a user.
    with pytest.raises(Exception, match=r"(?s)same.*boolean|check.*same"):
      ml.pair_loss("contrastive", jnp.array([0.5, 1.0]), same=same)


def test_pair_loss_errors():
  distances, same = jnp.array([0.5, 1.0]), jnp.array([True, False])
  for loss, keywords, message in (
    ("contrastiv", {"same": same}, r"pair loss 'contrastiv'; .*'contrastive'"),
    ("contrastive", {"same": same, "margn": 1.0}, r"'margn'; .*'margin'"),
    ("pair_regression", {"same": same}, "targets"),
  ):
    with pytest.raises(ml.InputError, match=message):
      ml.pair_loss(loss, distances, **keywords)


@pytest.mark.slow
def test_shapes_that_do_not_fit_as_a_user_meets_them():
  messages = script("""
    import json
    import jax
    import numpy as np
    import metric_learning as ml

    x, labels = np.ones((4, 2), np.float32), np.array([0, 0, 1, 1])
    objective = ml.make_objective("triplet")
    messages = []
    for call in (
      lambda: objective({}, x, labels[:3]),
      lambda: objective({}, x[0], labels),
      lambda: objective({}, x, labels[:, None]),
      lambda: objective({}, x, labels, where=np.ones(3, bool)),
      lambda: objective({}, x, labels, where=np.ones(4)),
      lambda: objective({}, x, labels, affinity=np.ones((4, 3))),
      lambda: objective({}, x, None, affinity=np.ones((4, 4))),
      lambda: objective(
        {}, x, labels, references=x, reference_labels=labels[1:]
      ),
      lambda: ml.pair_loss("contrastive", x[:, 0], same=np.ones(4)),
      lambda: ml.pair_loss("contrastive", x[:, 0], same=labels == 0),
      lambda: jax.jit(objective.__call__)({}, x, labels.astype(np.uint8)),
    ):
      try:
        call()
        messages.append("fine")
      except ml.InputError as error:
        messages.append(str(error))
    print(json.dumps(messages))
  """)
  for message, word in zip(
    messages,
    [
      "labels",
      "embeddings",
      "labels",
      "where",
      "where",
      "affinity",
      "zeros do",
      "reference_labels",
      "boolean",
      "fine",  # NumPy arrays are welcome
      "fine",
    ],
    strict=True,
  ):
    assert word in message


@pytest.mark.parametrize(
  ("labels", "message"),
  [
    (np.array([0.0, 0.0, 1.0, 1.0]), "integers, got float32"),
    (np.array([0, 0, 1]), r"got \(3,\) and \(4, 2\)"),
    (np.array([[0], [0], [1], [1]]), r"labels must be \[n\]"),
  ],
)
def test_labels_of_a_wrong_type_or_shape(labels, message):
  # Enforced types refuse it before, as a user does not meet them.
  check = getattr(points_of, "__wrapped__", points_of)
  with pytest.raises(ml.InputError, match=message):
    check(X, jnp.asarray(labels))


@pytest.mark.slow
def test_importing_needs_only_jax_numpy_and_jaxtyping():
  loaded = script("""
    import json
    import sys
    before = set(sys.modules)
    import jax, jaxtyping, numpy
    allowed = set(sys.modules) - before
    import metric_learning
    new = {name.split(".")[0] for name in set(sys.modules) - allowed - before}
    print(json.dumps(sorted(new - set(sys.stdlib_module_names))))
  """)
  heavy = {"flax", "optax", "orbax", "scipy", "sklearn", "PIL", "matplotlib"}
  assert not heavy & set(loaded)


@pytest.mark.slow
def test_a_subpackage_is_imported_at_its_first_use():
  heavy, score, names, message = script("""
    import json
    import sys
    import numpy as np
    import metric_learning as ml
    heavy = sorted({"flax", "scipy", "sklearn", "PIL"} & set(sys.modules))
    x, labels = np.eye(4, dtype=np.float32), np.array([0, 0, 1, 1])
    score = ml.evaluation.retrieval(x, labels)["recall_at_1"]
    names = [getattr(ml, name).__name__ for name in ("data", "training")]
    try:
      ml.evaluations
    except AttributeError as error:
      message = str(error)
    assert {"evaluation", "make_objective"} <= set(dir(ml))
    print(json.dumps([heavy, score, names, message]))
  """)
  assert heavy == [] and 0 <= score <= 1
  assert names == ["metric_learning.data", "metric_learning.training"]
  assert message == "module 'metric_learning' has no attribute 'evaluations'"


# --- what comes back ---------------------------------------------------------


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
