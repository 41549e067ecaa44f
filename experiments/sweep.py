"""Runs a sweep of a config and reports it.

python -m experiments.sweep --config=configs/glyphs.py --sweep=compare

A sweep is a generator of flat overrides in the config file. All its rows are
checked before the first runs. Finished runs are skipped, so that a killed
sweep goes on where it was when the same command is given again; given twice at
once, the two share the rows.
"""

from pathlib import Path

from absl import flags

from experiments import cli
from metric_learning.errors import InputError, check_choice
from metric_learning.study import make_rows, run_study, start_launcher

_CONFIG = cli.define_config()
_SWEEP = flags.DEFINE_string("sweep", None, "A name in SWEEPS of the config.")
_STUDY = flags.DEFINE_string(
  "study", None, "The folder of the study; runs/<config>_<sweep> if not given."
)
_LIMIT = flags.DEFINE_integer("limit", None, "Only the first rows, to try out.")
_LAUNCHER = flags.DEFINE_string(
  "launcher",
  "local",
  "local: on the devices of this process, one run on each at a time; ray: as"
  " tasks of a Ray cluster (extra ray).",
)
_POPULATION = flags.DEFINE_string(
  "population",
  "auto",
  "on: rows that differ in numbers and seeds alone train as one program; off;"
  " auto: where that was measured to be faster, which a CPU is not.",
)
_MEMBERS = flags.DEFINE_integer("members", 32, "Of one population, at most.")
_GPUS = flags.DEFINE_float(
  "gpus_per_run", None, "Of a Ray task; 1 if the cluster has any.", 0
)


def main() -> None:
  """Runs what is missing, then reports."""
  config = cli.config_value(_CONFIG)
  module = cli.config_module()
  sweeps = getattr(module, "SWEEPS", {})
  check_choice("sweep", _SWEEP.value, sweeps)
  rows = make_rows(config, sweeps[_SWEEP.value]())
  if _LIMIT.value is not None:
    rows = rows[: max(1, _LIMIT.value)]
  folder = Path(_STUDY.value or f"runs/{module.__name__}_{_SWEEP.value}")
  resources = {}
  if _GPUS.value is not None:
    if _LAUNCHER.value != "ray":
      raise InputError("--gpus_per_run is of --launcher=ray.")
    resources["gpus_per_run"] = _GPUS.value
  # Before JAX has threads.
  start_launcher(_LAUNCHER.value)
  cli.keep_programs()
  run_study(
    config,
    rows,
    folder,
    launcher=_LAUNCHER.value,
    population=_POPULATION.value,
    members=_MEMBERS.value,
    **resources,
  )
  cli.report(folder)


if __name__ == "__main__":
  cli.run(main, __doc__)
