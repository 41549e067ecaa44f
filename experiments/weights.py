"""Lists a file of pretrained weights, and checks whether it fits a network.

python -m experiments.weights --weights=FILE --model=efficientnet_lite0

FILE is a .safetensors or .npz file, a file of torch.save (.pth, .bin), a pickle
of NumPy arrays, a TensorFlow.js manifest, an Orbax folder, or package:NAME for
the weights in an installed package. torch is not needed, and no code in the
file is run. --option=class_token=False sets an option of the network and may be
repeated. --out=FILE.safetensors converts the file; --out=FOLDER.orbax writes a
folder that other JAX programs read.
"""

import ast
from typing import Any

import jax
from absl import flags

from experiments import cli
from metric_learning import models
from metric_learning.errors import InputError, check_choice
from metric_learning.models import weights
from metric_learning.models.weights.scales import Tensors
from metric_learning.specs import InputSpec

_WEIGHTS = cli.define_path("weights", None, "The file.")
_MODEL = flags.DEFINE_string(
  "model", None, "The network to check the file against; default: no check."
)
_OPTIONS = flags.DEFINE_multi_string(
  "option", [], "NAME=VALUE, an option of the network."
)
_OUT = cli.define_path(
  "out", None, "Where to write the tensors: FILE.safetensors or FOLDER.orbax."
)


def main() -> None:
  """Reads, describes, checks and converts the file."""
  if not _WEIGHTS.value:
    raise InputError("which file? --weights=FILE.")
  tensors = weights.read(_WEIGHTS.value)
  if _MODEL.value:
    summary = _summary(tensors, _MODEL.value)
  else:
    for name, tensor in tensors.items():
      shape = "×".join(map(str, tensor.shape)) or "one number"
      print(f"{name}  {shape}  {tensor.dtype}")
  numbers = sum(tensor.size for tensor in tensors.values())
  print(
    f"{_WEIGHTS.value} holds {len(tensors)} tensors with {numbers:,} numbers;"
    f" its digest is {weights.digest_of(_WEIGHTS.value)}."
  )
  if _MODEL.value:
    print(summary)
  if _OUT.value:
    weights.write(_OUT.value, tensors)
    print(f"Wrote the tensors to {_OUT.value}.")


def _summary(tensors: Tensors, name: str) -> str:
  """How many numbers of the tensors a network uses, in words.

  Raises:
    InputError: if the tensors do not fit the network.
  """
  check_choice("model", name, models.MODELS)
  models.check_weights(name, _WEIGHTS.value)
  # The dimension of embeddings changes only parameters of the head.
  spec = InputSpec((224, 224, 3), "image")
  options = dict(map(_option, _OPTIONS.value))
  model = models.create(
    name,
    input_spec=spec,
    embedding_dim=64,
    weights=_WEIGHTS.value,
    **options,
  )
  shapes = jax.eval_shape(model.init, jax.random.key(0))
  layout = models.MODELS[name].layout
  subject = f"{_WEIGHTS.value} and {name}"
  params, stats = weights.fill(
    layout, shapes, tensors, subject, options.get("inputs")
  )
  sizes = [sum(x.size for x in jax.tree.leaves(t)) for t in (params, stats)]
  return (
    f"{name} uses {sizes[0]:,} parameters and {sizes[1]:,} statistics of it."
    " The other tensors belong to the classifier or count batches. The head is"
    " initialized at random."
  )


def _option(text: str) -> tuple[str, Any]:
  """The name and the value of an option: a literal, or otherwise a string."""
  name, _, value = text.partition("=")
  try:
    return name, ast.literal_eval(value)
  except (ValueError, SyntaxError):
    return name, value


if __name__ == "__main__":
  cli.run(main, __doc__)
