"""Measures the error of each loss for embeddings in bfloat16.

python -m experiments.benchmarks.precision

Writes results/precision.md. With `model.dtype=bfloat16`, embeddings have 8 bits
of precision, and the loss computes with them in float32. This benchmark rounds
float32 embeddings to bfloat16 and compares the value and gradient with those of
the unrounded embeddings.
"""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

import metric_learning as ml
from experiments import cli
from metric_learning.study.formats import as_markdown
from metric_learning.training import run_files

_OUTPUT = cli.define_path("output", "results/precision.md", "The page.")
CLASSES, EACH, DIM = 32, 4, 128
# Of the centers beside the noise: with 1 the classes lie far apart, and what
# little remains active of a triplet loss, or of nca, is mostly rounding.
SPREAD = 0.3
SEEDS = range(5)


def main() -> None:
  """Computes the table and writes the page."""
  lines = [line_of(loss) for loss in ml.LOSSES]
  heads = ["loss", "metric", "value", "gradient, length", "gradient, angle"]
  text = (
    "# Losses of embeddings in bfloat16\n\nWritten by `python -m"
    f" experiments.benchmarks.precision` at commit {run_files.commit()}."
    f" {CLASSES} classes of {EACH} items in {DIM} dimensions, normal"
    f" noise around normal centers of {SPREAD} times its spread, so that"
    " classes overlap. The columns are the largest values over"
    f" {len(SEEDS)} draws. *value*: the relative difference of the loss."
    " *gradient, length*: the length of the difference of the gradients with"
    " respect to the embeddings, as a share of the length of the gradient."
    " *gradient, angle*: the angle between the two, in degrees. –: the loss is"
    " 0 in one of the draws, so a share of it does not exist.\n\n"
    f"{as_markdown(heads, lines)}\n"
  )
  run_files.write_atomically(
    Path(_OUTPUT.value), lambda file: file.write(text.encode())
  )
  print(text)


def line_of(loss: str) -> list[str]:
  """The line of one loss at its defaults."""
  metric = ml.LOSSES[loss].metric
  found = np.max(errors_of(loss), axis=0)
  return [loss, metric, *("–" if np.isnan(x) else f"{x:.1g}" for x in found)]


def errors_of(loss: str) -> list[tuple[float, float, float]]:
  """Of each draw: difference of value, of gradient, and the angle of both."""
  labels = jnp.tile(jnp.arange(CLASSES), EACH)
  if ml.LOSSES[loss].two_views:
    labels = jnp.tile(jnp.arange(CLASSES * EACH // 2), 2)
  options: dict[str, Any] = {}
  if loss == "contrastive_2005":
    options["upper_bound"] = 20.0
  objective = ml.make_objective(loss, **options)
  sizes = {"num_classes": int(labels.max()) + 1, "embedding_dim": DIM}
  state = objective.init_state(**sizes) or None

  @jax.jit
  def value_of(params: Any, x: Array) -> tuple[Array, Array]:
    one = lambda x: objective(params, x, labels, state=state)[0]
    return jax.value_and_grad(one)(x)

  def of_seed(seed: int) -> tuple[float, float, float]:
    own, other, noise = jax.random.split(jax.random.key(seed), 3)
    params = objective.init(own, **sizes)
    centers = SPREAD * jax.random.normal(other, (sizes["num_classes"], DIM))
    x = centers[labels] + jax.random.normal(noise, (len(labels), DIM))
    rounded = x.astype(jnp.bfloat16).astype(jnp.float32)
    return _apart(value_of(params, x), value_of(params, rounded))

  return [of_seed(seed) for seed in SEEDS]


def _apart(
  one: tuple[Array, Array], other: tuple[Array, Array]
) -> tuple[float, float, float]:
  """How far values and gradients are apart; in float64, so that 0 is 0."""
  # NaN where the loss is 0.
  (value, slope), (other_value, other_slope) = (
    [np.asarray(x, np.float64) for x in pair] for pair in (one, other)
  )
  length, other_length = map(np.linalg.norm, (slope, other_slope))
  with np.errstate(invalid="ignore", divide="ignore"):
    cosine = np.sum(slope * other_slope) / (length * other_length)
    return (
      float(abs(other_value - value) / abs(value)),
      float(np.linalg.norm(other_slope - slope) / length),
      float(np.degrees(np.arccos(np.clip(cosine, -1, 1)))),
    )


if __name__ == "__main__":
  cli.run(main, __doc__)
