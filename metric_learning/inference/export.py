"""Exports a finished run to a folder that works without this package."""

import functools
import importlib.util
import inspect
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from safetensors.numpy import save

from metric_learning.distances import METRICS, MetricName, split_metric
from metric_learning.errors import InputError
from metric_learning.inference import card, thresholds
from metric_learning.specs import InputSpec
from metric_learning.training import run_files

PLATFORMS = ("cpu", "cuda")
MODEL = "model.safetensors"
EMBED, DISTANCES = "embed.stablehlo", "distances.stablehlo"
CONFIG, THRESHOLDS, CARD = "config.json", "thresholds.json", "README.md"
# The false-accept rates of the exported thresholds. A rate is left out if the
# validation part is too small for it.
FARS = (0.1, 0.05, 0.01, 0.001, 0.0001)


def export(run: Any, folder: str | Path) -> Path:
  """Writes a folder that embeds and compares without this package.

    model.safetensors    the weights, including those of a learned metric, and
                         the scale of features
    embed.stablehlo      the program from weights and stored items to points
    distances.stablehlo  the program from two sets of points to their distances
    config.json          the input, the metric, and the config of the run
    thresholds.json      thresholds by false-accept rate, from validation pairs
    README.md            a model card, with the code that loads the folder

  The folder needs only jax, numpy and flatbuffers. Its programs are written by
  `jax.export` and take any number of items, on a CPU and on a CUDA GPU. The
  folder is written completely or not at all.

  Raises:
    InputError: if the folder exists and is not empty, or cannot be written.
  """
  folder = Path(folder).expanduser()
  if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
    raise InputError(
      f"{folder} exists already: choose another --out, or delete it."
    )
  if importlib.util.find_spec("flatbuffers") is None:
    raise InputError(
      "exporting needs flatbuffers: pip install 'metric-learning[export]'."
    )
  run_files.make_folder(folder.absolute().parent)
  weights, program = _program(run)
  if run.scale is not None:
    scale = dict(zip(("mean", "factor"), run.scale, strict=True))
    weights |= {
      f"scale.{k}": np.asarray(v, np.float64) for k, v in scale.items()
    }
  all_thresholds = thresholds_of(run)
  config = config_of(run)
  texts = {
    CONFIG: run_files.to_json(config, indent=2) + "\n",
    THRESHOLDS: run_files.to_json(all_thresholds, indent=2) + "\n",
    CARD: card.card_of(run, config, all_thresholds),
  }
  files = {name: text.encode() for name, text in texts.items()}
  files |= {
    MODEL: save(weights),
    EMBED: program.serialize(),
    DISTANCES: _compare(run.metric, program.out_avals[0].shape[1]).serialize(),
  }
  temporary = Path(
    tempfile.mkdtemp(dir=folder.absolute().parent, prefix=f".{folder.name}-")
  )
  try:
    for name, content in files.items():
      (temporary / name).write_bytes(content)
    temporary.chmod(0o755)
    os.replace(temporary, folder)
  finally:
    shutil.rmtree(temporary, ignore_errors=True)
  return folder


def config_of(run: Any) -> dict[str, Any]:
  """The contents of config.json, as plain data."""
  return {
    "input": {"shape": list(run.input_spec.shape), "kind": run.input_spec.kind},
    "metric": run.metric,
    "selected_step": run.result["selected_step"],
    "digest": run.result["digest"],
    "commit": run.result["commit"],
    "jax": jax.__version__,
    "platforms": list(PLATFORMS),
    "config": run_files.read_json(run.folder / run_files.CONFIG),
  }


def thresholds_of(run: Any) -> list[dict[str, Any]]:
  """The threshold of each rate, or the reason why there is none."""
  entries = []
  for far in FARS:
    try:
      one = thresholds.of_pairs(run.validation, run.metric, far)
    except InputError as error:
      entries.append({"asked": far, "refused": str(error)})
      continue
    rates = {"far": one.far._asdict()}
    if one.frr is not None:
      rates["frr"] = one.frr._asdict()
    entries.append(
      {"asked": far, "distance": one.distance, **rates, "from": one.source}
    )
  return entries


def _program(run: Any) -> tuple[dict[str, np.ndarray], Any]:
  """The arrays that embedding uses, by name, and the program that embeds."""
  paths, tree = jax.tree_util.tree_flatten_with_path(run.state)
  names = [_name(path) for path, _ in paths]
  arrays = dict(zip(names, (np.asarray(x) for _, x in paths), strict=True))

  # Unwraps the compiled function, whose trace would use every argument.
  network = inspect.unwrap(run.program.embed)

  def embed(weights: Mapping[str, Array], items: Array) -> Array:
    # A missing array is one that embedding never uses.
    leaves = [weights.get(name, jnp.zeros(())) for name in names]
    return network(jax.tree.unflatten(tree, leaves), items)

  spec = run.input_spec
  traced = jax.make_jaxpr(embed)(arrays, *_like({}, spec, 1)[1:]).jaxpr
  used_ids = {id(x) for equation in traced.eqns for x in equation.invars}
  used = {
    name: arrays[name]
    for name, x in zip(sorted(arrays), traced.invars, strict=False)
    if id(x) in used_ids
  }
  (count,) = jax.export.symbolic_shape("n")
  shapes = _like(used, spec, count)
  return used, jax.export.export(jax.jit(embed), platforms=PLATFORMS)(*shapes)


def _like(
  arrays: Mapping[str, np.ndarray], spec: InputSpec, count: Any
) -> tuple[dict[str, Any], Any]:
  """The shapes of the weights, and of `count` items."""
  dtype = np.uint8 if spec.kind == "image" else np.float32
  weights = {
    k: jax.ShapeDtypeStruct(x.shape, x.dtype) for k, x in arrays.items()
  }
  return weights, jax.ShapeDtypeStruct((count, *spec.shape), dtype)


def _name(path: tuple[Any, ...]) -> str:
  keys = [
    getattr(p, "key", getattr(p, "name", getattr(p, "idx", p))) for p in path
  ]
  return ".".join(map(str, keys))


def _compare(metric: MetricName, dim: int) -> Any:
  """The program that computes distances."""
  n, m = jax.export.symbolic_shape("n, m")
  shapes = [jax.ShapeDtypeStruct((count, dim), np.float32) for count in (n, m)]
  matrix = functools.partial(_matrix, metric)
  return jax.export.export(jax.jit(matrix), platforms=PLATFORMS)(*shapes)


def _matrix(
  metric: MetricName, points: Float[Array, "n d"], others: Float[Array, "m d"]
) -> Float[Array, "n m"]:
  """All distances between two sets of points, from exact differences."""
  name, options = split_metric(metric)
  one = functools.partial(METRICS[name].pointwise, **options)
  return jax.vmap(lambda x: jax.vmap(lambda y: one(x, y))(others))(points)
