"""Weights in folders of Orbax, a format that JAX programs exchange."""

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
# This file is in every folder of arrays that Orbax writes.
_MARK = "_METADATA"


def is_folder(path: Path) -> bool:
  """Whether Orbax wrote the folder: a checkpoint step, or an item of one."""
  return path.is_dir() and _item(path) is not None


def _item(path: Path) -> Path | None:
  """The folder of the arrays; a checkpoint manager calls it "default"."""
  places = (path, path / "default", path / "state", path / "params")
  return next((x for x in places if (x / _MARK).is_file()), None)


def read(path: Path) -> dict[str, np.ndarray]:
  """The arrays of a folder of Orbax, by their names joined with dots.

  Raises:
    InputError: if Orbax is not installed, or cannot read the folder.
  """
  ocp, item = _orbax(), _item(path)
  assert item is not None, path
  try:
    with ocp.PyTreeCheckpointer() as checkpointer:
      tree = checkpointer.metadata(item.absolute()).item_metadata.tree
      as_numpy = ocp.RestoreArgs(restore_type=np.ndarray)
      restored = checkpointer.restore(
        item.absolute(), restore_args=jax.tree.map(lambda _: as_numpy, tree)
      )
  except Exception as error:  # Orbax and its storage raise many errors.
    raise InputError(
      f"Orbax cannot read it ({type(error).__name__}: {error}): fetch it again."
    ) from None
  arrays = {name: np.asarray(leaf) for name, leaf in _flat(restored)}
  for name, array in arrays.items():
    if array.dtype.kind in "OUS":
      raise InputError(
        f"{name!r} is not a tensor: give a folder of parameters."
      )
  return arrays


def digest_of(path: Path) -> str:
  """Hexadecimal digest of the names and contents of all files in a folder."""
  digest = hashlib.sha256()
  for file in sorted(path.rglob("*")):
    if file.is_file():
      digest.update(f"{file.relative_to(path).as_posix()}\n".encode())
      digest.update(file.read_bytes())
  return digest.hexdigest()


def write(path: Path, tensors: Mapping[str, np.ndarray]) -> None:
  """Writes tensors as a folder of Orbax, with a level for each dot in a name.

  Raises:
    InputError: if Orbax is not installed, if a tensor would be inside another,
      or if the folder exists or cannot be written.
  """
  ocp, tree = _orbax(), _nested(tensors)
  if path.exists():
    raise InputError(f"{path} exists: choose another place, or delete it.")
  try:
    temporary = Path(tempfile.mkdtemp(dir=path.absolute().parent))
    try:
      with ocp.PyTreeCheckpointer() as checkpointer:
        checkpointer.save(temporary / path.name, tree)
      (temporary / path.name).replace(path)
    finally:
      shutil.rmtree(temporary, ignore_errors=True)
  except OSError as error:
    raise InputError(
      f"{path} cannot be written ({error}): choose another place."
    ) from None


def _orbax() -> Any:
  try:
    import orbax.checkpoint as ocp
  except ImportError:
    raise InputError(
      "a folder of Orbax needs Orbax: pip install 'metric-learning[orbax]'."
    ) from None
  # Orbax logs each save and restore at a lower level.
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
  """A nested dict with a level for each dot in a name.

  >>> _nested({"conv.weight": np.ones(2), "conv.bias": np.zeros(1)})
  {'conv': {'weight': array([1., 1.]), 'bias': array([0.])}}

  Raises:
    InputError: if a tensor would be inside another.
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
        f"{name!r} is a tensor inside another: Orbax has a level for each dot,"
        " so write .safetensors instead."
      )
    place[last] = tensor
  return tree
