"""What embeddings in bfloat16 cost each loss.

python -m experiments.benchmarks.precision

Writes results/precision.md. A network of `model.dtype=bfloat16` gives
embeddings with 8 bits of precision, and the loss reads them in float32. Here
the same embeddings are rounded to bfloat16, and value and gradient compared
with those of the embeddings in float32.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import metric_learning as ml
from experiments import cli
from metric_learning.study.formats import as_markdown
from metric_learning.training import run_files

_OUTPUT = cli.define_path("output", "results/precision.md", "The page.")
CLASSES, EACH, DIM = 32, 4, 128
SEEDS = range(5)


def main() -> None:
  """Computes the table and writes the page."""
  lines = [line_of(loss) for loss in ml.LOSSES]
  heads = ["loss", "metric", "value", "gradient, length", "gradient, angle"]
  text = (
    "# Losses of embeddings in bfloat16\n\nWritten by `python -m"
    f" experiments.benchmarks.precision` at commit {run_files.commit()}."
    f" {CLASSES} classes of {EACH} items in {DIM} dimensions, normal"
    " noise around normal centers of the same spread; the largest over"
    f" {len(SEEDS)} draws. value: its relative difference. gradient, length: of"
    " the difference of the gradients by the embeddings, as a share of the"
    " gradient. angle: between the two, in degrees.\n\n"
    f"{as_markdown(heads, lines)}\n"
  )
  run_files.write_atomically(
    _OUTPUT.value, lambda file: file.write(text.encode())
  )
  print(text)


def line_of(loss: str) -> list[str]:
  """The line of one loss at its defaults."""
  entry = ml.LOSSES[loss]
  found = np.max([errors_of(loss, seed) for seed in SEEDS], axis=0)
  return [loss, entry.metric, *(f"{x:.1g}" for x in found)]


def errors_of(loss: str, seed: int) -> tuple[float, float, float]:
  """Differences of value, of gradient, and the angle between gradients."""
  own, other, noise = jax.random.split(jax.random.key(seed), 3)
  labels = jnp.tile(jnp.arange(CLASSES), EACH)
  if ml.LOSSES[loss].two_views:
    labels = jnp.tile(jnp.arange(CLASSES * EACH // 2), 2)
  options: dict[str, Any] = {}
  if loss == "contrastive_2005":
    options["upper_bound"] = 20.0
  objective = ml.make_objective(loss, **options)
  sizes = {"num_classes": int(labels.max()) + 1, "embedding_dim": DIM}
  params = objective.init(own, **sizes)
  state = objective.init_state(**sizes) or None
  centers = jax.random.normal(other, (sizes["num_classes"], DIM))
  x = centers[labels] + jax.random.normal(noise, (len(labels), DIM))
  value_of = jax.jit(
    jax.value_and_grad(lambda x: objective(params, x, labels, state=state)[0])
  )
  rounded = x.astype(jnp.bfloat16).astype(jnp.float32)
  (value, slope), (other_value, other_slope) = value_of(x), value_of(rounded)
  length, other_length = map(jnp.linalg.norm, (slope, other_slope))
  cosine = jnp.sum(slope * other_slope) / (length * other_length)
  return (
    float(abs(other_value - value) / abs(value)),
    float(jnp.linalg.norm(other_slope - slope) / length),
    float(jnp.degrees(jnp.arccos(jnp.clip(cosine, -1, 1)))),
  )


if __name__ == "__main__":
  cli.run(main, __doc__)
