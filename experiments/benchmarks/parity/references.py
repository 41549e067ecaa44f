"""Networks of PyTorch with random weights: what `networks` compares ours with.

Each is a function of images [n, h, w, 3] of values from 0 to 255 to the tensors
of a weights file and the features of the images.
"""

import tempfile
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from metric_learning.models import weights
from metric_learning.models.weights import SCALES

Reference = tuple[Mapping[str, Any], Any]
# Width, depth and heads.
_VITS = {"small": (384, 12, 6), "base": (768, 12, 12)}


def torchvision(name: str, images: np.ndarray) -> Reference:
  """A network of torchvision; its pooled features."""
  import torch
  import torchvision

  network = getattr(torchvision.models, name)()
  state = _drawn_into(network)
  x = _seen(images, "imagenet")
  with torch.no_grad():
    if hasattr(network, "features"):
      return state, network.features(x).mean((2, 3))
    network.fc = torch.nn.Identity()
    return state, network(x)


def lite(name: str, images: np.ndarray) -> Reference:
  """A network of efficientnet_lite_pytorch; its pooled features."""
  import torch
  from efficientnet_lite_pytorch import EfficientNet

  # It pads for images of one size.
  size = list(images.shape[1:3])
  network = EfficientNet.from_name(name, image_size=size)
  state = _drawn_into(network)
  x = torch.tensor((images.transpose(0, 3, 1, 2) - 127.0) / 128).float()
  with torch.no_grad():
    return state, network.extract_features(x).mean((2, 3))


def timm(name: str, scale: str, pool: str, images: np.ndarray) -> Reference:
  """A vision transformer of timm, whose weights are for 224×224."""
  network = _timm(name, pool, (224, 224))
  return _of_size(network, _drawn_into(network), name, scale, pool, images)


def npz(name: str, form: str, images: np.ndarray) -> Reference:
  """The same with the file of vision_transformer or big_vision that it reads.

  form: "augreg", with a class token; "big_vision", without one.
  """
  pool = "token" if form == "augreg" else "avg"
  network = _timm(name, pool, (224, 224), class_token=form == "augreg")
  tensors = _npz_of(network, form)
  from timm.models.vision_transformer import _load_weights

  with _npz_file(tensors) as path:
    _load_weights(network, path)
  state = network.state_dict()
  _, features = _of_size(network, state, name, "half", pool, images)
  return tensors, features


def transformers(size: str, images: np.ndarray) -> Reference:
  """A ViT of Hugging Face, which interpolates its positions itself."""
  import torch
  from transformers import ViTConfig, ViTModel

  width, depth, heads = _VITS[size]
  config = ViTConfig(
    hidden_size=width,
    num_hidden_layers=depth,
    num_attention_heads=heads,
    intermediate_size=4 * width,
    layer_norm_eps=1e-6,
  )
  network = ViTModel(config, add_pooling_layer=False).eval()
  _drawn_into(network)
  with tempfile.TemporaryDirectory() as folder:
    network.save_pretrained(folder)  # its files have other names than it has
    state = weights.read(f"{folder}/model.safetensors")
  with torch.no_grad():
    found = network(_seen(images, "imagenet"), interpolate_pos_encoding=True)
  return state, found.last_hidden_state[:, 0]


def save(path: str, tensors: Mapping[str, Any]) -> None:
  """Writes a file as users have it."""
  import torch

  torch.save(dict(tensors), path)


# --- Parts -------------------------------------------------------------------


def _seen(images: np.ndarray, scale: str) -> Any:
  """Images as a network of PyTorch takes them."""
  import torch

  mean, deviation, _ = SCALES[scale]
  numbers = (images / 255 - np.array(mean)) / np.array(deviation)
  return torch.tensor(numbers.transpose(0, 3, 1, 2)).float()


def _drawn(name: str, shape: tuple[int, ...], rng: Any) -> np.ndarray:
  """Numbers that keep activations of the order of 1."""
  leaf = name.split(".")[-1]
  if leaf == "num_batches_tracked":
    return np.array(3)
  if len(shape) in (2, 4):
    return rng.normal(size=shape) * np.prod(shape[1:]) ** -0.5
  if leaf == "running_var":
    return rng.uniform(0.2, 1, shape)
  if leaf in ("weight", "scale"):
    return rng.uniform(0.5, 1.5, shape)
  return rng.uniform(-0.5, 0.5, shape)


def _drawn_into(network: Any, seed: int = 0) -> Mapping[str, Any]:
  """Draws all weights of a network anew; what its file would hold."""
  import torch

  rng = np.random.default_rng(seed)
  state = {
    name: torch.as_tensor(_drawn(name, tuple(x.shape), rng)).to(x.dtype)
    for name, x in network.state_dict().items()
  }
  network.load_state_dict(state)
  network.eval()
  return state


def _timm(name: str, pool: str, size: Any, class_token: bool = True) -> Any:
  import timm

  return timm.create_model(
    name,
    img_size=tuple(size),
    num_classes=0,
    global_pool=pool,
    class_token=class_token,
    fc_norm=False,
  ).eval()


def _of_size(
  network: Any,
  state: Mapping[str, Any],
  name: str,
  scale: str,
  pool: str,
  images: np.ndarray,
) -> Reference:
  """Features by weights for 224×224 of images of any size."""
  import torch

  height, width = images.shape[1:3]
  other = _timm(name, pool, (height, width), network.cls_token is not None)
  grid = height // 16, width // 16
  positions = _positions(state["pos_embed"], grid)
  other.load_state_dict({**state, "pos_embed": positions})
  with torch.no_grad():
    return state, other(_seen(images, scale))


def _positions(positions: Any, grid: tuple[int, int]) -> Any:
  """Embeddings of 14×14 patches, interpolated as DINO does, by PyTorch."""
  import torch
  from torch.nn.functional import interpolate

  patches = positions[:, -196:].reshape(1, 14, 14, -1).permute(0, 3, 1, 2)
  patches = interpolate(patches, grid, mode="bicubic", align_corners=False)
  patches = patches.permute(0, 2, 3, 1).flatten(1, 2)
  return torch.cat([positions[:, :-196], patches], dim=1)


def _npz_file(tensors: Mapping[str, Any]) -> Any:
  """A context: the path of an .npz of them."""
  import contextlib

  @contextlib.contextmanager
  def written() -> Iterator[str]:
    with tempfile.NamedTemporaryFile(suffix=".npz") as file:
      np.savez(file, **tensors)
      file.flush()
      yield file.name

  return written()


def _npz_of(network: Any, form: str) -> dict[str, np.ndarray]:
  """Random tensors by the names and shapes of the JAX projects."""
  dim, heads = network.embed_dim, network.blocks[0].attn.num_heads
  old = form == "augreg"
  second, attention, dense = (2, 1, 3) if old else (1, 0, 0)
  square = {
    "kernel": (dim, heads, dim // heads),
    "bias": (heads, dim // heads),
  }
  norm = {"scale": (dim,), "bias": (dim,)}
  block = {
    "LayerNorm_0": norm,
    f"LayerNorm_{second}": norm,
    **{
      f"MultiHeadDotProductAttention_{attention}/{part}": square
      for part in ("query", "key", "value")
    },
    f"MultiHeadDotProductAttention_{attention}/out": {
      "kernel": (heads, dim // heads, dim),
      "bias": (dim,),
    },
    f"MlpBlock_{dense}/Dense_0": {
      "kernel": (dim, 4 * dim),
      "bias": (4 * dim,),
    },
    f"MlpBlock_{dense}/Dense_1": {"kernel": (4 * dim, dim), "bias": (dim,)},
  }
  layers = {
    "embedding": {"kernel": (16, 16, 3, dim), "bias": (dim,)},
    "Transformer/encoder_norm": norm,
    **{
      f"Transformer/encoderblock_{i}/{name}": leaves
      for i in range(len(network.blocks))
      for name, leaves in block.items()
    },
  }
  shapes = {
    f"{name}/{leaf}": shape
    for name, leaves in layers.items()
    for leaf, shape in leaves.items()
  }
  if old:
    shapes["cls"] = (1, 1, dim)
    shapes["Transformer/posembed_input/pos_embedding"] = (1, 197, dim)
  else:
    shapes["pos_embedding"] = (1, 196, dim)
  rng = np.random.default_rng(0)
  before = "" if old else "params/"
  return {
    before + name: _in_jax(name, shape, dim, rng).astype(np.float32)
    for name, shape in shapes.items()
  }


def _in_jax(name: str, shape: tuple[int, ...], dim: int, rng: Any) -> Any:
  if name.endswith("kernel"):
    inputs = 4 * dim if "Dense_1" in name else dim
    inputs = 16 * 16 * 3 if name.startswith("embedding") else inputs
    return rng.normal(size=shape) * inputs**-0.5
  return _drawn(name.replace("/", "."), shape, rng)
