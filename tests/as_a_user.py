"""Bad calls without the type checks that tests enforce, in their own process.

For each call that raises no `InputError` with one of the expected messages,
this prints the name and what happened instead; then the number of calls. NumPy
keeps 64-bit labels here, as it does for a user.
"""

import json

import jax
import numpy as np

import metric_learning as ml
from metric_learning.objectives.memory import empty_memory, enqueue

X, LABELS = np.ones((6, 5), np.float32), np.array([0, 0, 1, 1, 2, 2])
BIG = np.array([0, 0, 2**32, 2**32, 1, 1])  # in 32 bits one class
KEY, SIZES = jax.random.key(0), {"num_classes": 3, "embedding_dim": 8}
MESSAGES = (
  "same d",
  "be compared",
  "embedding_dim",
  "no distance",
  "hold 4294967296",
  "give a name, not a ",
)


def learned_of_another_dimension():
  """Class tables and learned metrics of 8 dimensions; the points have 5."""
  objectives = {
    (name, metric): ml.make_objective(name, metric)
    for name, entry in ml.LOSSES.items()
    if entry.init and entry.needs_labels
    for metric in {entry.metric, *entry.metrics} - {"lp"}
  }
  for name, metric in (("triplet", "mahalanobis"), ("pair_bce", "l1")):
    objectives[name, metric] = ml.make_objective(name, metric)
  for name, o in objectives.items():
    yield name, lambda o=o: o(o.init(KEY, **SIZES), X, LABELS)


def others_of_another_dimension():
  """Galleries, states and memories."""
  for name in ("triplet", "infonce", "ntxent", "vicreg", "npair"):
    o = ml.make_objective(name)
    others = {"references": X[::2, :3], "reference_labels": LABELS[::2]}
    yield (
      (name, "references"),
      lambda o=o, others=others: o({}, X[::2], LABELS[::2], **others),
    )
  center = ml.make_objective("center")
  state = center.init_state(**SIZES)
  yield ("center", "state"), lambda: center({}, X, LABELS, state=state)
  empty = empty_memory(8, 5)
  yield ("memory", "l2"), lambda: enqueue(empty, X[:, :1], LABELS)
  others = {"references": X[:, :3], "reference_labels": LABELS}
  for metric in ("l1", "l2", "cosine"):
    yield (
      ("retrieval", metric),
      lambda metric=metric: ml.evaluation.retrieval(
        X, LABELS, metric=metric, **others
      ),
    )


def labels_beyond_32_bits():
  """64-bit labels as classes of a batch, of references, a table, a memory."""
  o, table = ml.make_objective("contrastive"), ml.make_objective("arcface")
  params = table.init(KEY, num_classes=3, embedding_dim=5)
  memory = ml.with_memory(o, 8)
  state = memory.init_state(embedding_dim=5)
  big = {"references": X, "reference_labels": BIG}
  yield ("labels", "batch"), lambda: o({}, X, BIG)
  yield ("labels", "references"), lambda: o({}, X, LABELS, **big)
  yield ("labels", "table"), lambda: table(params, X, BIG)
  yield ("labels", "memory"), lambda: memory({}, X, BIG, state=state)
  yield ("labels", "enqueue"), lambda: enqueue(state["memory"], X, BIG)


def things_for_names():
  """Entries of registries where their names belong."""
  loss, miner = ml.LOSSES["triplet"], ml.MINERS["all"]
  yield ("entry", "loss"), lambda: ml.make_objective(loss)
  yield ("entry", "miner"), lambda: ml.make_objective("triplet", miner=miner)


def wrong(calls):
  """The names of calls that do not end as they should, with how they end."""
  for name, call in calls.items():
    try:
      call()
      yield [*name, "no error"]
    except ml.InputError as error:
      if not any(words in str(error) for words in MESSAGES):
        yield [*name, str(error)]
    except Exception as error:
      yield [*name, repr(error)]


def main():
  """Prints the number of calls, and the wrong ones."""
  calls = {
    **dict(learned_of_another_dimension()),
    **dict(others_of_another_dimension()),
    **dict(labels_beyond_32_bits()),
    **dict(things_for_names()),
  }
  print(json.dumps([len(calls), list(wrong(calls))]))
