"""Checkpoints that are kept, verified, and fallen back from."""

import hashlib
import logging
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers

from metric_learning.errors import InputError

# Orbax reports each save and restore at this level.
logging.getLogger("absl").setLevel(logging.WARNING)


def digest_of(tree: Any) -> str:
  """SHA-256 over all leaves, their names, types and shapes."""
  digest = hashlib.sha256()
  for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
    array = np.asarray(leaf)
    name = jax.tree_util.keystr(path)
    digest.update(f"{name} {array.dtype} {array.shape}".encode())
    digest.update(array.tobytes())
  return digest.hexdigest()


class Checkpoints:
  """The newest two checkpoints of a run and the best by one score.

  A digest of the leaves is stored beside the state, because a flipped bit is
  otherwise restored in silence. `restore` falls back to the step before a
  damaged one.
  """

  def __init__(self, folder: Path, *, lower_is_better: bool):
    """Opens a folder, and creates it if need be."""
    policy = checkpoint_managers.AnyPreservationPolicy(
      [
        checkpoint_managers.LatestN(2),
        checkpoint_managers.BestN(
          get_metric_fn=lambda metrics: metrics["score"],
          reverse=lower_is_better,
          n=1,
        ),
      ]
    )
    self._manager = ocp.CheckpointManager(
      folder.absolute(),
      options=ocp.CheckpointManagerOptions(
        preservation_policy=policy, enable_async_checkpointing=False
      ),
      item_names=("state", "record"),
    )

  def save(
    self, step: int, state: Any, score: float, seconds: float = 0.0
  ) -> None:
    """Writes the state of a step, whole or not at all, and its record."""
    record = {"digest": digest_of(state), "score": score, "seconds": seconds}
    self._manager.save(
      step,
      args=ocp.args.Composite(
        state=ocp.args.StandardSave(state),
        record=ocp.args.JsonSave(record),
      ),
      metrics={"score": score},
    )

  def steps(self) -> list[int]:
    """The steps that are on disk, newest first."""
    return sorted(self._manager.all_steps(), reverse=True)

  def record(self, step: int) -> dict[str, Any]:
    """What was saved with a step: its score, and seconds of training.

    Raises:
      InputError: if it cannot be read.
    """
    args = ocp.args.Composite(record=ocp.args.JsonRestore())
    return self._restore(step, args)["record"]

  def restore_step(self, step: int, like: Any) -> Any:
    """The verified state of one step.

    Raises:
      InputError: if it cannot be read, or is not what was saved.
    """
    args = ocp.args.Composite(
      state=ocp.args.StandardRestore(like), record=ocp.args.JsonRestore()
    )
    found = self._restore(step, args)
    if digest_of(found["state"]) != found["record"]["digest"]:
      raise InputError(f"checkpoint {step} is damaged: its digest differs.")
    return found["state"]

  def _restore(self, step: int, args: Any) -> Any:
    try:
      return self._manager.restore(step, args=args)
    except Exception as error:  # Orbax and its storage raise many kinds.
      raise InputError(f"checkpoint {step} cannot be read: {error}.") from error

  def restore(self, like: Any) -> tuple[int, Any] | None:
    """The newest step that is whole, and its state; None without any.

    Newer steps that are damaged are said in the log and deleted, so that they
    are written again.
    """
    for step in self.steps():
      try:
        return step, self.restore_step(step, like)
      except InputError as error:
        logging.getLogger(__name__).warning("%s Falling back.", error)
        self._manager.delete(step)
    return None

  def delete_after(self, step: int) -> None:
    """Forgets what is newer than a step, so that it is written again."""
    for newer in self.steps():
      if newer > step:
        self._manager.delete(newer)

  def close(self) -> None:
    """Waits for what is being written."""
    self._manager.close()
