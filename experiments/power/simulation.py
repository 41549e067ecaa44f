"""Scores of simulated studies, the tests, and what each got wrong and right."""

import itertools
import math
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from scipy import special

from metric_learning.study.multiple import (
  equivalence_p,
  sign_patterns,
  step_down_max,
)
from metric_learning.study.statistics import LEVEL, holm

# Standard deviations of test MAP@R.
SEARCH, SEED, FINAL_SEEDS = 0.023, 0.010, 2
# Of a difference of two cells over test classes: its 95 % bootstrap intervals
# are ±.007 for cells that differ by .01 to .02.
CLASSES = 0.0035
# The correlation of two cells over the searches of one number; over paired
# seeds its median was .1.
SHARED = 0.1
DELTA, DIFFERENCE = 0.01, 0.02

SEARCHES = (5, 10, 15)
FAMILIES = (10, 23, 50, 100, 150)
MORE_SEARCHES = (10, 15, 20, 25, 30, 40, 50)
SMALLER_SPREADS = (0.023, 0.015, 0.010, 0.005)
# Random patterns beyond ten searches, of the step-down test and of others.
DRAWS, PERMUTATIONS = 1023, 4_999


def _even(count: int, **_: Any) -> np.ndarray:
  return np.full(count, SEARCH)


def _uneven(count: int, **_: Any) -> np.ndarray:
  """.031 for the reference and every third cell, .010 for others (measured)."""
  spread = np.full(count, 0.010)
  spread[::3] = 0.031
  return spread


class Shape(NamedTuple):
  """How searches of a cell scatter: deviations, and which of them are skewed.

  A skewed search falls below its mean far, and above it little: minus an
  exponential, as of a search that sometimes ends undertuned.
  """

  about: str
  spreads: Callable[..., np.ndarray] = _even
  skewed: Callable[[int], np.ndarray] = lambda count: np.zeros(count, bool)


SHAPES = {
  "normal": Shape("all cells normal, of one deviation"),
  "skewed": Shape(
    "all cells skewed", skewed=lambda count: np.ones(count, bool)
  ),
  "skewed reference": Shape(
    "the reference skewed, other cells normal",
    skewed=lambda count: np.arange(count) == 0,
  ),
  "unequal": Shape(
    "normal; deviation .031 of the reference and of a third of the cells, .010"
    " of the others",
    _uneven,
  ),
}

# The true difference of each comparison from the reference.
TRUTHS: dict[str, tuple[str, Callable[[int], np.ndarray]]] = {
  "none": ("no cell differs", np.zeros),
  "half ±.05": (
    "every second cell differs by .05, up and down in turn",
    lambda m: np.where(np.arange(m) % 2, 0.05, 0.0) * _signs(m),
  ),
  "half ±.02": (
    "every second cell differs by .02, up and down in turn",
    lambda m: np.where(np.arange(m) % 2, DIFFERENCE, 0.0) * _signs(m),
  ),
  "half ±δ": (
    "every second cell differs by δ = .01: “no difference” is false there",
    lambda m: np.where(np.arange(m) % 2, DELTA, 0.0) * _signs(m),
  ),
}


def _signs(m: int) -> np.ndarray:
  """+ + − − + + …, so that every second one changes its sign in turn."""
  return np.where(np.arange(m) // 2 % 2, -1.0, 1.0)


def simulate(
  rng: np.random.Generator,
  truth: np.ndarray,
  n: int,
  studies: int,
  shape: Shape,
  *,
  scale: float = 1.0,
  classes: float = 0.0,
) -> np.ndarray:
  """Scores [studies, cells, n], the reference first.

  `scale` multiplies the spread of searches; `classes` is the deviation of a
  difference over test classes.
  """
  count = len(truth) + 1
  spread = scale * shape.spreads(count)
  drawn = rng.standard_normal((studies, count, n))
  skewed = shape.skewed(count)
  if skewed.any():
    size = (studies, int(skewed.sum()), n)
    drawn[:, skewed] = 1 - rng.exponential(size=size)
  shared = rng.standard_normal((studies, 1, n)) * SHARED**0.5
  searches = spread[:, None] * ((1 - SHARED) ** 0.5 * drawn + shared)
  seeds = rng.normal(0, SEED / FINAL_SEEDS**0.5, drawn.shape)
  of_classes = rng.normal(0, classes / 2**0.5, (studies, count, 1))
  means = np.concatenate([[0.0], truth])[:, None]
  return means + searches + seeds + of_classes


# --- Tests: scores [studies, cells, n] and the families → corrected p --------

Corrected = dict[int, np.ndarray]


def _by_holm(p: np.ndarray, families: tuple[int, ...]) -> Corrected:
  return {m: np.array([holm(some[:m]) for some in p]) for m in families}


def _differences(scores: np.ndarray) -> np.ndarray:
  return scores[:, 1:] - scores[:, :1]


def _shares_as_far(values: np.ndarray, draws: np.ndarray) -> np.ndarray:
  """For each line of values, the share of draws with a sum at least as far.

  `draws` are weights, the first of them those of the observed sum.
  """
  flat = values.reshape(-1, values.shape[-1]).astype(np.float32)
  weights = draws.astype(np.float32).T
  shares = np.empty(len(flat))
  for start in range(0, len(flat), 512):
    sums = np.abs(flat[start : start + 512] @ weights)
    far = sums >= sums[:, :1] * (1 - 1e-5)
    shares[start : start + 512] = far.mean(axis=1)
  return shares.reshape(values.shape[:-1])


def sign_flips_holm(scores: np.ndarray, families: tuple[int, ...]) -> Corrected:
  """Paired sign flips of each comparison alone; Holm."""
  n = scores.shape[-1]
  draws = None if n <= 10 else PERMUTATIONS
  patterns = np.concatenate(list(sign_patterns(n, draws)))
  return _by_holm(_shares_as_far(_differences(scores), patterns), families)


def sign_flips_step_down(
  scores: np.ndarray, families: tuple[int, ...]
) -> Corrected:
  """Paired sign flips of all comparisons at once; step-down maximum."""
  draws = None if scores.shape[-1] <= 10 else DRAWS
  differences = _differences(scores)
  return {
    m: np.array([step_down_max(some[:m], draws) for some in differences])
    for m in families
  }


def unpaired_holm(scores: np.ndarray, families: tuple[int, ...]) -> Corrected:
  """Permutations of the scores of two cells, in no pairs; Holm."""
  n = scores.shape[-1]
  rng = np.random.default_rng(0)
  weights = np.repeat([1.0, -1.0], n)
  if math.comb(2 * n, n) <= PERMUTATIONS:
    draws = np.full((math.comb(2 * n, n), 2 * n), -1.0)
    for line, own in zip(
      draws, itertools.combinations(range(2 * n), n), strict=True
    ):
      line[list(own)] = 1.0
  else:
    draws = np.array([rng.permutation(weights) for _ in range(PERMUTATIONS)])
    # The observed one counts once, or the smallest p would be too large.
    others = draws[np.abs(draws @ weights) < 2 * n]
    draws = np.concatenate([weights[None], others])
  reference = np.broadcast_to(scores[:, :1], scores[:, 1:].shape)
  both = np.concatenate([scores[:, 1:], reference], axis=-1)
  return _by_holm(_shares_as_far(both, draws), families)


def _t_p(t: np.ndarray, degrees: float) -> np.ndarray:
  return 2 * special.stdtr(degrees, -np.abs(t))


def mixed_model_holm(
  scores: np.ndarray, families: tuple[int, ...]
) -> Corrected:
  """Cell fixed, search number and cell × number random; Holm.

  With equal numbers of runs its t is that of a two-way analysis of variance of
  the means over final runs: one error for all cells of the family.
  """
  n = scores.shape[-1]
  found: Corrected = {}
  for m in families:
    some = scores[:, : m + 1]
    cells, numbers = some.mean(2, keepdims=True), some.mean(1, keepdims=True)
    rest = some - cells - numbers + some.mean((1, 2), keepdims=True)
    degrees = m * (n - 1)
    error = np.sqrt((rest**2).sum((1, 2)) / degrees * 2 / n)
    t = _differences(cells)[..., 0] / error[:, None]
    found |= _by_holm(_t_p(t, degrees), (m,))
  return found


def paired_t_holm(scores: np.ndarray, families: tuple[int, ...]) -> Corrected:
  """Student's paired t of each comparison alone; Holm."""
  x = _differences(scores)
  n = x.shape[-1]
  t = x.mean(-1) / (x.std(-1, ddof=1) / n**0.5)
  return _by_holm(_t_p(t, n - 1), families)


TESTS = {
  "sign flips, step-down maximum": sign_flips_step_down,
  "sign flips, Holm": sign_flips_holm,
  "unpaired permutation, Holm": unpaired_holm,
  "mixed model, Holm": mixed_model_holm,
  "paired t, Holm": paired_t_holm,
}
CHOSEN = "sign flips, step-down maximum"


# --- What a family got wrong and right --------------------------------------


def judged(
  corrected: np.ndarray, scores: np.ndarray, truth: np.ndarray
) -> dict[str, float]:
  """Shares of families with a false verdict, and of true ones that were found.

  false: a cell that does not differ is called better or worse, or the sign is
  wrong. equal_false: “no difference” where the difference is δ or more. any:
  either. found: of cells that differ. equal_found: of cells that do not.
  """
  m = corrected.shape[1]
  x, truth = _differences(scores)[:, :m], truth[:m]
  rejected = corrected <= LEVEL
  right = rejected & (np.sign(x.mean(-1)) == np.sign(truth))
  false = (rejected & ~right).any(1)
  equal = np.array([holm(p) for p in equivalence_p(x, DELTA)]) <= LEVEL
  apart, same = np.abs(truth) >= DELTA, truth == 0
  equal_false = (equal & apart).any(1)
  share = lambda some: float(some.mean()) if some.size else float("nan")
  return {
    "false": share(false),
    "equal_false": share(equal_false),
    "any": share(false | equal_false),
    "found": share(right[:, truth != 0]),
    "equal_found": share(equal[:, same]),
  }


def compare_tests(studies: int) -> list[dict[str, Any]]:
  """Every test on every shape, truth, number of searches, and family."""
  lines = []
  for shape_name, shape in SHAPES.items():
    for truth_name, (_, make) in TRUTHS.items():
      truth = make(max(FAMILIES))
      for n in SEARCHES:
        # The same draws for every test.
        scores = simulate(np.random.default_rng(0), truth, n, studies, shape)
        for test, corrected in TESTS.items():
          for m, p in corrected(scores, FAMILIES).items():
            lines.append(
              {
                "shape": shape_name,
                "truth": truth_name,
                "searches": n,
                "family": m,
                "test": test,
                **judged(p, scores, truth),
              }
            )
      print(f"{shape_name}, {truth_name}", flush=True)
  return lines


def needed(studies: int) -> list[dict[str, Any]]:
  """What the chosen test finds by the number of searches and their spread."""
  families, lines = (10, 23, 150), []
  for spread in SMALLER_SPREADS:
    for truth_name in ("half ±.02", "half ±δ"):
      truth = TRUTHS[truth_name][1](max(families))
      for n in MORE_SEARCHES:
        rng = np.random.default_rng(1)
        scale = spread / SEARCH
        scores = simulate(rng, truth, n, studies, SHAPES["normal"], scale=scale)
        line: dict[str, Any] = {"spread": spread, "truth": truth_name}
        line["searches"] = n
        for m, p in TESTS[CHOSEN](scores, families).items():
          lines.append(line | {"family": m} | judged(p, scores, truth))
      print(f"needed at {spread}, {truth_name}", flush=True)
  return lines


def other_classes(studies: int) -> list[dict[str, Any]]:
  """False verdicts of what other test classes would say, with and without."""
  lines = []
  truth = TRUTHS["none"][1](23)
  for n in (*SEARCHES, 50):
    for classes in (0.0, CLASSES, 2 * CLASSES):
      rng = np.random.default_rng(2)
      scores = simulate(
        rng, truth, n, studies, SHAPES["normal"], classes=classes
      )
      p = TESTS[CHOSEN](scores, (23,))[23]
      line = {"searches": n, "classes": classes}
      lines.append(line | judged(p, scores, truth))
  return lines


def simulate_all(studies: int) -> dict[str, Any]:
  """All that the page shows, of so many simulated studies for each line."""
  started = time.perf_counter()
  found: dict[str, Any] = {
    "studies": studies,
    "tests": compare_tests(studies),
    "needed": needed(max(1, studies // 4)),
    "classes": other_classes(studies),
  }
  return found | {"minutes": (time.perf_counter() - started) / 60}
