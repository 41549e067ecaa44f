"""Trains one run.

python -m experiments.train --config=configs/glyphs.py:supcon --workdir=runs/one

The same command resumes a killed run; a finished run is not changed. Test
classes are scored only with --test, so that they cannot guide your choices.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path

import jax
from absl import flags

from experiments import cli
from metric_learning.errors import InputError
from metric_learning.study.runs import Run
from metric_learning.study.scoring import score_run
from metric_learning.study.sweeps import RunSpec
from metric_learning.training import processes, train
from metric_learning.training.writers import check_writers

_CONFIG = cli.define_config()
_WORKDIR = cli.define_path("workdir", None, "The folder of the run.")
_DISTRIBUTED = flags.DEFINE_bool(
  "distributed",
  False,
  "Joins other processes with the same command to train the run together; see"
  " docs/many_devices.md.",
)
_TEST = flags.DEFINE_bool("test", False, "Score the test classes at the end.")


def main() -> None:
  """Trains the run, and prints its scores."""
  if _DISTRIBUTED.value:
    processes.join()
  config = cli.config_value(_CONFIG)
  cli.start_device()
  if not _WORKDIR.value:
    raise InputError("which folder? --workdir=runs/one, for example.")
  folder = Path(_WORKDIR.value)
  result = train(config, folder)
  processes.leave()
  if jax.process_index():
    return  # Only the first process prints scores.
  _show("validation", result["validation_selected"], config.eval.columns)
  if _TEST.value:
    run = Run(RunSpec(folder.name, {}, config), folder, result)
    scores = score_run(run).tested.selected
    _show("test", scores, config.eval.columns)
  if "tensorboard" in check_writers():
    # Plotting is slow to import.
    from metric_learning.report import write_pictures

    write_pictures(folder)
  print(f"The run is in {folder}.")


def _show(
  part: str, scores: Mapping[str, float], columns: Iterable[str]
) -> None:
  # Slow columns are scored on test classes only.
  for column in (c for c in columns if c in scores):
    # Over episodes for few-shot, over folds for LFW.
    errors = {
      f" ± {scores[name]:.4f} ({name.removeprefix(f'{column}_')})"
      for name in (f"{column}_interval", f"{column}_standard_error")
      if name in scores
    }
    print(f"{part:>10}  {column:<24} {scores[column]:.4f}{''.join(errors)}")


if __name__ == "__main__":
  cli.run(main, __doc__)
