"""Tunes every cell of a sweep, makes the final runs, and reports them.

python -m experiments.tune --config=configs/glyphs.py --sweep=losses

A sweep for tuning yields cells (losses, metrics, miners) without the searched
hyperparameters. Each search has config.tune.trials trials. The same command
resumes a killed one. Several processes with this command share the trials, also
on several machines that share the folder. With several GPUs, start one process
for each (CUDA_VISIBLE_DEVICES=0, 1, …).

--launcher, --population and --members apply to the final runs, which are
compared like those of experiments.sweep.
"""

from pathlib import Path

from absl import flags

from experiments import cli
from metric_learning.errors import InputError, check_choice
from metric_learning.study import make_specs, run_study
from metric_learning.study.compared_with import cells_of

_CONFIG = cli.define_config()
_SWEEP = flags.DEFINE_string(
  "sweep", None, "A name in SWEEPS of the config; default: only its loss."
)
_STUDY = cli.define_path(
  "study", None, "The folder; default: runs/<config>_<sweep>_tuned."
)
_STORAGE = cli.define_path(
  "storage",
  None,
  "Where Optuna keeps the trials: the URL of a database, or a journal file;"
  " default: a SQLite file in the folder.",
)
_LAUNCHER = cli.define_launcher()


def main() -> None:
  """Makes the missing trials and final runs, then reports."""
  try:
    from metric_learning.study import tuning
  except ImportError as error:
    raise InputError(
      f"tuning needs the package {error.name}: pip install"
      " 'metric-learning[tune]'."
    ) from None
  config = cli.config_value(_CONFIG)
  options = cli.launch_options(_LAUNCHER)
  module = cli.config_module()
  cells = [{"loss.name": config.loss.name}]
  if _SWEEP.value is not None:
    sweeps = getattr(module, "SWEEPS", {})
    check_choice("sweep", _SWEEP.value, sweeps)
    cells = sweeps[_SWEEP.value]()
    config = cli.with_reference(config, sweeps[_SWEEP.value])
  name = f"{module.__name__}_{_SWEEP.value or config.loss.name}_tuned"
  folder = Path(_STUDY.value or f"runs/{name}")
  specs = make_specs(config, cells)
  chosen = tuning.search(config, specs, folder, _STORAGE.value)
  final = tuning.final_specs(config, chosen)
  run_study(*final, folder, cells=cells_of(specs), **options)
  cli.report(folder)


if __name__ == "__main__":
  cli.run(main, __doc__)
