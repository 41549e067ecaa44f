"""Embeddings from a trained state, and their files in the folder of a run."""

from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Shaped
from ml_collections import ConfigDict

from metric_learning import data, devices
from metric_learning.data.loaded import load_once
from metric_learning.data.stream import read_ahead
from metric_learning.errors import InputError
from metric_learning.evaluation import lower_is_better
from metric_learning.specs import InputSpec
from metric_learning.training import run_files
from metric_learning.training.checkpoints import (
  CHECKPOINTS,
  Checkpoints,
  DamagedError,
)
from metric_learning.training.config import override
from metric_learning.training.plan import num_classes
from metric_learning.training.step import Program, program_of

# The number of items that are embedded at a time.
_BATCH = 512


def embed_all(
  program: Program, state: dict[str, Any], inputs: np.ndarray | data.ImageFiles
) -> Float[np.ndarray, "n d"]:
  """Embeddings of all stored items, computed in batches of one shape."""
  starts = range(0, len(inputs), _BATCH)
  read = lambda start: np.asarray(inputs[start : start + _BATCH])
  on_disk = isinstance(inputs, data.ImageFiles)
  blocks = read_ahead(read, starts) if on_disk else map(read, starts)
  return np.concatenate([embed_block(program, state, x) for x in blocks])


def embed_block(
  program: Program,
  state: dict[str, Any],
  items: Shaped[np.ndarray, " n *item"],
  size: int = _BATCH,
) -> Float[np.ndarray, "n d"]:
  """Embeddings of up to `size` items, padded so that one program suffices.

  On a mesh, the padded size is a multiple of the devices.
  """
  if program.mesh is not None:
    size += -size % devices.sharers(program.mesh)
  short = size - len(items)
  padded = np.pad(items, [(0, short)] + [(0, 0)] * (items.ndim - 1))
  return np.asarray(program.embed(state, padded))[: len(items)]


def embedded(
  program: Program,
  state: Any,
  splits: data.Splits,
  validation: np.ndarray | None = None,
) -> dict[str, np.ndarray]:
  """The embeddings of the validation part, the test part and the gallery.

  `validation` holds the embeddings of that part, if they exist already.
  """
  arrays: dict[str, np.ndarray] = {}
  for part in ("validation", "test", "gallery"):
    items = getattr(splits, part)
    if items is None:
      continue
    points = validation if part == "validation" else None
    if points is None:
      points = embed_all(program, state, items.inputs)
    arrays |= arrays_of(part, items, points)
  return arrays


def arrays_of(
  name: str, part: data.Dataset, embeddings: np.ndarray
) -> dict[str, np.ndarray]:
  """The arrays of a part for scoring: embeddings, classes, explicit pairs."""
  arrays = {
    "embeddings": embeddings,
    "labels": part.labels,
    "class_names": np.array(part.class_names),
  }
  if part.superclasses is not None:
    arrays["superclasses"] = np.array(part.superclasses)
  if part.groups is not None:
    arrays["groups"] = part.groups
  if part.pairs is not None:
    arrays["first"] = part.pairs.first
    arrays["second"] = part.pairs.second
    arrays["same"] = part.pairs.is_same
    if part.pairs.folds is not None:
      arrays["folds"] = part.pairs.folds
  return {f"{name}_{kind}": array for kind, array in arrays.items()}


def is_embedded(workdir: Path) -> bool:
  """Whether a run has all its embeddings; those of the last step come last."""
  return (workdir / run_files.EMBEDDINGS).exists()


def data_of(workdir: Path, config: ConfigDict) -> data.Splits:
  """The data that a run was trained on, from where its config says.

  Raises:
    InputError: if they cannot be read, or are other data by now.
  """
  try:
    splits = load_once(config.data)
  except (InputError, OSError) as error:
    raise InputError(
      f"the data of {workdir} cannot be read: {error} Put the data, or a link"
      " to it, back in its place: config.data.data_dir="
      f"{config.data.data_dir!r} of {config.data.name}."
    ) from error
  _check_data(workdir, splits)
  return splits


def _check_data(workdir: Path, splits: data.Splits) -> None:
  change = run_files.difference(run_files.data_of(workdir), splits.identity)
  if change:
    raise InputError(
      f"{workdir} is a run on other data: {change}. Provide the data that it"
      " was trained on."
    )


def embed_run(config: ConfigDict, workdir: Path, splits: data.Splits) -> None:
  """Writes the embeddings of a finished run from its checkpoints.

  They are those of the last step and, if it differs, of the selected step. A
  run that already has its embeddings is not changed.

  Raises:
    InputError: for other data than the run was trained on, or for a missing or
      damaged checkpoint.
  """
  if is_embedded(workdir):
    return
  _check_data(workdir, splits)
  result = run_files.read_json(workdir / run_files.RESULT)
  program = trained_program(config, splits.train.input_spec)
  classes = num_classes(config, splits.train)
  like = program.init(config.seed, classes, result["numbers"])
  names = {
    run_files.SELECTED_EMBEDDINGS: result["selected_step"],
    run_files.EMBEDDINGS: result["steps"],
  }
  if result["selected_step"] in (None, result["steps"]):
    del names[run_files.SELECTED_EMBEDDINGS]
  for name, step in names.items():
    state = saved_state(config, workdir, step, like)
    arrays = embedded(program, state, splits)
    run_files.write_own(workdir / name, arrays)


def trained_program(config: ConfigDict, input_spec: InputSpec) -> Program:
  """The program of a trained run, which no longer needs its weights file."""
  if config.model.get("weights") is not None:
    config = override(config, {"model.weights": None})
  return program_of(config, input_spec)


def saved_state(config: ConfigDict, workdir: Path, step: int, like: Any) -> Any:
  """The state after a step of a finished run, from its checkpoint.

  Raises:
    InputError: if the checkpoint is missing or damaged.
  """
  again = "Delete the folder of the run, and give its command again."
  checkpoints = Checkpoints(
    workdir / CHECKPOINTS,
    run=run_files.run_of(workdir),
    lower_is_better=lower_is_better(config.eval.select),
  )
  if step not in checkpoints.steps():
    raise InputError(
      f"{workdir} does not have the checkpoint of step {step}, from which"
      f" items are embedded. {again}"
    )
  try:
    return checkpoints.restore_step(step, like)
  except DamagedError as error:
    raise InputError(f"{workdir}: {error} {again}") from None
