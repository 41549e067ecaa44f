"""The refusals of an objective: names, numbers, labels, shapes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import metric_learning as ml
from metric_learning.inputs import points_of
from tests.objectives.four_points import LABELS, X
from tests.quick import quick_jit
from tests.scripts import script

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
     r"hyperparameter of triplet 'margins'; did you mean 'margin'.*"
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
  """By the entry of the loss, with a message that names both."""
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
  """An error outside jit becomes NaN, since any number would be ambiguous."""
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
  """For every reduction; padding may have any label."""
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
      "zeros are sufficient",
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
