"""Runs a sweep of a config and reports it.

python -m experiments.sweep --config=configs/glyphs.py --sweep=compare

A sweep is a generator of flat overrides in the config file. All its runs are
checked before the first one starts. Finished runs are skipped, so the same
command resumes a killed sweep. Two processes with this command share the runs.

Cells are compared with the cell that --config.study.reference names. By default
that is the reference of the sweep if it has one, otherwise the first cell.
"""

from pathlib import Path

from absl import flags

from experiments import cli
from metric_learning.errors import check_choice
from metric_learning.study import first_seeds, make_specs, run_study

_CONFIG = cli.define_config()
_SWEEP = flags.DEFINE_string("sweep", None, "A name in SWEEPS of the config.")
_STUDY = cli.define_path(
  "study", None, "The folder of the study; default: runs/<config>_<sweep>."
)
_LAUNCHER = cli.define_launcher()
_SEEDS = flags.DEFINE_integer(
  "seeds", None, "Takes only the first seeds of the sweep, this many.", 1
)
_LIMIT = flags.DEFINE_integer(
  "limit", None, "Trains only this many of the first runs, for a trial."
)


def main() -> None:
  """Trains the missing runs, then reports."""
  config = cli.config_value(_CONFIG)
  options = cli.launch_options(_LAUNCHER)
  module = cli.config_module()
  sweeps = getattr(module, "SWEEPS", {})
  check_choice("sweep", _SWEEP.value, sweeps)
  if _LIMIT.value is None:  # The first runs may lack the reference.
    config = cli.with_reference(config, sweeps[_SWEEP.value])
  rows = sweeps[_SWEEP.value]()
  if _SEEDS.value is not None:
    rows = first_seeds(rows, _SEEDS.value)
  specs = make_specs(config, rows)
  if _LIMIT.value is not None:
    specs = specs[: max(1, _LIMIT.value)]
  folder = Path(_STUDY.value or f"runs/{module.__name__}_{_SWEEP.value}")
  run_study(config, specs, folder, **options)
  cli.report(folder)


if __name__ == "__main__":
  cli.run(main, __doc__)
