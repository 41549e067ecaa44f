"""Miners that select positives and negatives of a row."""

import functools
from typing import Annotated, Any

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from metric_learning.errors import InputError, check_choice
from metric_learning.intervals import (
  NotNegative,
  Number,
  check_rising,
)
from metric_learning.rows import Row, farthest, nearest
from metric_learning.signatures import OneOf

Range = tuple[Number, Number]


def all_pairs(row: Row) -> Row:
  """Every positive and every negative: the row as it is."""
  return row


def one_hot(
  index: Int[Array, ""], exists: Bool[Array, ""], like: Float[Array, " m"]
) -> Float[Array, " m"]:
  """1 at the index if it exists, in the type of `like`."""
  chosen = (jnp.arange(like.shape[0]) == index) & exists
  return chosen.astype(like.dtype)


def batch_hard(row: Row) -> Row:
  """The farthest positive and the nearest negative; ties take the lowest index.

  Source: Hermans, Beyer, Leibe 2017, arXiv 1703.07737.
  """
  return easy_hard(row, positive="hard", negative="hard")


_SIDES = OneOf(("easy", "semihard", "hard", "all"))


def check_sides(
  *,
  positive: Annotated[str, _SIDES] = "easy",
  negative: Annotated[str, _SIDES] = "semihard",
  positive_range: Any = None,
  negative_range: Any = None,
) -> None:
  """Raises an InputError for options of `easy_hard` that cannot be combined."""
  for name, choice in (("positive", positive), ("negative", negative)):
    check_choice(f"{name} of the miner easy_hard", choice, _SIDES)
  if {positive, negative} in ({"semihard"}, {"semihard", "all"}):
    raise InputError(
      f"easy_hard: positive={positive!r} with negative={negative!r} leaves"
      " nothing to compare with: if one side is semihard, the other must be"
      " easy or hard."
    )
  check_rising("easy_hard: positive_range", positive_range)
  check_rising("easy_hard: negative_range", negative_range)


def easy_hard(
  row: Row,
  *,
  positive: Annotated[str, _SIDES] = "easy",
  negative: Annotated[str, _SIDES] = "semihard",
  positive_range: Range | None = None,
  negative_range: Range | None = None,
) -> Row:
  """One positive and one negative per anchor: easy, semihard, hard, or all.

  The easy positive is the nearest one and the hard positive the farthest; for
  negatives it is the other way round. A semihard negative is the nearest one
  that is farther than the chosen positive; a semihard positive is the farthest
  one that is nearer than the chosen negative. A range limits the distances that
  may be chosen, and includes its ends. If either side has no candidate to
  choose, the anchor has no pair at all.

  Raises:
    InputError: for an unknown option, or if a semihard side has no single
      candidate on the other side to compare with.

  Source: Xuan, Stylianou, Pless, WACV 2020 (easy positive), arXiv 1904.04370.
  """
  check_sides(
    positive=positive,
    negative=negative,
    positive_range=positive_range,
    negative_range=negative_range,
  )
  masks = (
    _allowed(row.positives, row.distances, positive_range),
    _allowed(row.negatives, row.distances, negative_range),
  )
  choices = _choose(row.distances, masks, (positive, negative))
  both = functools.reduce(
    jnp.logical_and,
    [
      jnp.any(mask) if choice is None else choice[1]
      for mask, choice in zip(masks, choices, strict=True)
    ],
  )
  positives, negatives = (
    jnp.where(mask & both, weights, 0)
    if choice is None
    else one_hot(choice[0], both, weights)
    for mask, weights, choice in zip(
      masks, (row.positives, row.negatives), choices, strict=True
    )
  )
  return row._replace(positives=positives, negatives=negatives)


def _allowed(
  weights: Float[Array, " m"],
  distances: Float[Array, " m"],
  limits: Range | None,
) -> Bool[Array, " m"]:
  """Which candidates of a side may be chosen."""
  low, high = (-jnp.inf, jnp.inf) if limits is None else limits
  return (weights > 0) & (low <= distances) & (distances <= high)


# The index of one candidate, and whether there is one.
_Chosen = tuple[Int[Array, ""], Bool[Array, ""]]


def _choose(
  distances: Float[Array, " m"],
  masks: tuple[Bool[Array, " m"], Bool[Array, " m"]],
  names: tuple[str, str],
) -> list[_Chosen | None]:
  """The choices of positive and of negative; None means all."""
  rules = (
    {"easy": nearest, "hard": farthest},
    {"easy": farthest, "hard": nearest},
  )
  choices: list[Any] = [None, None]
  for side in (0, 1):
    if names[side] in rules[side]:
      index = rules[side][names[side]](distances, masks[side])
      choices[side] = index, jnp.any(masks[side])
  for side in (0, 1):
    if names[side] == "semihard":
      partner, partner_exists = choices[1 - side]
      limit = distances[partner]
      mask = masks[side] & (distances > limit if side else distances < limit)
      index = (nearest if side else farthest)(distances, mask)
      choices[side] = index, jnp.any(mask) & partner_exists
  return choices


def multi_similarity(row: Row, *, epsilon: NotNegative = 0.1) -> Row:
  """Pairs not yet separated by ε: s_p - ε < max s_n, s_n + ε > min s_p.

  With s = -D, under any metric: keeps p if D_p + ε > min_n D_n, and keeps n if
  D_n - ε < max_p D_p. An anchor without positives or without negatives keeps
  no pair.

  Source: Wang et al., CVPR 2019, arXiv 1904.06627, equations 11 and 12.
  """
  positive, negative = row.positives > 0, row.negatives > 0
  near = jnp.min(jnp.where(negative, row.distances, jnp.inf), initial=jnp.inf)
  far = jnp.max(jnp.where(positive, row.distances, -jnp.inf), initial=-jnp.inf)
  return row._replace(
    positives=jnp.where(row.distances + epsilon > near, row.positives, 0),
    negatives=jnp.where(row.distances - epsilon < far, row.negatives, 0),
  )


def pair_margin(
  row: Row,
  *,
  positive_margin: NotNegative = 0.2,
  negative_margin: NotNegative = 0.8,
) -> Row:
  """Positives with D > positive_margin, negatives with D < negative_margin."""
  far = row.distances > positive_margin
  near = row.distances < negative_margin
  return row._replace(
    positives=jnp.where(far, row.positives, 0),
    negatives=jnp.where(near, row.negatives, 0),
  )
