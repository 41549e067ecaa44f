"""Describes data sets by counts, baselines and one short training each.

python -m experiments.benchmarks.datasets \\
  --sets=glyphs,digits,att_faces=FOLDER,omniglot=FOLDER

Writes results/data.md. A set is the name of a config in configs/, with its
data_dir after an =. The trained row is a short training with the config as it
is; it does not show what could be reached. The same command resumes a killed
one; finished runs are skipped.
"""

import importlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from absl import flags
from ml_collections import ConfigDict

from experiments import cli
from metric_learning import data, evaluation
from metric_learning.data.loaded import load_once
from metric_learning.data.sets.omniglot import UNNAMED
from metric_learning.errors import InputError
from metric_learning.study import (
  make_specs,
  read_study,
  run_study,
  score_chosen,
  tables,
)
from metric_learning.study.results import Study
from metric_learning.study.statistics import t_interval
from metric_learning.training import override, run_files

_SETS = flags.DEFINE_list("sets", [], "name, or name=data_dir, each.")
_STEPS = flags.DEFINE_integer("steps", 200, "Training steps of each run.", 1)
_SEEDS = flags.DEFINE_integer("seeds", 3, "Runs of each set.", 1)
_RUNS = cli.define_path("runs", "runs/data", "The folder of the runs.")
_OUTPUT = cli.define_path("output", "results/data.md", "The page.")

CONFIGS = Path(__file__).parents[2] / "configs"
MARKS = (
  "Published accuracies of another split, which mixes the alphabets (1,200"
  " characters with their rotations train, 423 are tested), so that they are"
  " no rivals of these: in the columns' order raw pixels 41.7, 63.2, 26.7 and"
  " 42.6 % (Vinyals et al., Matching Networks, NeurIPS 2016), Prototypical"
  " Networks 98.8, 99.7, 96.0 and 98.9 % (Snell et al., NeurIPS 2017)."
)


def main() -> None:
  """Runs what is missing, and writes the page."""
  if not _SETS.value:
    raise InputError("which sets? --sets=glyphs,att_faces=FOLDER, for example.")
  sets = [text.partition("=")[::2] for text in _SETS.value]
  configs = [_config(name, data_dir) for name, data_dir in sets]
  splits = [load_once(config.data) for config in configs]
  sections = [_section(config) for config in configs]
  named = ",".join(name + "=FOLDER" * bool(folder) for name, folder in sets)
  where = run_files.environment()
  page = [
    "# Data sets",
    "",
    "`python -m experiments.benchmarks.datasets"
    f" --steps={_STEPS.value}"
    f" --seeds={_SEEDS.value} --sets={named}`, commit {where['commit']}, on"
    f" {where['device']} with {where['cores']} cores. The trained rows are"
    f" {_STEPS.value} steps with the config of the set as it is, seeds 0 to"
    f" {_SEEDS.value - 1}: too short to show what could be reached, and"
    " nothing is tuned.",
    "",
    "| set | split | part | classes | images | size |",
    "|" + " --- |" * 6,
  ]
  for config, some in zip(configs, splits, strict=True):
    page += _counts(config, some)
  for config, some in zip(configs, splits, strict=True):
    page += _unnamed(config, some)
  text = "\n".join([*page, *sections]) + "\n"
  path = Path(_OUTPUT.value)
  run_files.make_folder(path.parent)
  run_files.write_atomically(path, lambda file: file.write(text.encode()))
  print(f"{text}\nThe page is {path}.")


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


def _counts(config: ConfigDict, splits: data.Splits) -> Iterator[str]:
  for part in ("train", "validation", "test", "gallery"):
    dataset = getattr(splits, part)
    if dataset is not None:
      height, width, channels = dataset.inputs.shape[1:]
      size = f"{height}×{width}" + f"×{channels}" * (channels > 1)
      counts = f"{len(dataset.class_names):,} | {len(dataset.inputs):,}"
      split = f"{config.data.split}, {splits.protocol}"
      yield f"| {config.data.name} | {split} | {part} | {counts} | {size} |"


def _unnamed(config: ConfigDict, splits: data.Splits) -> Iterator[str]:
  """What is missing of the names of Omniglot's alphabets."""
  parts = (splits.train, splits.validation, splits.test)
  names = [name for part in parts for name in part.class_names]
  count = sum(name.startswith(f"{UNNAMED}/") for name in names)
  if count:
    yield (
      f"\n{config.data.name}: the alphabet of {count} of the {len(names):,}"
      " characters is not known, so validation is by characters and not by"
      " alphabets; images_background.zip would tell."
    )


def _section(config: ConfigDict) -> str:
  """The tables of a study of one setting."""
  names = {"loss.name": config.loss.name, "model.name": config.model.name}
  specs = make_specs(
    config, [{**names, "seed": s} for s in range(_SEEDS.value)]
  )
  # The names are for the table: to set them would bring their defaults.
  specs = [
    spec._replace(config=override(config, {"seed": spec.overrides["seed"]}))
    for spec in specs
  ]
  folder = Path(_RUNS.value) / config.data.name
  run_study(config, specs, folder)
  study = score_chosen(read_study(folder))
  table = tables.to_markdown(study)
  return f"\n## {config.data.name}\n\n{table}{_few_shot(study)}"


def _few_shot(study: Study) -> str:
  """Few-shot accuracy with its interval over episodes, as papers print it."""
  columns = [c for c in study.config["eval"]["columns"] if "few_shot" in c]
  if not columns:
    return ""
  lines: dict[str, list[dict[str, float]]] = {}
  for baseline in study.baselines:
    lines.setdefault(baseline["name"], []).append(baseline["test"])
  for cell in study.cells:
    scores = [run.tested.selected for run in cell.chosen.runs]
    lines[tables.in_words(cell.name)] = scores
  heads = [evaluation.heading(column) for column in columns]
  text = ["\nFew-shot accuracy in %\n", "| | " + " | ".join(heads) + " |"]
  text += ["|" + " --- |" * (len(columns) + 1)]
  for name, scores in lines.items():
    cells = [_episodes(scores, column) for column in columns]
    text.append(f"| {name} | " + " | ".join(cells) + " |")
  text.append(
    "\nNearest class mean under each row's own metric; ± is a 95 % interval"
    " over 1,000 episodes of one model, its mean over seeds; in brackets a 95 %"
    " t-interval over seeds."
  )
  if study.config["data"]["name"] == "omniglot":
    text.append(MARKS)
  return "\n".join(text) + "\n"


def _episodes(scores: Sequence[dict[str, float]], column: str) -> str:
  mean = 100 * np.mean([s[column] for s in scores])
  episodes = 100 * np.mean([s[f"{column}_interval"] for s in scores])
  text = f"{mean:.1f} ± {episodes:.1f}"
  if len(scores) > 1:
    seeds = t_interval([100 * s[column] for s in scores])
    text += f" [{seeds.low:.1f}, {seeds.high:.1f}]"
  return text


if __name__ == "__main__":
  cli.run(main, __doc__)
