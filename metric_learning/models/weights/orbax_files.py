"""Weights as Orbax keeps them: the folder that other JAX programs exchange."""

import hashlib
import logging
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from metric_learning.errors import InputError

SUFFIX = ".orbax"
# In every folder that Orbax wrote.
_MARK = "_METADATA"


def is_folder(path: Path) -> bool:
  """Whether Orbax wrote it: a step of a checkpoint, or one item of it."""
  return path.is_dir() and _item(path) is not None


def _item(path: Path) -> Path | None:
  """The folder of the arrays, which a manager of checkpoints names default."""
  places = (path, path / "default", path / "state", path / "params")
  return next((x for x in places if (x / _MARK).is_file()), None)


def read(path: Path) -> dict[str, np.ndarray]:
  """The arrays of a folder of Orbax, by their names joined with dots.

  Raises:
    InputError: if Orbax is not installed, or cannot read it.
  """
  ocp, item = _orbax(), _item(path)
  assert item is not None, path
  try:
    with ocp.PyTreeCheckpointer() as checkpointer:
      tree = checkpointer.metadata(item.absolute()).item_metadata.tree
      as_numpy = ocp.RestoreArgs(restore_type=np.ndarray)
      found = checkpointer.restore(
        item.absolute(), restore_args=jax.tree.map(lambda _: as_numpy, tree)
      )
  except Exception as error:  # Orbax and its storage raise many kinds.
    raise InputError(
      f"Orbax cannot read it ({type(error).__name__}: {error}): fetch it again."
    ) from None
  arrays = {name: np.asarray(leaf) for name, leaf in _flat(found)}
  for name, array in arrays.items():
    if array.dtype.kind in "OUS":
      raise InputError(f"{name!r} is no tensor: give a folder of parameters.")
  return arrays


def digest_of(path: Path) -> str:
  """Hexadecimal digits of all files in it and their names."""
  digest = hashlib.sha256()
  for file in sorted(path.rglob("*")):
    if file.is_file():
      digest.update(f"{file.relative_to(path).as_posix()}\n".encode())
      digest.update(file.read_bytes())
  return digest.hexdigest()


def write(path: Path, tensors: Mapping[str, np.ndarray]) -> None:
  """Writes tensors as a folder of Orbax, a level for each dot of a name.

  Raises:
    InputError: if Orbax is not installed, if one name begins another, or if
      the folder is there or cannot be written.
  """
  ocp, tree = _orbax(), _nested(tensors)
  if path.exists():
    raise InputError(f"{path} is there: choose another place, or delete it.")
  try:
    made = Path(tempfile.mkdtemp(dir=path.absolute().parent))
    try:
      with ocp.PyTreeCheckpointer() as checkpointer:
        checkpointer.save(made / path.name, tree)
      (made / path.name).replace(path)
    finally:
      shutil.rmtree(made, ignore_errors=True)
  except OSError as error:
    raise InputError(
      f"{path} cannot be written ({error}): choose another place."
    ) from None


def _orbax() -> Any:
  try:
    import orbax.checkpoint as ocp
  except ImportError:
    raise InputError(
      "a folder of Orbax needs it: pip install 'metric-learning[orbax]'."
    ) from None
  # It reports each save and restore at a lower level.
  logging.getLogger("absl").setLevel(logging.WARNING)
  return ocp


def _flat(tree: Any, above: str = "") -> Iterator[tuple[str, Any]]:
  if isinstance(tree, Mapping):
    items = tree.items()
  elif isinstance(tree, list | tuple):
    items = dict(enumerate(tree)).items()
  else:
    yield above, tree
    return
  for key, value in items:
    yield from _flat(value, f"{above}.{key}".lstrip("."))


def _nested(tensors: Mapping[str, np.ndarray]) -> dict[str, Any]:
  """A level for each dot.

  >>> _nested({"conv.weight": np.ones(2), "conv.bias": np.zeros(1)})
  {'conv': {'weight': array([1., 1.]), 'bias': array([0.])}}

  Raises:
    InputError: if one name begins another.
  """
  tree: dict[str, Any] = {}
  for name, tensor in tensors.items():
    *above, last = name.split(".")
    place = tree
    for part in above:
      place = place.setdefault(part, {})
      if not isinstance(place, dict):
        break
    if not isinstance(place, dict) or last in place:
      raise InputError(
        f"{name!r} is a tensor inside another: Orbax keeps a level for each"
        " dot; write .safetensors."
      )
    place[last] = tensor
  return tree
