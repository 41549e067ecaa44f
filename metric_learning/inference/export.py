"""A finished run as a folder that needs jax, numpy and flatbuffers alone."""

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
# The false-accept rates that a threshold is given for, where validation is
# large enough to support them.
FARS = (0.1, 0.05, 0.01, 0.001, 0.0001)


def export(run: Any, folder: str | Path) -> Path:
  """Writes a folder that embeds and compares without this package.

    model.safetensors    what was trained and embeds, learned metrics included
    embed.stablehlo      weights and stored items to points
    distances.stablehlo  two sets of points to their distances
    config.json          of the run; what an item is; metric and scale
    thresholds.json      by false-accept rate, from validation pairs
    README.md            a model card, and the lines that load all this

  The programs are those of `jax.export`, for any number of items, on a CPU and
  on a GPU of CUDA. The folder is there whole, or not at all.

  Raises:
    InputError: if the folder is there and not empty, or cannot be written.
  """
  folder = Path(folder).expanduser()
  if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
    raise InputError(
      f"{folder} is there already: choose another --out, or delete it."
    )
  if importlib.util.find_spec("flatbuffers") is None:
    raise InputError(
      "programs are written by flatbuffers: pip install"
      " 'metric-learning[export]'."
    )
  run_files.make_folder(folder.absolute().parent)
  weights, program = _program(run)
  if run.scale is not None:
    scale = dict(zip(("mean", "factor"), run.scale, strict=True))
    weights |= {
      f"scale.{k}": np.asarray(v, np.float64) for k, v in scale.items()
    }
  found = thresholds_of(run)
  config = config_of(run)
  texts = {
    CONFIG: run_files.to_json(config, indent=2) + "\n",
    THRESHOLDS: run_files.to_json(found, indent=2) + "\n",
    CARD: card.card_of(run, config, found),
  }
  files = {name: text.encode() for name, text in texts.items()}
  files |= {
    MODEL: save(weights),
    EMBED: program.serialize(),
    DISTANCES: _compare(run.metric, program.out_avals[0].shape[1]).serialize(),
  }
  made = Path(
    tempfile.mkdtemp(dir=folder.absolute().parent, prefix=f".{folder.name}-")
  )
  try:
    for name, content in files.items():
      (made / name).write_bytes(content)
    made.chmod(0o755)
    os.replace(made, folder)
  finally:
    shutil.rmtree(made, ignore_errors=True)
  return folder


def config_of(run: Any) -> dict[str, Any]:
  """What config.json says: plain data."""
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
  """A threshold for each rate; or why there is none."""
  found = []
  for far in FARS:
    try:
      one = thresholds.of_pairs(run.validation, run.metric, far)
    except InputError as error:
      found.append({"asked": far, "refused": str(error)})
      continue
    rates = {"far": one.far._asdict()}
    if one.frr is not None:
      rates["frr"] = one.frr._asdict()
    found.append(
      {"asked": far, "distance": one.distance, **rates, "from": one.source}
    )
  return found


def _program(run: Any) -> tuple[dict[str, np.ndarray], Any]:
  """The arrays that embedding takes, by name, and its program."""
  paths, tree = jax.tree_util.tree_flatten_with_path(run.state)
  names = [_name(path) for path, _ in paths]
  arrays = dict(zip(names, (np.asarray(x) for _, x in paths), strict=True))

  # Not the compiled function, which would take all that it is given.
  network = inspect.unwrap(run.program.embed)

  def embed(weights: Mapping[str, Array], items: Array) -> Array:
    # What embedding does not take is never looked at.
    leaves = [weights.get(name, jnp.zeros(())) for name in names]
    return network(jax.tree.unflatten(tree, leaves), items)

  spec = run.input_spec
  traced = jax.make_jaxpr(embed)(arrays, *_like({}, spec, 1)[1:]).jaxpr
  taken = {id(x) for equation in traced.eqns for x in equation.invars}
  used = {
    name: arrays[name]
    for name, x in zip(sorted(arrays), traced.invars, strict=False)
    if id(x) in taken
  }
  (count,) = jax.export.symbolic_shape("n")
  like = _like(used, spec, count)
  return used, jax.export.export(jax.jit(embed), platforms=PLATFORMS)(*like)


def _like(
  arrays: Mapping[str, np.ndarray], spec: InputSpec, count: Any
) -> tuple[dict[str, Any], Any]:
  """The shapes of weights, and of so many items."""
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
  """The program of distances."""
  n, m = jax.export.symbolic_shape("n, m")
  like = [jax.ShapeDtypeStruct((count, dim), np.float32) for count in (n, m)]
  matrix = functools.partial(_matrix, metric)
  return jax.export.export(jax.jit(matrix), platforms=PLATFORMS)(*like)


def _matrix(
  metric: MetricName, points: Float[Array, "n d"], others: Float[Array, "m d"]
) -> Float[Array, "n m"]:
  """All distances, from exact differences."""
  name, options = split_metric(metric)
  one = functools.partial(METRICS[name].pointwise, **options)
  return jax.vmap(lambda x: jax.vmap(lambda y: one(x, y))(others))(points)
