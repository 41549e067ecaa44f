"""Measures runs per hour on features: one by one, and as a population.

python -m experiments.benchmarks.short_runs

Writes results/short_runs.md. A run has 300 steps of a linear head to 128
dimensions on 3,000 features of 1,280 numbers, with the logs, scores and files
of the config `features`. Its fixed cost is its time beyond that of the steps.
Programs are compiled before the clock starts. It takes two minutes on a quiet
machine; --rounds=1 --members=2 rehearses it.
"""

import functools
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from ml_collections import ConfigDict

from configs import features
from experiments import cli
from metric_learning import data
from metric_learning.study.formats import as_markdown
from metric_learning.training import override, run_files, train
from metric_learning.training.plan import feed_of, make_plan
from metric_learning.training.population import train_population
from metric_learning.training.step import compiled

_OUTPUT = cli.define_path("output", "results/short_runs.md", "The page.")
_ROUNDS = flags.DEFINE_integer("rounds", 7, "Runs of each kind, in turn.", 1)
_MEMBERS = flags.DEFINE_integer("members", 8, "Runs of the population.", 2)

STEPS, CLASSES, EACH, DIM = 300, 60, 50, 1280


def main() -> None:
  """Measures each kind in turn, and writes the page."""
  config = override(
    features.get_config(),
    {
      "batch.classes_per_batch": 30,
      "data.protocol": "open-set",
      **{
        f"train.{name}": STEPS for name in ("steps", "eval_every", "save_every")
      },
    },
  )
  with tempfile.TemporaryDirectory() as folder:
    file = Path(folder) / "features.npz"
    run_files.write_arrays(file, _arrays())
    config = override(config, {"data.data_dir": str(file)})
    splits = data.load(config.data)
    seconds = _measured(config, splits, Path(folder) / "runs")
  steps, members = seconds["the steps alone"], _MEMBERS.value
  lines = [
    [
      kind,
      f"{x:.3f}",
      "–" if kind == "the steps alone" else f"{x - steps:.3f}",
      f"{3600 / x:,.0f}",
    ]
    for kind, x in seconds.items()
  ]
  heads = ["", "seconds", "beyond the steps", "runs per hour"]
  where = run_files.environment()
  text = (
    "# Short runs on features\n\nWritten by `python -m"
    f" experiments.benchmarks.short_runs` at commit {where['commit']}, on"
    f" {where['device']} with {where['cores']} cores. A run has {STEPS} steps"
    f" of a linear head to 128 dimensions on {CLASSES * EACH:,} features of"
    f" {DIM:,} numbers. The seconds are medians over {_ROUNDS.value} runs of"
    " each kind, measured in turn; programs are compiled beforehand. A run of a"
    " study keeps its last and its selected state; a single run also writes"
    " embeddings; a trial keeps only its result. The population is"
    f" {members} runs as one program; its seconds are those of one member.\n\n"
    f"{as_markdown(heads, lines)}\n"
  )
  run_files.write_atomically(
    Path(_OUTPUT.value), lambda file: file.write(text.encode())
  )
  print(text)


def _arrays() -> dict[str, np.ndarray]:
  """Normal noise around normal centers."""
  random = np.random.default_rng(0)
  labels = np.repeat(np.arange(CLASSES), EACH)
  points = random.normal(size=(len(labels), DIM))
  points += 0.5 * random.normal(size=(CLASSES, DIM))[labels]
  return {"features": points.astype(np.float32), "labels": labels}


def _measured(
  config: ConfigDict, splits: data.Splits, folder: Path
) -> dict[str, float]:
  """The median seconds of a run of each kind."""
  members = _MEMBERS.value
  configs = [override(config, {"seed": seed}) for seed in range(members)]
  run = functools.partial(train, config, folder, splits=splits, progress=False)
  kinds: dict[str, Callable[[], object]] = {
    "the steps alone": lambda: _steps(config, splits),
    "a single run": run,
    "a run of a study": lambda: run(embeddings=False),
    "a trial of a search": lambda: run(embeddings=False, save_after=60.0),
    "a member of a population": lambda: train_population(
      configs,
      [folder / str(seed) for seed in range(members)],
      splits,
      embeddings=False,
    ),
  }
  found: dict[str, list[float]] = {kind: [] for kind in kinds}
  for number in range(_ROUNDS.value + 1):
    for kind, call in kinds.items():
      shutil.rmtree(folder, ignore_errors=True)
      start = time.perf_counter()
      taken = call()
      seconds = time.perf_counter() - start
      if kind == "the steps alone":
        assert isinstance(taken, float)
        seconds = taken
      if number:  # The first compiles.
        found[kind].append(seconds)
  found["a member of a population"] = [
    x / members for x in found["a member of a population"]
  ]
  return {kind: statistics.median(each) for kind, each in found.items()}


def _steps(config: ConfigDict, splits: data.Splits) -> float:
  """Seconds of the steps, without what comes before them."""
  plan = make_plan(config, splits)
  traced = {name: jnp.float32(x) for name, x in plan.numbers.items()}
  key = jax.random.fold_in(jax.random.key(config.seed), 2)
  state = plan.program.init(config.seed, plan.num_classes, plan.numbers)
  feed = feed_of(plan, 0)
  step = compiled(plan.program.step, feed.gather)
  jax.block_until_ready((state, feed.shared))
  start = time.perf_counter()
  for number, own in enumerate(feed.own):
    state, values = step(state, number, feed.shared, own, key, traced)
  jax.block_until_ready(values)
  return time.perf_counter() - start


if __name__ == "__main__":
  cli.run(main, __doc__)
