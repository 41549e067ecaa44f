"""Files of vision transformers: how libraries name and shape the tensors."""

import math
import re

import numpy as np

from metric_learning.errors import InputError
from metric_learning.models.weights import Dialect, Layout
from metric_learning.models.weights.scales import Tensors

Renames = dict[str, str]

# Names of big_vision and of its predecessor vision_transformer, which numbers
# all parts of a block in one sequence.
_BIG_VISION: Renames = {
  r"embedding/": "patch_embed.proj.",
  r"cls": "cls_token",
  r"pos_embedding|Transformer/posembed_input/pos_embedding": "pos_embed",
  r"Transformer/encoder_norm/": "norm.",
  r"Transformer/encoderblock_(\d+)/LayerNorm_0/": r"blocks.\1.norm1.",
  r"Transformer/encoderblock_(\d+)/LayerNorm_[12]/": r"blocks.\1.norm2.",
  r"Transformer/encoderblock_(\d+)/MultiHeadDotProductAttention_[01]/out/": (
    r"blocks.\1.attn.proj."
  ),
  r"Transformer/encoderblock_(\d+)/MultiHeadDotProductAttention_[01]/"
  r"(query|key|value)/": r"blocks.\1.attn.\2.",
  r"Transformer/encoderblock_(\d+)/MlpBlock_[03]/Dense_0/": (
    r"blocks.\1.mlp.fc1."
  ),
  r"Transformer/encoderblock_(\d+)/MlpBlock_[03]/Dense_1/": (
    r"blocks.\1.mlp.fc2."
  ),
}
_TRANSFORMERS: Renames = {
  r"embeddings\.patch_embeddings\.projection\.": "patch_embed.proj.",
  r"embeddings\.cls_token": "cls_token",
  r"embeddings\.position_embeddings": "pos_embed",
  r"layernorm\.": "norm.",
  r"encoder\.layer\.(\d+)\.layernorm_before\.": r"blocks.\1.norm1.",
  r"encoder\.layer\.(\d+)\.layernorm_after\.": r"blocks.\1.norm2.",
  r"encoder\.layer\.(\d+)\.attention\.attention\.": r"blocks.\1.attn.",
  r"encoder\.layer\.(\d+)\.attention\.output\.dense\.": (
    r"blocks.\1.attn.proj."
  ),
  r"encoder\.layer\.(\d+)\.intermediate\.dense\.": r"blocks.\1.mlp.fc1.",
  r"encoder\.layer\.(\d+)\.output\.dense\.": r"blocks.\1.mlp.fc2.",
}


def from_timm(tensors: Tensors) -> Tensors:
  """Separates the position of the class token from those of the patches.

  Raises:
    InputError: if the positions are not those of a square image.
  """
  if "pos_embed" not in tensors:
    return tensors  # `fill` reports it as missing.
  parts = dict(tensors)
  positions = np.asarray(parts.pop("pos_embed"))
  token = parts.pop("cls_token", None)
  count = positions.shape[1] if positions.ndim == 3 else 0
  side = math.isqrt(count)
  if token is not None:
    token = np.asarray(token, np.float32).reshape(-1)
    if side * side != count:
      side = math.isqrt(count - 1)
      token = token + positions[0, 0]
      positions = positions[:, 1:]
    parts["class_token"] = token
  if not count or side * side != positions.shape[1]:
    raise InputError(
      f"pos_embed is {'×'.join(map(str, tensors['pos_embed'].shape))}, which"
      " are not the patches of a square image, with or without a class token:"
      " give a file of a plain ViT."
    )
  parts["positions"] = positions.reshape(side, side, -1)
  return parts


def from_big_vision(tensors: Tensors) -> Tensors:
  """Moves the output axis to the front, as in PyTorch, and joins the heads."""
  parts = {}
  for name, tensor in tensors.items():
    new = _renamed(name.removeprefix("params/"), _BIG_VISION)
    if new.endswith("kernel"):
      dim = tensor.shape[0]
      if new.endswith(("query.kernel", "key.kernel", "value.kernel")):
        tensor = tensor.reshape(dim, -1)
      elif new.endswith("attn.proj.kernel"):
        tensor = tensor.reshape(-1, tensor.shape[-1])
      tensor = np.moveaxis(tensor, -1, 0)
      if tensor.ndim == 4:
        tensor = np.moveaxis(tensor, -1, 1)
    elif ".attn." in new and new.endswith("bias"):
      tensor = tensor.reshape(-1)
    new = re.sub(r"\.(kernel|scale)$", ".weight", new)
    parts[new] = tensor
  return from_timm(_merged(parts))


def from_transformers(tensors: Tensors) -> Tensors:
  """Joins the query, key and value of each attention in one matrix."""
  prefix = re.compile(r"(vit|model)\.")
  parts = {
    _renamed(prefix.sub("", name, 1), _TRANSFORMERS): tensor
    for name, tensor in tensors.items()
  }
  return from_timm(_merged(parts))


def _renamed(name: str, renames: Renames) -> str:
  for pattern, new in renames.items():
    if match := re.match(pattern, name):
      return match.expand(new) + name[match.end() :]
  return name


def _merged(tensors: Tensors) -> Tensors:
  """Joins the query, key and value of a block, if all three exist."""
  parts = dict(tensors)
  for name in tensors:
    if match := re.fullmatch(r"(.*\.attn\.)query\.(weight|bias)", name):
      prefix, leaf = match.groups()
      names = [f"{prefix}{kind}.{leaf}" for kind in ("query", "key", "value")]
      if all(each in parts for each in names):
        parts[f"{prefix}qkv.{leaf}"] = np.concatenate(
          [parts.pop(each) for each in names]
        )
  return parts


def bicubic(grid: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
  """Resizes a grid of vectors [h, w, d] to another height and width.

  It is a cubic convolution with a = -3/4 between pixel centers, with repeated
  edges, like PyTorch's "bicubic" without antialiasing. A grid of vectors of
  another length is returned as it is.

  >>> bicubic(np.arange(3.0).reshape(1, 3, 1), (1, 3, 1)).ravel()
  array([0., 1., 2.])

  Source: Keys, Cubic convolution interpolation, 1981.
  """
  if grid.ndim != 3 or grid.shape[2] != shape[2]:
    return grid  # `fill` reports its shape.
  rows, columns = (
    _weights(old, new)
    for old, new in zip(grid.shape[:2], shape[:2], strict=True)
  )
  return np.einsum("ih,jw,hwd->ijd", rows, columns, grid.astype(np.float64))


def _weights(old: int, new: int) -> np.ndarray:
  """The weight of each old position in each new one."""
  a = -0.75
  centers = (np.arange(new) + 0.5) * old / new - 0.5
  first = np.floor(centers).astype(int)
  weights = np.zeros((new, old))
  for place in range(-1, 3):
    x = np.abs(centers - (first + place))
    near = (a + 2) * x**3 - (a + 3) * x**2 + 1
    far = a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a
    share = np.where(x <= 1, near, np.where(x < 2, far, 0))
    index = np.clip(first + place, 0, old - 1)
    np.add.at(weights, (np.arange(new), index), share)
  return weights


_BLOCK = r"blocks\.block(\d+)\."
LAYOUT = Layout(
  {
    r"stem\.conv": "patch_embed.proj",
    r"stem\.(class_token|positions)": r"\1",
    _BLOCK + r"(norm[12])": r"blocks.\1.\2",
    _BLOCK + r"attention\.(qkv|proj)": r"blocks.\1.attn.\2",
    _BLOCK + r"(fc[12])": r"blocks.\1.mlp.\2",
    r"norm": "norm",
  },
  left_over=(r"head[./].*", r"classifier\..*", r"pooler\..*", r"pre_logits.*"),
  dialects=(
    Dialect("pos_embed", from_timm),
    Dialect("(params/)?embedding/kernel", from_big_vision, "half"),
    Dialect(r"((vit|model)\.)?embeddings\.cls_token", from_transformers),
  ),
  resized={"positions": bicubic},
  first="patch_embed.proj",
)
