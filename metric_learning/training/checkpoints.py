"""Checkpoints that are kept, verified, and fallen back from."""

import functools
import hashlib
import json
import logging
import math
import os
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers

from metric_learning.errors import InputError
from metric_learning.training import run_files

# Orbax reports each save and restore at this level.
logging.getLogger("absl").setLevel(logging.WARNING)

# In the folder of a step: the digest of each file in it, written last.
_FILES = "files.json"
# Without these, a folder is none of a whole checkpoint.
_ALWAYS = ("state/_METADATA", "record/metadata")


class DamagedError(InputError):
  """A checkpoint is known not to be what was saved."""


def digest_of(tree: Any) -> str:
  """SHA-256 over all leaves, their names, types and shapes.

  Of typed PRNG keys, over the numbers that they are made of.

  >>> one, other = (digest_of(jax.random.key(seed)) for seed in (0, 1))
  >>> one == other
  False

  Raises:
    InputError: for an array of which other processes hold parts.
  """
  digest = hashlib.sha256()
  for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
    name = jax.tree_util.keystr(path)
    kind = ""
    if isinstance(leaf, jax.Array):
      if not leaf.is_fully_addressable:
        raise InputError(
          f"the array {name} is spread over processes, and a checkpoint is of"
          " one: gather the state first, by"
          " jax.experimental.multihost_utils.process_allgather."
        )
      if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        kind, leaf = f"{leaf.dtype} ", jax.random.key_data(leaf)
    array = np.asarray(leaf)
    digest.update(f"{name} {kind}{array.dtype} {array.shape}".encode())
    digest.update(array.tobytes())
  return digest.hexdigest()


def _digest_of_file(path: Path) -> str:
  with path.open("rb") as file:
    return hashlib.file_digest(file, "sha256").hexdigest()


def _listed(folder: Path) -> dict[str, str]:
  """The digests of its files that a step was saved with, if they are there."""
  path = folder / _FILES
  if _FILES not in os.listdir(folder):
    return {}
  try:
    return run_files.from_json(path.read_bytes())
  except (json.JSONDecodeError, UnicodeDecodeError):
    # It was written whole or not at all.
    raise DamagedError(
      f"checkpoint {folder.name} is damaged: {_FILES} differs."
    ) from None


class Checkpoints:
  """The newest two checkpoints of a run and the best by one score.

  A digest of the leaves is stored beside the state, because a flipped bit is
  otherwise restored in silence. `restore` falls back to the step before a
  damaged one. Only what is known to be damaged is deleted: its digest differs,
  or files are missing or cut. Whatever else keeps it from being read, such as
  the disk, a permission, the memory, another shape or another version of a
  library, is raised, and everything is kept.
  """

  def __init__(self, folder: Path, *, lower_is_better: bool):
    """Of a folder, which is made with the first of them."""
    policy = checkpoint_managers.AnyPreservationPolicy(
      [
        checkpoint_managers.LatestN(2),
        checkpoint_managers.BestN(
          get_metric_fn=lambda metrics: metrics["score"],
          reverse=lower_is_better,
          n=1,
          # One whose score is NaN is not the best.
          keep_checkpoints_without_metrics=False,
        ),
      ]
    )
    self._folder, self._policy = folder.absolute(), policy

  @functools.cached_property
  def _manager(self) -> ocp.CheckpointManager:
    """Opened where it is needed: many trials save nothing."""
    return ocp.CheckpointManager(
      self._folder,
      options=ocp.CheckpointManagerOptions(
        preservation_policy=self._policy, enable_async_checkpointing=False
      ),
      # Named, since a folder that is opened again has no metadata else.
      item_handlers={
        "state": ocp.StandardCheckpointHandler(),
        "record": ocp.JsonCheckpointHandler(),
      },
    )

  def save(
    self, step: int, state: Any, score: float, seconds: float = 0.0
  ) -> None:
    """Writes the state of a step, whole or not at all, and its record."""
    known = math.isfinite(score)
    record = {
      "digest": digest_of(state),
      "score": score if known else None,
      "seconds": seconds,
    }
    self._manager.save(
      step,
      args=ocp.args.Composite(
        state=ocp.args.StandardSave(state),
        record=ocp.args.JsonSave(record),
      ),
      metrics={"score": score} if known else None,
    )
    folder = self._folder / str(step)
    # Those of the items; what lies beside them is Orbax's own.
    files = [path for path in folder.glob("*/**/*") if path.is_file()]
    digests = {
      path.relative_to(folder).as_posix(): _digest_of_file(path)
      for path in files
    }
    run_files.write_json(folder / _FILES, digests)

  def steps(self) -> list[int]:
    """The steps that are on disk, newest first."""
    if not self._folder.exists():
      return []
    return sorted(self._manager.all_steps(), reverse=True)

  def record(self, step: int) -> dict[str, Any]:
    """What was saved with a step: its score, and seconds of training.

    The score is None if it was not finite.

    Raises:
      DamagedError: if a part of it is missing.
    """
    args = ocp.args.Composite(record=ocp.args.JsonRestore())
    return self._restore(step, args)["record"]

  def restore_step(self, step: int, like: Any) -> Any:
    """The verified state of one step.

    Raises:
      DamagedError: if it is not what was saved.
      InputError: if it is of another shape than `like`, or cannot be read.
    """
    self._refuse_other_shapes(step, like)
    args = ocp.args.Composite(
      state=ocp.args.StandardRestore(like), record=ocp.args.JsonRestore()
    )
    found = self._restore(step, args)
    if digest_of(found["state"]) == found["record"]["digest"]:
      return found["state"]
    if self._check_files(step):
      raise InputError(
        f"checkpoint {step} in {self._folder} is whole, and is of another kind"
        " of state: use the config and the versions that it was saved with."
      )
    raise DamagedError(f"checkpoint {step} is damaged: its digest differs.")

  def _refuse_other_shapes(self, step: int, like: Any) -> None:
    """Raises if an array of a step has another shape than in `like`.

    Orbax would raise too, but leave reads of other arrays that are begun and
    never awaited, of which Python warns at any later time.
    """
    try:
      saved = self._manager.item_metadata(step)["state"].tree
    except Exception:  # Restoring says what is wrong with the files.
      return
    shapes = {
      jax.tree_util.keystr(path): leaf.shape
      for path, leaf in jax.tree_util.tree_leaves_with_path(saved)
    }
    for path, leaf in jax.tree_util.tree_leaves_with_path(like):
      name = jax.tree_util.keystr(path)
      if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        leaf = jax.random.key_data(leaf)
      shape = np.shape(leaf)
      if shapes.get(name, shape) != shape:
        raise InputError(
          f"checkpoint {step} in {self._folder} is of another kind of state:"
          f" {name} has the shape {shapes[name]} there, and {shape} now. Use"
          " the config and the versions that it was saved with."
        )

  def _restore(self, step: int, args: Any) -> Any:
    try:
      return self._manager.restore(step, args=args)
    except Exception as error:  # Orbax and its storage raise many kinds.
      self._check_files(step)
      raise InputError(
        f"checkpoint {step} in {self._folder} cannot be read:"
        f" {type(error).__name__}: {error}. It is not known to be damaged, and"
        " is kept: give the same command again if the disk or the memory"
        " failed; or use the versions, the config and the data that it was"
        " saved with; or delete it."
      ) from error

  def _check_files(self, step: int) -> bool:
    """Whether all files of a step are known to be as they were saved.

    Raises:
      DamagedError: if they are known not to be.
      InputError: if they cannot be read.
    """
    folder = self._folder / str(step)
    try:
      digests = _listed(folder)
      for name in (*_ALWAYS, *digests):
        # `Path.exists` would say that what may not be looked at is missing.
        (folder / name).stat()
      differing = [
        name
        for name, digest in digests.items()
        if _digest_of_file(folder / name) != digest
      ]
    except (FileNotFoundError, NotADirectoryError) as error:
      missing = Path(error.filename).relative_to(folder)
      raise DamagedError(
        f"checkpoint {step} is damaged: {missing} is missing."
      ) from None
    except OSError as error:
      raise InputError(
        f"checkpoint {step} in {self._folder} cannot be read: {error}. It is"
        " kept: mend the disk or its permissions, and give the same command"
        " again."
      ) from error
    if differing:
      raise DamagedError(
        f"checkpoint {step} is damaged: {differing[0]} differs."
      )
    return bool(digests)

  def restore(self, like: Any) -> tuple[int, Any] | None:
    """The newest step that is whole, and its state; None without any.

    Newer steps that are damaged are said in the log and deleted, so that they
    are written again.

    Raises:
      InputError: if none is whole, or one cannot be read; nothing is deleted.
    """
    steps, said = self.steps(), []
    for step in steps:
      try:
        state = self.restore_step(step, like)
      except DamagedError as error:
        said.append(str(error))
        continue
      for message in said:
        logging.getLogger(__name__).warning("%s Falling back.", message)
      self.delete_after(step)
      return step, state
    if steps:
      raise self.none_whole(said)
    return None

  def none_whole(self, said: Sequence[str]) -> InputError:
    """The error of a run that would start over: `said` is what is damaged."""
    return InputError(
      f"no checkpoint in {self._folder} is whole: {' '.join(said)} Nothing is"
      " deleted; to start over, delete the folder of the run."
    )

  def delete_after(self, step: int) -> None:
    """Forgets what is newer than a step, so that it is written again."""
    for newer in self.steps():
      if newer > step:
        self._manager.delete(newer)

  def keep_only(self, steps: Collection[int | None]) -> None:
    """Forgets all other steps."""
    for step in self.steps():
      if step not in steps:
        self._manager.delete(step)

  def close(self) -> None:
    """Waits for what is being written."""
    if "_manager" in vars(self):
      self._manager.close()
