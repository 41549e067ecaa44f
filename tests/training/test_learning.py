"""With each optimizer and each schedule, a network learns."""

import jax
import numpy as np
import pytest

from metric_learning import data, evaluation
from metric_learning.training import optimizers, override
from metric_learning.training.embedding import embed_all
from metric_learning.training.plan import feed_of, make_plan
from metric_learning.training.step import compiled
from tests.tiny import tiny_config

# Of rates that suit each: the sign of a gradient takes long steps.
RATES = {"lion": 1e-2, "sgd": 0.03, "muon": 0.1, "lamb": 0.1}
LEARNERS = [
  *({"optimizer.name": name} for name in sorted(optimizers.OPTIMIZERS)),
  *(
    {"optimizer.schedule.name": name}
    for name in sorted(optimizers.SCHEDULES)
    if name != "cosine"  # that of all others
  ),
]


@pytest.fixture(scope="module")
def blobs():
  """Ten classes of 24 points; half of the coordinates are noise."""
  random = np.random.default_rng(0)
  labels = np.repeat(np.arange(10, dtype=np.int32), 24)
  points = random.normal(size=(240, 16)).astype(np.float32)
  points[:, :8] += 1.5 * random.normal(size=(10, 8))[labels]
  points[:, 8:] *= 3
  names = tuple(map(str, range(10)))
  whole = data.Dataset("blobs", points, labels, names)
  places = np.arange(240)
  parts = [data.select(whole, places[places % 3 == i]) for i in range(3)]
  return data.Splits(*parts, "closed-set")


@pytest.mark.parametrize("fields", LEARNERS, ids=lambda f: "-".join(f.values()))
def test_a_run_learns(fields, blobs):
  rate = RATES.get(fields.get("optimizer.name"), 0.01)
  config = tiny_config(
    model__name="linear",
    loss__name="supcon",
    optimizer__learning_rate=rate,
    train__steps=40,
  )
  plan = make_plan(override(config, fields), blobs)
  state = plan.program.init(0, 10, plan.numbers)
  feed = feed_of(plan, 0)
  step = compiled(plan.program.step, feed.gather)

  def score(state):
    points = embed_all(plan.program, state, blobs.validation.inputs)
    labels = blobs.validation.labels
    return evaluation.retrieval(points, labels, metric="l2")["map_at_r"]

  before, losses = score(state), []
  for number, own in enumerate(feed.own):
    state, values = step(
      state, number, feed.shared, own, jax.random.key(0), plan.numbers
    )
    losses.append(float(values.named()["loss"]))
  assert np.mean(losses[-5:]) < 0.9 * np.mean(losses[:5])
  assert score(state) > before + 0.05
