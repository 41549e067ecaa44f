"""Counts, baselines and one trained row for each data set at hand.

python -m experiments.data --sets=glyphs,digits,att_faces=FOLDER,omniglot=FOLDER

A set is a config in configs/, and after = its data_dir. Writes results/data.md;
the trained row is a short training with the config as it is, to see that the
set can be learned, not what could be reached. Finished runs are skipped.
"""

import importlib
from collections.abc import Iterator
from pathlib import Path

from absl import flags
from ml_collections import ConfigDict

from experiments import cli
from metric_learning import data
from metric_learning.errors import InputError
from metric_learning.study import (
  make_rows,
  read_study,
  run_study,
  write_tables,
)
from metric_learning.study.runner import load_once
from metric_learning.training import override, records

_SETS = flags.DEFINE_list("sets", [], "name, or name=data_dir, each.")
_STEPS = flags.DEFINE_integer("steps", 200, "Training steps of each run.")
_RUNS = flags.DEFINE_string("runs", "runs/data", "The folder of the runs.")
_OUTPUT = flags.DEFINE_string("output", "results/data.md", "The page.")

CONFIGS = Path(__file__).parents[1] / "configs"


def main() -> None:
  """Runs what is missing, and writes the page."""
  if not _SETS.value:
    raise InputError("which sets? --sets=glyphs,att_faces=FOLDER, for example.")
  configs = [_config(*text.partition("=")[::2]) for text in _SETS.value]
  splits = [load_once(config) for config in configs]
  sections = [_section(config) for config in configs]
  head = (
    "# Data sets\n\n"
    f"`python -m experiments.data --steps={_STEPS.value} --sets=…`, commit"
    f" {records.environment()['commit']}. Each trained row is one run of"
    f" {_STEPS.value} steps with the config of the set as it is, seed 0: it"
    " shows that the set can be learned, not what could be reached.\n\n"
  )
  counts = ["| set | part | classes | images | size |", "|" + " --- |" * 5]
  for config, some in zip(configs, splits, strict=True):
    counts += _counts(config.data.name, some)
  page = head + "\n".join(counts) + "\n" + "".join(sections)
  path = Path(_OUTPUT.value)
  records.make_folder(path.parent)
  records.write_atomically(path, lambda file: file.write(page.encode()))
  print(f"{page}\nThe page is {path}.")


def _config(name: str, data_dir: str) -> ConfigDict:
  """The config of a set, shortened to --steps."""
  if not (CONFIGS / f"{name}.py").exists():
    known = ", ".join(sorted(path.stem for path in CONFIGS.glob("*.py")))
    raise InputError(f"--sets: there is no config {name!r}. Known: {known}.")
  config = importlib.import_module(f"configs.{name}").get_config()
  every = {
    f"train.{name}": _STEPS.value for name in ("eval_every", "save_every")
  }
  steps = {"train.steps": _STEPS.value, **every}
  return override(config, {"data.data_dir": data_dir, **steps})


def _counts(name: str, splits: data.Splits) -> Iterator[str]:
  for part in ("train", "validation", "test", "gallery"):
    dataset = getattr(splits, part)
    if dataset is not None:
      height, width, channels = dataset.images.shape[1:]
      size = f"{height}×{width}" + f"×{channels}" * (channels > 1)
      classes = len(dataset.class_names)
      yield (
        f"| {name} | {part} | {classes:,} | {len(dataset.images):,} | {size} |"
      )


def _section(config: ConfigDict) -> str:
  """The table of a study of one run."""
  names = {"loss.name": config.loss.name, "model.name": config.model.name}
  folder = Path(_RUNS.value) / config.data.name
  run_study(config, make_rows(config, [{**names, "seed": 0}]), folder)
  table = write_tables(read_study(folder))[0].read_text()
  return f"\n## {config.data.name}\n\n{table}"


if __name__ == "__main__":
  cli.run(main, __doc__)
