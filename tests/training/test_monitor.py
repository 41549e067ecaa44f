"""Warnings of runs that train nothing; steps that are not finite."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metric_learning import InputError
from metric_learning.training import (
  NotFiniteError,
  monitor,
  recorder,
  run_files,
  step,
  train,
)
from metric_learning.training.config import as_dict
from metric_learning.training.plan import feed_of, make_plan
from metric_learning.training.step import compiled, names_of_leaves
from tests.tiny import tiny_config

# As in test_loop.py, the tiny run is trained, and compiled once.
pytestmark = pytest.mark.xdist_group("training loop")

# No pair is within reach of this miner, and so there is nothing to learn.
NOTHING = {
  "loss__name": "contrastive",
  "miner.name": "pair_margin",
  "miner.positive_margin": 1e6,
  "miner.negative_margin": 0.0,
}


@pytest.mark.slow
def test_a_run_that_trains_nothing_says_so(splits, tmp_path, caplog):
  config = tiny_config(**NOTHING)
  result = train(config, tmp_path / "run", splits=splits)
  said = " ".join(result["warnings"])
  assert "the gradient is 0 since step 2: the run trains nothing" in said
  log = (tmp_path / "run" / recorder.LOG).read_text()
  assert log.count("the gradient is 0 since") == 1
  assert caplog.text.count("the gradient is 0 since") == 1


def test_a_run_that_trains_has_no_warning(splits, tmp_path):
  assert not train(tiny_config(), tmp_path, splits=splits)["warnings"]


def records_of(name, values):
  return [{"step": n, name: x} for n, x in enumerate(values, 1)]


def test_a_collapse_is_told_and_forgotten_when_it_is_over():
  collapsed = "validation/geometry/collapsed"
  rank = {"validation/geometry/effective_rank": 1.25}
  found = [{**r, **rank} for r in records_of(collapsed, (0.0, 1.0))]
  (said,) = monitor.warnings_of(found)
  assert "collapsed at step 2: their effective rank is 1.25" in said
  assert not monitor.warnings_of(found[::-1])


def test_a_loss_without_active_terms_is_told():
  found = records_of("train/active_fraction", (0.5, 0.0, 0.0))
  (said,) = monitor.warnings_of(found)
  assert said.startswith("no term of the loss is active since step 2")
  assert not monitor.warnings_of(found[:2])


# --- Not finite -------------------------------------------------------------


def sick_batches(monkeypatch, *steps):
  """Puts infinity into the inputs of some steps."""

  def fed(plan, first):
    feed = feed_of(plan, first)

    def gather(shared, own):
      batch = feed.gather(shared, own[0])
      return batch._replace(inputs=batch.inputs * own[1])

    factors = (
      np.float32(np.inf if n in steps else 1) for n in itertools.count(first)
    )
    return feed._replace(
      gather=gather, own=zip(feed.own, factors, strict=False)
    )

  monkeypatch.setattr("metric_learning.training.loop.feed_of", fed)


def test_what_is_not_finite_is_named(splits, tmp_path, monkeypatch):
  sick_batches(monkeypatch, 3)
  with pytest.raises(
    NotFiniteError,
    match=r"at step 4: gradient_norm, loss.*; the largest gradient is that of"
    r" model/\S+; the last good checkpoint is step 3",
  ):
    train(tiny_config(), tmp_path / "run", splits=splits)


@pytest.mark.slow
def test_what_is_not_finite_is_skipped(splits, tmp_path, monkeypatch):
  config = tiny_config(train__not_finite="skip")
  sick_batches(monkeypatch, 1, 3)
  result = train(config, tmp_path / "run", splits=splits)
  assert result["skipped"] == 2
  assert np.isfinite(result["validation"]["own/map_at_r"])
  log = (tmp_path / "run" / recorder.LOG).read_text()
  assert "step 2 is skipped, since it is not finite: gradient_norm, loss" in log
  monkeypatch.setattr(recorder, "_HOPELESS", 2)
  sick_batches(monkeypatch, 1, 2, 3)
  with pytest.raises(NotFiniteError, match="at step 3"):
    train(config, tmp_path / "other", splits=splits)


def test_what_is_done_must_be_known():
  with pytest.raises(InputError, match=r"train\.not_finite.*Known: skip, stop"):
    train(tiny_config(train__not_finite="clip"), "nowhere")


def test_the_largest_gradient_is_that_of_its_leaf():
  leaves = {"a": jnp.array([3.0, 4.0]), "b": jnp.array([[-4.5]])}
  gradient = {"objective": {"proxies": jnp.array([6.0])}, "model": leaves}
  names = names_of_leaves(gradient)
  found = step._of_gradient(gradient)
  # √(3² + 4² + 4.5²) of the network; of all the proxies are the largest.
  assert float(found["gradient_norm"]) == pytest.approx(np.sqrt(45.25))
  assert names[int(found["largest_gradient"])] == "objective/proxies"
  gradient["model"]["b"] = jnp.array([[jnp.nan]])
  assert (
    names[int(step._of_gradient(gradient)["largest_gradient"])] == "model/b"
  )


# --- Transfers --------------------------------------------------------------


def test_a_step_moves_nothing_but_its_batch(splits, tmp_path):
  plan = make_plan(tiny_config(), splits)
  run = run_of(plan, tmp_path)
  state, feed = run.first_state(), feed_of(plan, 0)
  take = compiled(plan.program.step, feed.gather)
  own = iter(feed.own)
  number = jax.device_put(0)  # Four bytes, which a loop moves too.
  state, _ = take(state, number, feed.shared, next(own), run.key, run.traced)
  with jax.transfer_guard("disallow"):
    for _ in range(2):
      # The places of its items; the step takes them from what lies there.
      batch = jax.device_put(next(own))
      state, values = take(
        state, number, feed.shared, batch, run.key, run.traced
      )
  assert np.isfinite(values.named()["loss"])
  with (
    jax.transfer_guard("disallow"),
    pytest.raises(jax.errors.JaxRuntimeError, match="Disallowed host-to-dev"),
  ):
    take(state, number, feed.shared, next(own), run.key, run.traced)


def run_of(plan, folder):
  run_files.claim(folder, as_dict(plan.config), plan.splits.identity)
  return recorder.Recorder(plan, folder)
