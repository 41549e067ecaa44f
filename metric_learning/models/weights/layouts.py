"""Where the tensors of a file belong in a network: names, shapes, axes."""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from metric_learning.errors import InputError
from metric_learning.models.weights.scales import Tensors, rescaled

Path = tuple[str, ...]
Shape = tuple[int, ...]

# The last part of a parameter's name, and what a file calls it.
_LEAVES = {
  "kernel": "weight",
  "scale": "weight",
  "bias": "bias",
  "mean": "running_mean",
  "var": "running_var",
}
_SHOWN = 10  # The number of names that are listed for each kind of fault.


class Dialect(NamedTuple):
  """A kind of files whose names or axes differ from those of the layout.

  mark: a regular expression for a name that each such file holds, and no other.
  translate: maps its tensors to those of the layout. It keeps unknown tensors,
    which are then reported as left over.
  inputs: the scale of the images on which its networks were trained, a name in
    `scales.SCALES`.
  """

  mark: str
  translate: Callable[[Tensors], Tensors]
  inputs: str = "imagenet"


class Layout(NamedTuple):
  """How PyTorch files name the tensors of a network.

  modules: maps our name of a module, a regular expression, to its name in a
    file. If the last part of a parameter's name is not that of a layer
    ("kernel", "bias" and so on), the whole name is looked up.
  left_over: regular expressions for tensors that a file may hold in addition,
    such as the classifier.
  own: parts of the network that no file holds; they keep their random values.
  dialects: kinds of files from elsewhere.
  resized: maps a regular expression for tensors, such as those of positions, to
    a function of (tensor, shape) that resizes them; it may raise InputError.
  first: the name of the first convolution in a file, if a network may have been
    trained on images of another scale than "imagenet".
  """

  modules: Mapping[str, str]
  left_over: tuple[str, ...] = ()
  own: tuple[str, ...] = ("head", "pool")
  dialects: tuple[Dialect, ...] = ()
  resized: Mapping[str, Callable[[np.ndarray, Shape], np.ndarray]] = {}
  first: str | None = None

  def name_of(self, path: Path) -> str:
    """The name that a file has for one of our parameters.

    >>> layout = Layout({r"blocks\\.(\\d+)\\.conv": r"_blocks.\\1._conv"})
    >>> layout.name_of(("blocks", "3", "conv", "kernel"))
    '_blocks.3._conv.weight'
    """
    *module, leaf = path
    ours = ".".join(module if leaf in _LEAVES else path)
    for pattern, replacement in self.modules.items():
      if match := re.fullmatch(pattern, ours):
        name = match.expand(replacement)
        return f"{name}.{_LEAVES[leaf]}" if leaf in _LEAVES else name
    raise KeyError(f"the layout does not say where {ours} is in a file")

  def translated(self, tensors: Tensors, inputs: str | None) -> Tensors:
    """Translates the tensors of any dialect to the names of the layout.

    Args:
      tensors: those of a file.
      inputs: the scale of the images on which its network was trained; None for
        the usual one of its dialect.
    """
    usual = "imagenet"
    for dialect in self.dialects:
      if any(re.fullmatch(dialect.mark, name) for name in tensors):
        tensors, usual = dialect.translate(tensors), dialect.inputs
        break
    if self.first is None:
      return tensors
    return rescaled(tensors, self.first, inputs or usual)

  def fitted(self, name: str, tensor: np.ndarray, shape: Shape) -> np.ndarray:
    """Resizes a tensor to our shape, if the layout says how."""
    for pattern, resize in self.resized.items():
      if re.fullmatch(pattern, name) and tensor.shape != shape:
        return resize(tensor, shape)
    return tensor

  def may_remain(self, name: str) -> bool:
    """Whether a file may hold this tensor although the network lacks it."""
    return any(re.fullmatch(pattern, name) for pattern in self.left_over)


def fill(
  layout: Layout,
  trees: tuple[dict[str, Any], dict[str, Any]],
  tensors: Mapping[str, np.ndarray],
  what: str,
  inputs: str | None = None,
) -> tuple[dict[str, Any], dict[str, Any]]:
  """Params and stats from a file, without the parts in `layout.own`.

  Every tensor must be used, unless it is in `layout.left_over`. Every parameter
  must be filled, and so must the batch statistics.

  Args:
    layout: the layout of the network.
    trees: params and stats, arrays or their shapes.
    tensors: those of the file.
    what: the file and the network, for messages.
    inputs: the scale of the images on which the network of the file was
      trained; None for the usual one.

  Raises:
    InputError: that lists what is missing, left over, of another shape, or not
      finite.
  """
  tensors = layout.translated(_without_wrapper(tensors), inputs)
  filled, faults, used = [], _Faults([], [], [], []), set()
  for tree in trees:
    flat = {}
    for path, like in _leaves(tree):
      if path[0] in layout.own:
        continue
      name = layout.name_of(path)
      used.add(name)
      if name not in tensors:
        faults.missing.append(f"{name} {_words(_file_shape(like.shape))}")
        continue
      tensor = layout.fitted(name, tensors[name], _file_shape(like.shape))
      flat[path] = _numbers(name, tensor, like.shape, faults)
    filled.append(_nested(flat))
  faults.left_over.extend(
    name
    for name in sorted(tensors.keys() - used)
    if not layout.may_remain(name)
  )
  faults.refuse(what, nothing_fits=not used & tensors.keys())
  params, stats = filled
  return params, stats


class _Faults(NamedTuple):
  missing: list[str]
  left_over: list[str]
  of_another_shape: list[str]
  not_finite: list[str]

  def refuse(self, what: str, *, nothing_fits: bool) -> None:
    """Raises an `InputError` that lists the faults, if there are any."""
    if not any(self):
      return
    lines = []
    for kind, names in self._asdict().items():
      if names:
        shown = names[:_SHOWN]
        if len(names) > _SHOWN:
          shown.append(f"and {len(names) - _SHOWN} more")
        words = kind.replace("_", " ")
        lines.append(f"  {words} ({len(names)}): {', '.join(shown)}")
    hint = "no name fits" if nothing_fits else "another version of it?"
    raise InputError(
      f"{what} do not fit ({hint}). Give the file of this network, or the"
      " network of this file:\n" + "\n".join(lines)
    )


def _numbers(
  name: str, tensor: np.ndarray, shape: tuple[int, ...], faults: _Faults
) -> np.ndarray | None:
  """A tensor as float32 with our axes; a misfit is added to the faults."""
  wanted = _file_shape(shape)
  if tensor.shape != wanted:
    faults.of_another_shape.append(
      f"{name} ({_words(tensor.shape)} there, {_words(wanted)} wanted)"
    )
    return None
  numbers = _with_our_axes(np.asarray(tensor, np.float32))
  if not np.isfinite(numbers).all():
    faults.not_finite.append(name)
  return numbers


def _axes(rank: int) -> tuple[int, ...]:
  """Our axes in the order of a file: outputs, inputs, then positions."""
  return {2: (1, 0), 4: (3, 2, 0, 1)}.get(rank, tuple(range(rank)))


def _file_shape(shape: Shape) -> Shape:
  """The shape that a tensor of our shape has in a file."""
  return tuple(shape[axis] for axis in _axes(len(shape)))


def _with_our_axes(tensor: np.ndarray) -> np.ndarray:
  """Moves the axes of a tensor from the order of a file to ours.

  OIHW becomes HWIO, for depthwise kernels too; a matrix is transposed.
  """
  return np.ascontiguousarray(tensor.transpose(np.argsort(_axes(tensor.ndim))))


def _without_wrapper(
  tensors: Mapping[str, np.ndarray],
) -> Mapping[str, np.ndarray]:
  """Removes the prefix "module." that `DataParallel` adds to all names."""
  prefix = "module."
  if all(name.startswith(prefix) for name in tensors):
    return {name.removeprefix(prefix): x for name, x in tensors.items()}
  return tensors


def _leaves(
  tree: Mapping[str, Any], prefix: Path = ()
) -> Iterator[tuple[Path, Any]]:
  for name, value in tree.items():
    if isinstance(value, Mapping):
      yield from _leaves(value, (*prefix, name))
    else:
      yield (*prefix, name), value


def _nested(flat: Mapping[Path, Any]) -> dict[str, Any]:
  tree: dict[str, Any] = {}
  for path, value in flat.items():
    place = tree
    for part in path[:-1]:
      place = place.setdefault(part, {})
    place[path[-1]] = value
  return tree


def _words(shape: tuple[int, ...]) -> str:
  return "×".join(map(str, shape)) or "one number"
