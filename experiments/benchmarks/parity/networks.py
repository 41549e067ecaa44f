"""Compares every pretrained network with the one that its files come from.

python -m experiments.benchmarks.parity.networks

PyTorch's network gets random weights, and ours reads them from a file. The page
shows the difference of the features, at two image sizes. Needs the extra: pip
install -e '.[bench]'.
"""

import functools
import importlib.metadata
import importlib.util
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from absl import flags

from experiments import cli
from experiments.benchmarks.parity import references
from experiments.benchmarks.parity.cells import (
  apart,
  number_text,
  settings_text,
)
from metric_learning import models
from metric_learning.errors import InputError
from metric_learning.models import weights
from metric_learning.specs import InputSpec, as_numbers
from metric_learning.study.formats import as_markdown
from metric_learning.training import run_files

_OUTPUT = cli.define_path("output", "results/parity_networks.md", "The page.")
_ONLY = flags.DEFINE_list("only", None, "Names of networks; None for all.")
_NEEDED = ("torchvision", "timm", "transformers", "efficientnet_lite_pytorch")
_HEADS = ("network", "options", "reference", "file", "size", "apart", "agree")
MOST = 1e-4  # of the largest feature
SMALL = (160, 128)

Size = tuple[int, int]


class Case(NamedTuple):
  """A network beside its reference.

  reference: (images [n, h, w, 3] of values from 0 to 255) to the tensors of a
    file of random weights, and the features of the images.
  """

  name: str
  theirs: str
  reference: Callable[[np.ndarray], tuple[Mapping[str, Any], Any]]
  suffix: str = ".pth"
  large: Size = (224, 224)
  options: Mapping[str, Any] = {}


_TOKEN, _MEAN = {"pool": "token"}, {"pool": "avg"}
_NO_TOKEN = {"pool": "avg", "class_token": False}
_HALF = {"pool": "token", "inputs": "half"}


def _vits(name: str, timm: str, size: str) -> list[Case]:
  """A vision transformer from each kind of file."""
  part = functools.partial
  by_timm = part(references.timm, timm)
  return [
    Case(name, "timm", part(by_timm, "imagenet", "token"), options=_TOKEN),
    Case(name, "timm", part(by_timm, "imagenet", "avg"), options=_MEAN),
    Case(name, "timm", part(by_timm, "half", "token"), options=_HALF),
    Case(
      name,
      "transformers",
      part(references.transformers, size),
      ".safetensors",
      options=_TOKEN,
    ),
    Case(
      name,
      "timm, from .npz of vision_transformer",
      part(references.npz, timm, "augreg"),
      ".npz",
      options=_TOKEN,
    ),
    Case(
      name,
      "timm, from .npz of big_vision",
      part(references.npz, timm, "big_vision"),
      ".npz",
      options=_NO_TOKEN,
    ),
  ]


CASES = [
  *(
    Case(name, "torchvision", functools.partial(references.torchvision, name))
    for name in ("resnet18", "resnet50")
  ),
  Case(
    "squeezenet",
    "torchvision",
    functools.partial(references.torchvision, "squeezenet1_1"),
    large=(227, 227),
  ),
  *(
    Case(
      f"efficientnet_lite{i}",
      "efficientnet_lite_pytorch",
      functools.partial(references.lite, f"efficientnet-lite{i}"),
      large=(side, side),
    )
    for i, side in enumerate((224, 240, 260))
  ),
  *_vits("vit_s16", "vit_small_patch16_224", "small"),
  *_vits("vit_b16", "vit_base_patch16_224", "base")[::4],  # token, and .npz
]


def main() -> None:
  """Writes the page."""
  missing = [x for x in _NEEDED if importlib.util.find_spec(x) is None]
  if missing:
    raise InputError(f"no {', '.join(missing)}: pip install -e '.[bench]'.")
  known = dict.fromkeys(case.name for case in CASES)
  for name in _ONLY.value or ():
    if name not in known:
      raise InputError(f"--only={name}: choose among {', '.join(known)}.")
  output = Path(_OUTPUT.value)
  output.parent.mkdir(parents=True, exist_ok=True)
  lines, worst = [], 0.0
  for case in CASES:
    if _ONLY.value and case.name not in _ONLY.value:
      continue
    for size in (case.large, SMALL):
      found = difference(case, size)
      worst = max(worst, found)
      lines.append(_line(case, size, found))
      print(*lines[-1], sep="  ", flush=True)
      output.write_text(page(lines))
  print(f"The page is {output}.")
  if worst > MOST:
    print("They disagree.")
    sys.exit(1)


def difference(case: Case, size: Size) -> float:
  """The largest difference of features, relative to the largest of theirs."""
  rng = np.random.default_rng(0)
  images = rng.integers(0, 256, (2, *size, 3), np.uint8)
  tensors, theirs = case.reference(images)
  with tempfile.TemporaryDirectory() as folder:
    path = f"{folder}/weights{case.suffix}"
    _save(path, tensors)
    ours = features(case.name, case.options, images, path)
  return apart(ours, theirs)


def features(
  name: str, options: Mapping[str, Any], images: np.ndarray, path: str
) -> np.ndarray:
  """What our network makes of images with the weights of a file."""
  model = models.create(
    name,
    input_spec=InputSpec(images.shape[1:], "image"),
    embedding_dim=models.MODELS[name].features,
    head="none",
    weights=path,
    **options,
  )
  params, stats = model.init(jax.random.key(0))
  embed = jax.jit(functools.partial(model.apply, train=False))
  inputs = model.preprocess(as_numbers(images))
  return np.asarray(embed(params, stats, inputs)[0])


def _save(path: str, tensors: Mapping[str, Any]) -> None:
  if path.endswith(".pth"):
    references.save(path, tensors)
  elif path.endswith(".npz"):
    arrays: dict[str, Any] = {k: np.asarray(x) for k, x in tensors.items()}
    np.savez(path, **arrays)
  else:
    weights.write(path, {k: np.asarray(x) for k, x in tensors.items()})


def _line(case: Case, size: Size, found: float) -> tuple[str, ...]:
  return (
    case.name,
    settings_text(case.options),
    case.theirs,
    case.suffix,
    "×".join(map(str, size)),
    number_text(found),
    "=" if found <= MOST else "≠",
  )


def page(lines: list[tuple[str, ...]]) -> str:
  """The whole page as Markdown."""
  names = ("jax", "torch", *_NEEDED)
  versions = ", ".join(
    f"{name} {importlib.metadata.version(name)}" for name in names
  )
  only = f" --only={','.join(_ONLY.value)}" if _ONLY.value else ""
  return (
    "# Our networks beside those of PyTorch\n\n"
    f"Written by `python -m experiments.benchmarks.parity.networks{only}` at"
    f" commit {run_files.commit()}: {versions}; float32 on both sides.\n\n"
    "The network of PyTorch gets random weights and batch statistics, and ours"
    " reads them from a file; both see two random images of each size. *apart*"
    " is the largest difference of the pooled features, relative to their"
    f" largest number; they agree (=) if it is at most {MOST:g}. The files of"
    " vision transformers have positions for 224×224, which are interpolated"
    " for the other size.\n\n"
    f"{as_markdown(_HEADS, lines)}\n"
  )


if __name__ == "__main__":
  cli.run(main, __doc__)
