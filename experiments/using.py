"""Shared parts of the scripts that use a finished run: flags and inputs."""

import sys
from typing import Any

from absl import flags

from experiments import cli
from metric_learning import inference
from metric_learning.errors import InputError

RUN = cli.define_path(
  "run",
  None,
  "The folder of a run; or of a study, to use its best run on validation.",
)
SKIP_BAD = flags.DEFINE_bool(
  "skip_bad",
  False,
  "Leaves out images that cannot be used, and lists them. Otherwise the command"
  " lists them and ends without writing anything.",
)
RESIZE = flags.DEFINE_bool(
  "resize",
  False,
  "Resizes images of other sizes, as runs with config.data.image_size do.",
)
BATCH_SIZE = flags.DEFINE_integer(
  "batch_size", inference.BATCH, "The most items that are embedded together."
)


def needed(flag: Any, question: str, example: str) -> str:
  """The value of a required flag.

  Raises:
    InputError: if it is not given.
  """
  if not flag.value:
    raise InputError(f"{question} --{flag.name}={example}, for example.")
  return flag.value


def loaded() -> inference.FinishedRun:
  """The run that --run names."""
  folder = needed(RUN, "which run?", "runs/glyphs_compare")
  cli.start_device()
  run = inference.load(folder)
  print(
    f"{run.folder}: step {run.result['selected_step']}, {run.input_spec};"
    f" {run.config.loss.name}, distances under {run.metric}"
  )
  return run


def options() -> dict[str, Any]:
  """The keywords of `embed_files` that flags set."""
  return {
    "skip_bad": SKIP_BAD.value,
    "resize": RESIZE.value,
    "batch_size": BATCH_SIZE.value,
    "progress": True,
  }


def embedded(run: inference.FinishedRun, path: str) -> inference.Items:
  """Embeds the items at a path, and prints which images were skipped."""
  items = inference.embed_input(run, path, **options())
  say_skipped(items.bad)
  print(
    f"{path}: {len(items.points)} points of {items.points.shape[1]} numbers"
  )
  return items


def say_skipped(bad: list[InputError]) -> None:
  """Prints each skipped image on standard error."""
  for error in bad:
    print(f"skipped: {error}", file=sys.stderr)
