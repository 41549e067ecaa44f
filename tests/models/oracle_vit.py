"""A vision transformer in float64 NumPy; weights named as in each library."""

import math

import numpy as np
from scipy.special import erf, softmax

from tests.models.oracle_trunks import Drawn

HALF = ([0.5] * 3, [0.5] * 3)
IMAGENET = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])


def features(values, file, scale, grid, heads, token):
  """The class token, or the mean of patches; timm's names; values 0 to 255.

  The positions in `file` are those of a square image; they are resized to
  `grid`.
  """
  mean, deviation = (np.array(x)[:, None, None] for x in scale)
  images = (values.transpose(0, 3, 1, 2) / 255 - mean) / deviation
  take = lambda name: file[name].astype(np.float64)

  def dense(x, name):
    return x @ take(f"{name}.weight").T + take(f"{name}.bias")

  def norm(x, name):
    x = x - x.mean(-1, keepdims=True)
    x = x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6)
    return x * take(f"{name}.weight") + take(f"{name}.bias")

  kernel = take("patch_embed.proj.weight")
  size, (rows, columns) = kernel.shape[2], grid
  tokens = np.stack(
    [
      np.einsum(
        "ncij,ocij->no",
        images[:, :, r * size : (r + 1) * size, c * size : (c + 1) * size],
        kernel,
      )
      for r in range(rows)
      for c in range(columns)
    ],
    axis=1,
  ) + take("patch_embed.proj.bias")
  positions = take("pos_embed")[0]
  first = len(positions) - math.isqrt(len(positions)) ** 2
  side = math.isqrt(len(positions) - first)
  square = positions[first:].reshape(side, side, -1)
  tokens = tokens + bicubic(square, grid).reshape(rows * columns, -1)
  if "cls_token" in file:
    start = take("cls_token")[0] + (positions[:1] if first else 0)
    start = np.broadcast_to(start, (len(tokens), *start.shape))
    tokens = np.concatenate([start, tokens], axis=1)
  x, i = tokens, 0
  while f"blocks.{i}.norm1.weight" in file:
    at = f"blocks.{i}."
    parts = np.split(dense(norm(x, f"{at}norm1"), f"{at}attn.qkv"), 3, -1)
    heads_of = lambda y: y.reshape(*y.shape[:2], heads, -1)
    q, k, v = map(heads_of, parts)
    weights = np.einsum("nqhd,nkhd->nhqk", q, k) / np.sqrt(q.shape[-1])
    seen = np.einsum("nhqk,nkhd->nqhd", softmax(weights, axis=-1), v)
    x = x + dense(seen.reshape(x.shape), f"{at}attn.proj")
    y = dense(norm(x, f"{at}norm2"), f"{at}mlp.fc1")
    y = y * (1 + erf(y / np.sqrt(2))) / 2
    x, i = x + dense(y, f"{at}mlp.fc2"), i + 1
  x = norm(x, "norm")
  return x[:, 0] if token else x[:, "cls_token" in file :].mean(1)


def bicubic(square, grid):
  """Keys' cubic convolution, a = -3/4; pixel centers; edges repeated."""

  def share(x):
    x = abs(x)
    if x <= 1:
      return 1.25 * x**3 - 2.25 * x**2 + 1
    return -0.75 * (x**3 - 5 * x**2 + 8 * x - 4) if x < 2 else 0.0

  side, new = len(square), np.zeros((*grid, square.shape[2]))
  for r in range(grid[0]):
    for c in range(grid[1]):
      y, x = ((r + 0.5) * side / grid[0], (c + 0.5) * side / grid[1])
      for i in range(-4, side + 4):
        for j in range(-4, side + 4):
          at = np.clip(i, 0, side - 1), np.clip(j, 0, side - 1)
          new[r, c] += (
            share(y - 0.5 - i) * share(x - 0.5 - j) * square[at[0], at[1]]
          )
  return new


def draw(dim, depth, patch, side, *, token, first=None):
  """A file with timm's names; `first`: if positions include the class token."""
  drawn, first = Drawn(3), token if first is None else first
  if token:
    drawn.take("cls_token", (1, 1, dim), -1, 1)
  drawn.take("pos_embed", (1, first + side * side, dim), -1, 1)
  drawn.take("patch_embed.proj.weight", (dim, 3, patch, patch))
  drawn.take("patch_embed.proj.bias", (dim,), -1, 1)
  for name, shape in (
    *(
      (f"blocks.{i}.{name}", shape)
      for i in range(depth)
      for name, shape in (
        ("norm1", None),
        ("attn.qkv", (3 * dim, dim)),
        ("attn.proj", (dim, dim)),
        ("norm2", None),
        ("mlp.fc1", (4 * dim, dim)),
        ("mlp.fc2", (dim, 4 * dim)),
      )
    ),
    ("norm", None),
  ):
    if shape is None:
      drawn.take(f"{name}.weight", (dim,), 0.5, 1.5)
    else:
      drawn.take(f"{name}.weight", shape)
    drawn.take(f"{name}.bias", (shape[0] if shape else dim,), -1, 1)
  drawn.take("head.weight", (9, dim))
  drawn.take("head.bias", (9,), -1, 1)
  return dict(drawn)


def of_jax(file, heads, *, old):
  """With the names of vision_transformer (`old`) or big_vision."""
  dim = file["norm.weight"].shape[0]
  second, attention, dense = (2, 1, 3) if old else (1, 0, 0)
  parts = {}
  for name, tensor in file.items():
    *path, leaf = name.split(".")
    kernel = "scale" if "norm" in name else "kernel"
    leaf = {"weight": kernel, "bias": "bias"}.get(leaf, leaf)
    if tensor.ndim == 4:
      tensor = tensor.transpose(2, 3, 1, 0)
    elif tensor.ndim == 2:
      tensor = tensor.T
    if name == "cls_token":
      parts["cls"] = tensor
    elif name == "pos_embed":
      where = "Transformer/posembed_input/pos_embedding"
      parts[where if old else "pos_embedding"] = tensor
    elif path[0] == "patch_embed":
      parts[f"embedding/{leaf}"] = tensor
    elif path[0] == "norm":
      parts[f"Transformer/encoder_norm/{leaf}"] = tensor
    elif path[0] == "head":
      parts[f"head/{leaf}"] = tensor
    else:
      at = f"Transformer/encoderblock_{path[1]}/"
      layer = f"{at}MultiHeadDotProductAttention_{attention}/"
      if path[-1] == "qkv":
        for i, part in enumerate(("query", "key", "value")):
          piece = tensor[..., i * dim : (i + 1) * dim]
          piece = piece.reshape(*piece.shape[:-1], heads, -1)
          parts[f"{layer}{part}/{leaf}"] = piece
      elif path[-1] == "proj":
        if leaf == "kernel":
          tensor = tensor.reshape(heads, -1, dim)
        parts[f"{layer}out/{leaf}"] = tensor
      elif path[-1].startswith("norm"):
        number = 0 if path[-1] == "norm1" else second
        parts[f"{at}LayerNorm_{number}/{leaf}"] = tensor
      else:
        number = int(path[-1][-1]) - 1
        parts[f"{at}MlpBlock_{dense}/Dense_{number}/{leaf}"] = tensor
  return {name if old else f"params/{name}": x for name, x in parts.items()}


def of_transformers(file):
  """With the names of Hugging Face."""
  dim = file["norm.weight"].shape[0]
  names = {
    "cls_token": "embeddings.cls_token",
    "pos_embed": "embeddings.position_embeddings",
    "patch_embed.proj": "embeddings.patch_embeddings.projection",
    "norm": "layernorm",
    "norm1": "layernorm_before",
    "norm2": "layernorm_after",
    "attn.proj": "attention.output.dense",
    "mlp.fc1": "intermediate.dense",
    "mlp.fc2": "output.dense",
    "head": "classifier",
  }
  parts = {}
  for name, tensor in file.items():
    module, _, leaf = name.rpartition(".")
    if name in names:
      parts[f"vit.{names[name]}"] = tensor
    elif module.endswith("qkv"):
      block = module.split(".")[1]
      for i, part in enumerate(("query", "key", "value")):
        where = f"vit.encoder.layer.{block}.attention.attention.{part}.{leaf}"
        parts[where] = tensor[i * dim : (i + 1) * dim]
    elif module.startswith("blocks."):
      _, block, inner = module.split(".", 2)
      parts[f"vit.encoder.layer.{block}.{names[inner]}.{leaf}"] = tensor
    else:
      before = "" if module == "head" else "vit."
      parts[f"{before}{names[module]}.{leaf}"] = tensor
  return parts
