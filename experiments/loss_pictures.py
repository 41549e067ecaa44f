"""Small pictures of losses for the manual: pull and push against distance.

One anchor has one positive and one negative. The pull is the derivative of the
loss with respect to the distance of the positive, with the negative at distance
1. The push is minus the derivative with respect to the distance of the
negative, with the positive at distance 1.
"""

import re
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from metric_learning.losses import LOSSES, Loss
from metric_learning.losses.base import batch
from metric_learning.rows import Row
from metric_learning.signatures import call_with

# The range of distances, and the fixed distance. Some forces are infinite at 0.
NEAREST, FARTHEST, FIXED = 0.1, 2.0, 1.0
# The dimension of embeddings, since the bound of some distances depends on it.
_DIMENSION = 64
_POINTS = 41
_WIDTH, _HEIGHT, _EDGE = 200, 80, 6
# The two colors stand out on white and on black.
_COLORS = {"pull": "#2f8fd0", "push": "#e06a10"}
_DASHES = {"pull": "", "push": ' stroke-dasharray="5 3"'}


def has_picture(loss: Loss) -> bool:
  """Whether the loss depends only on the distances of one anchor."""
  return (
    loss.pairing is batch
    and not (loss.batched or loss.two_views or loss.closed_form)
    and loss.context is None
    and loss.state is None
    and loss.join is None
  )


def forces(loss: Loss) -> dict[str, np.ndarray]:
  """The pull and the push at distances from 0.1 to 2, by name."""
  hyper = dict(loss.hyper)
  if hyper.get("upper_bound", FARTHEST) is None:
    hyper["upper_bound"] = FARTHEST
  if loss.fill_defaults is not None:
    hyper = loss.fill_defaults(hyper, loss.metric, loss.normalize, _DIMENSION)

  def value(pair: jax.Array) -> Any:
    row = Row(
      pair, jnp.eye(2)[0], jnp.eye(2)[1], jnp.asarray(1.0), jnp.asarray(0)
    )
    parts = call_with(hyper, loss.terms, row)
    return sum(terms.total for terms in parts.values())

  swept = jnp.linspace(NEAREST, FARTHEST, _POINTS)
  fixed = jnp.full(_POINTS, FIXED)
  slope = jax.jit(jax.vmap(jax.grad(value)))
  return {
    "pull": np.asarray(slope(jnp.stack([swept, fixed], 1))[:, 0]),
    "push": -np.asarray(slope(jnp.stack([fixed, swept], 1))[:, 1]),
  }


def picture(name: str, curves: dict[str, np.ndarray]) -> str:
  """An SVG of the curves, scaled to the largest value; 0 is a gray line."""
  values = np.concatenate([*curves.values(), [0.0]])
  low, high = values.min(), values.max()
  scale = (_HEIGHT - 2 * _EDGE) / (high - low if high > low else 1.0)

  def y(value: float) -> str:
    return f"{_EDGE + (high - value) * scale:.1f}"

  x = np.linspace(_EDGE, _WIDTH - _EDGE, _POINTS).round().astype(int)
  lines = [
    f'<polyline class="{curve}" fill="none" stroke="{_COLORS[curve]}"'
    f' stroke-width="2"{_DASHES[curve]} points="'
    + " ".join(f"{a},{y(b)}" for a, b in zip(x, points, strict=True))
    + '"/>'
    for curve, points in curves.items()
  ]
  return "\n".join(
    [
      f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}"'
      f' height="{_HEIGHT}" viewBox="0 0 {_WIDTH} {_HEIGHT}">',
      f"<title>{name}: pull and push against distance</title>",
      f'<path d="M{_EDGE} {y(0)}H{_WIDTH - _EDGE}" stroke="#888"/>',
      *lines,
      "</svg>\n",
    ]
  )


def pictures() -> dict[str, str]:
  """The picture of each loss that has one, by its name."""
  return {
    name: picture(name, forces(loss))
    for name, loss in LOSSES.items()
    if has_picture(loss)
  }


def differs(one: str, other: str) -> bool:
  """Whether pictures differ by more than one pixel, and so not by rounding."""
  number = r"\d+(?:\.\d+)?"
  numbers = [re.findall(number, text) for text in (one, other)]
  words = [re.sub(number, "", text) for text in (one, other)]
  return words[0] != words[1] or any(
    abs(float(a) - float(b)) > 1 for a, b in zip(*numbers, strict=True)
  )


def write(folder: Path) -> None:
  """Writes the pictures, except those that exist and do not differ."""
  folder.mkdir(parents=True, exist_ok=True)
  new = pictures()
  for path in folder.glob("*.svg"):
    if path.stem not in new:
      path.unlink()
  for name, text in new.items():
    path = folder / f"{name}.svg"
    if not path.exists() or differs(path.read_text(), text):
      path.write_text(text)
