"""Pickles of tensors, read without torch and without running them.

A pickle is a program. Its instructions are checked before it runs: it may only
use instructions that build plain values, and only names from a fixed list,
which are those of tensors. Anything else is refused, and the error names it.
"""

import io
import math
import pickle
import pickletools
import re
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from metric_learning.errors import InputError

_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
_DAMAGED = "damaged or cut short: fetch it again"
# Instructions that build numbers, strings, tuples, lists and dicts, that call a
# function, and that end the pickle.
_INSTRUCTIONS = """PROTO STOP GLOBAL REDUCE BUILD MARK NONE NEWTRUE NEWFALSE
BININT BININT1 BININT2 LONG1 BINFLOAT BINUNICODE BINPERSID EMPTY_TUPLE TUPLE
BINBYTES SHORT_BINBYTES
TUPLE1 TUPLE2 TUPLE3 EMPTY_LIST APPEND APPENDS EMPTY_DICT SETITEM SETITEMS
BINGET LONG_BINGET BINPUT LONG_BINPUT"""
_ADMITTED = frozenset(_INSTRUCTIONS.split())
# Storages of torch, little-endian.
_STORAGES = {
  "torch FloatStorage": np.dtype("<f4"),
  "torch DoubleStorage": np.dtype("<f8"),
  "torch HalfStorage": np.dtype("<f2"),
  "torch BFloat16Storage": np.dtype(ml_dtypes.bfloat16),
  "torch LongStorage": np.dtype("<i8"),
  "torch IntStorage": np.dtype("<i4"),
  "torch ShortStorage": np.dtype("<i2"),
  "torch CharStorage": np.dtype("i1"),
  "torch ByteStorage": np.dtype("u1"),
  "torch BoolStorage": np.dtype("?"),
}
# Keys of the weights in a checkpoint that holds more than its weights.
_OF_CHECKPOINTS = ("state_dict", "model_state_dict", "model")


class _Storage(NamedTuple):
  """Consecutive numbers of one type, which are read later."""

  key: str
  dtype: np.dtype
  length: int


class _Tensor(NamedTuple):
  """A view of a storage."""

  storage: _Storage
  offset: int
  shape: tuple[int, ...]
  strides: tuple[int, ...]


# A pickle may call an instance of these classes. Without __slots__, it could
# also set an attribute of the instance, which would affect later files.
class _RebuildTensor:
  """Stands for torch._utils._rebuild_tensor_v2."""

  __slots__ = ()

  def __call__(
    self, storage: Any, offset: Any, shape: Any, strides: Any, *_: Any
  ) -> _Tensor:
    sizes = (offset, *shape, *strides)
    valid = all(type(x) is int and x >= 0 for x in sizes)
    if not isinstance(storage, _Storage) or not valid:
      raise pickle.UnpicklingError("an invalid tensor")
    if len(shape) != len(strides) or len(shape) > 8:
      raise pickle.UnpicklingError("a tensor of impossible shape")
    last = offset + sum(
      (n - 1) * s for n, s in zip(shape, strides, strict=True)
    )
    # Weights use each number of a storage once; repeats could exhaust the
    # memory.
    count = math.prod(shape)
    if count and (last >= storage.length or count > storage.length):
      raise pickle.UnpicklingError("a tensor larger than its storage")
    return _Tensor(storage, offset, tuple(shape), tuple(strides))


class _RebuildParameter:
  """Stands for torch._utils._rebuild_parameter."""

  __slots__ = ()

  def __call__(self, tensor: Any, *_: Any) -> _Tensor:
    if not isinstance(tensor, _Tensor):
      raise pickle.UnpicklingError("a parameter that is not a tensor")
    return tensor


class _Type:
  """Stands for numpy.dtype; it keeps only the kind, size and byte order."""

  __slots__ = ("dtype",)

  def __init__(self, name: Any, *_: Any):
    if not re.fullmatch(r"[fiu][1248]|b1", str(name)):
      raise pickle.UnpicklingError("a type that is not a number")
    self.dtype = np.dtype(name)

  def __setstate__(self, state: Any) -> None:
    self.dtype = self.dtype.newbyteorder(state[1])


class _Array:
  """Stands for numpy.ndarray."""

  __slots__ = ("array",)

  def __setstate__(self, state: Any) -> None:
    _, shape, kind, by_columns, data = state
    if not isinstance(kind, _Type) or not isinstance(data, bytes):
      raise pickle.UnpicklingError("an array that does not hold numbers")
    flat = np.frombuffer(data, kind.dtype)
    self.array = flat.reshape(shape, order="F" if by_columns else "C")


class _Reconstruct:
  """Stands for numpy's _reconstruct: an array that gets its numbers later."""

  __slots__ = ()

  def __call__(self, kind: Any, *_: Any) -> _Array:
    if kind != _ARRAY:
      raise pickle.UnpicklingError("an invalid array")
    return _Array()


class _MakeType:
  """Stands for calls of numpy.dtype, so that no pickle can access the class."""

  __slots__ = ()

  def __call__(self, name: Any, *_: Any) -> _Type:
    return _Type(name)


_ARRAY = "numpy ndarray"
_NAMES: dict[str, Any] = {
  "collections OrderedDict": OrderedDict,
  "torch._utils _rebuild_tensor_v2": _RebuildTensor(),
  "torch._utils _rebuild_parameter": _RebuildParameter(),
  _ARRAY: _ARRAY,
  "numpy dtype": _MakeType(),
  "numpy.core.multiarray _reconstruct": _Reconstruct(),
  "numpy._core.multiarray _reconstruct": _Reconstruct(),
  # As strings: a pickle may set the state of an object, and a string has none.
  **{name: name for name in _STORAGES},
}


class _Unpickler(pickle.Unpickler):
  """Resolves only the names in the list, and collects the storages."""

  def __init__(self, file: Any):
    super().__init__(file, encoding="utf-8")
    self.storages: dict[str, _Storage] = {}

  def find_class(self, module: str, name: str) -> Any:
    """The object of this name, if it is in the list."""
    _check_name(f"{module} {name}")
    return _NAMES[f"{module} {name}"]

  def persistent_load(self, pid: Any) -> _Storage:
    """The storage that ("storage", type, key, device, count, …) names."""
    what, kind, key, _, count, *view = pid
    # Only torch before 0.4 wrote views of views.
    if what != "storage" or view not in ([], [None]):
      raise pickle.UnpicklingError("a persistent id that is not a storage")
    if type(count) is not int or count < 0:
      raise pickle.UnpicklingError("an invalid storage")
    storage = _Storage(str(key), _STORAGES[kind], count)
    if self.storages.setdefault(storage.key, storage) != storage:
      raise pickle.UnpicklingError("two storages with one key")
    return storage


def from_zip(archive: zipfile.ZipFile) -> dict[str, np.ndarray]:
  """The tensors of the zip that `torch.save` writes, by their names.

  Raises:
    InputError: for a file that is damaged, or holds more than tensors.
  """
  names = [x for x in archive.namelist() if x.split("/")[-1] == "data.pkl"]
  folder = names[0].removesuffix("data.pkl")

  def bytes_of(name: str) -> bytes:
    try:
      return archive.read(folder + name)
    # zipfile and zlib raise many kinds of errors for damaged bytes.
    except Exception as error:
      raise InputError(f"{name} in it is {_DAMAGED} ({error}).") from None

  if f"{folder}byteorder" in archive.namelist():
    order = bytes_of("byteorder")
    if order != b"little":
      raise InputError(f"its byte order is {order!r}; only little is read.")
  value, unpickler = _unpickled(io.BytesIO(bytes_of("data.pkl")))
  data = {key: bytes_of(f"data/{key}") for key in unpickler.storages}
  return _tensors(value, unpickler.storages, data)


def from_pickle(data: bytes) -> dict[str, np.ndarray]:
  """The tensors of a pickle: of torch before 1.6, or a dict of NumPy's arrays.

  If a dict holds a list of arrays, each of these gets the name of the list and
  its index: "conv1.0".

  Raises:
    InputError: for a file that is damaged, is another pickle, or holds more
      than tensors.
  """
  file = io.BytesIO(data)
  content, _ = _unpickled(file)
  if content == _MAGIC:
    return _from_legacy(file, data)
  arrays = {}
  if isinstance(content, dict) and not file.read(1):
    for name, value in content.items():
      if isinstance(value, list | tuple):
        arrays.update({f"{name}.{i}": each for i, each in enumerate(value)})
      else:
        arrays[str(name)] = value
  if not arrays or not all(hasattr(x, "array") for x in arrays.values()):
    raise InputError(
      "a pickle, but neither one of torch.save nor a dict of NumPy's arrays,"
      " so it is not read. Save its arrays by numpy.savez."
    )
  return {name: value.array for name, value in arrays.items()}


def _from_legacy(file: io.BytesIO, data: bytes) -> dict[str, np.ndarray]:
  """The tensors of a file of torch before 1.6, after its first pickle."""
  protocol, system = _unpickled(file)[0], _unpickled(file)[0]
  little = isinstance(system, dict) and system.get("little_endian") is True
  if protocol != _PROTOCOL or not little:
    raise InputError(
      "written by a version of torch, or on a machine, that is not supported:"
      " save it again."
    )
  value, unpickler = _unpickled(file)
  keys, _ = _unpickled(file)
  if not isinstance(keys, list) or {*map(str, keys)} != {*unpickler.storages}:
    raise InputError(f"its list of storages is {_DAMAGED}.")
  blobs = {}
  for key in map(str, keys):
    storage = unpickler.storages[key]
    count = int.from_bytes(file.read(8), "little")
    size = count * storage.dtype.itemsize
    if count != storage.length or size > len(data) - file.tell():
      raise InputError(f"storage {key!r} in it is {_DAMAGED}.")
    blobs[key] = file.read(size)
  if file.read(1):
    raise InputError(f"bytes follow its last storage: it is {_DAMAGED}.")
  return _tensors(value, unpickler.storages, blobs)


def _unpickled(file: io.BytesIO) -> tuple[Any, _Unpickler]:
  """The next pickle of a file, checked before it runs."""
  start, size = file.tell(), len(file.getbuffer())
  _check_instructions(file, size)
  file.seek(start)
  unpickler = _Unpickler(file)
  return _guarded(unpickler.load), unpickler


def _check_instructions(file: io.BytesIO, size: int) -> None:
  """Checks the instructions of one pickle, without running them."""

  def check() -> None:
    value: Any
    for instruction, value, _ in pickletools.genops(file):
      if instruction.name not in _ADMITTED:
        raise InputError(
          f"its pickle has the instruction {instruction.name}, which tensors"
          " do not need: it is not read. Save the state_dict alone."
        )
      if instruction.name == "GLOBAL":
        _check_name(value)
      # Unpickling would allocate a table with this many entries.
      if "BINPUT" in instruction.name and value > size:
        raise pickle.UnpicklingError("an index larger than the file")

  _guarded(check)


def _check_name(name: str) -> None:
  if name not in _NAMES:
    raise InputError(
      f"it names {name.replace(' ', '.', 1)!r}, which could run code: it is not"
      " read. Save the state_dict alone: torch.save(model.state_dict(), PATH)."
    )


def _guarded(call: Callable[[], Any]) -> Any:
  """The result of a call. A damaged pickle may raise anything: it is named."""
  try:
    return call()
  except InputError:
    raise
  except Exception as error:
    raise InputError(f"its pickle is {_DAMAGED} ({error}).") from None


def _tensors(
  value: Any, storages: dict[str, _Storage], data: dict[str, bytes]
) -> dict[str, np.ndarray]:
  """The tensors of a state dict, or of the state dict in a checkpoint."""
  if isinstance(value, dict):
    inner = [
      value[x] for x in _OF_CHECKPOINTS if isinstance(value.get(x), dict)
    ]
    value = inner[0] if inner else value
  if not isinstance(value, dict):
    raise InputError(
      "it holds no state_dict: save the state_dict of the network."
    )
  others = [str(k) for k, x in value.items() if not isinstance(x, _Tensor)]
  if others:
    raise InputError(
      f"{', '.join(others[:5])} in it are not tensors: save the state_dict"
      " alone."
    )
  flat = {}
  for key, storage in storages.items():
    if len(data[key]) < storage.length * storage.dtype.itemsize:
      raise InputError(f"storage {key!r} in it is {_DAMAGED}.")
    flat[key] = np.frombuffer(data[key], storage.dtype, storage.length)
  return _guarded(
    lambda: {
      str(name): _view(flat[tensor.storage.key], tensor)
      for name, tensor in value.items()
    }
  )


def _view(flat: np.ndarray, tensor: _Tensor) -> np.ndarray:
  """The tensor as a view of its storage, without a copy."""
  size = flat.dtype.itemsize
  return np.lib.stride_tricks.as_strided(
    flat[tensor.offset :],
    tensor.shape,
    [size * stride for stride in tensor.strides],
    writeable=False,
  )
