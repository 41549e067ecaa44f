"""Multiple comparisons: tests, equivalence and simultaneous intervals.

Both tests bound the chance of even one false verdict in a family, however the
comparisons depend on each other. `docs/protocol.md` says why they were chosen,
and `experiments.power` simulates them.
"""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float
from scipy import special

# Up to this many units, all sign patterns are enumerated; beyond that,
# `PATTERNS` are drawn.
EXACT_UP_TO = 20
PATTERNS = 99_999
# The number of patterns in memory at a time.
_CHUNK = 8192


def sign_patterns(
  n: int, draws: int | None = None
) -> Iterator[Float[np.ndarray, "chunk n"]]:
  """Sign patterns of n units in chunks; the first pattern is all +.

  Without `draws`, all 2ⁿ⁻¹ patterns whose first sign is +; the other patterns
  are their negatives, which a two-sided test does not need. With `draws`, the
  pattern of all + and this many random ones, drawn with a fixed seed.

  >>> next(sign_patterns(3)).tolist()
  [[1.0, 1.0, 1.0], [1.0, 1.0, -1.0], [1.0, -1.0, 1.0], [1.0, -1.0, -1.0]]
  """
  if draws is None:
    places = np.arange(n - 1, -1, -1)
    count = 2 ** max(n - 1, 0)
    for start in range(0, count, _CHUNK):
      number = np.arange(start, min(start + _CHUNK, count))
      yield 1.0 - 2.0 * (number[:, None] >> places & 1)
    return
  rng = np.random.default_rng(0)
  for start in range(0, draws + 1, _CHUNK):
    size = min(_CHUNK, draws + 1 - start)
    signs = rng.choice([-1.0, 1.0], (size, n))
    if start == 0:
      signs[0] = 1.0
    yield signs


def step_down_max(
  differences: Float[np.ndarray, "m n"], draws: int | None = None
) -> Float[np.ndarray, " m"]:
  """Corrected p of m comparisons over n shared units, by joint sign flips.

  The statistic of comparison i is rᵢ = |Σₖ dᵢₖ| / √(Σₖ dᵢₖ²), which grows with
  the absolute value of Student's t. A pattern flips unit k in all comparisons
  at once, which preserves their dependence. Comparisons are taken in falling
  order of rᵢ. The p of the i-th is the share of patterns in which the largest r
  among it and the later ones is at least rᵢ, and at least the p of the earlier
  ones. The smallest possible p is 2 / 2ⁿ for any m.

  At 0.05, the chance of rejecting even one true null hypothesis is at most
  0.05, if the differences under the true ones are jointly symmetric about 0.

  >>> differences = np.array([[1.0, 2.0, 3.0], [1.0, -1.0, 0.5]])
  >>> step_down_max(differences)  # + - + gives the second 2.5 / 1.5 > 6 / √14
  array([0.5, 1. ])

  Args:
    differences: NaN if a comparison lacks a unit.
    draws: the number of random patterns. None enumerates all for up to
      `EXACT_UP_TO` units and draws `PATTERNS` beyond that.

  Source: Westfall and Young, Resampling-Based Multiple Testing, 1993, algorithm
  2.8, with sign flips in place of permutations.
  """
  x = np.nan_to_num(np.asarray(differences, float))
  m, n = x.shape
  if draws is None and n > EXACT_UP_TO:
    draws = PATTERNS
  length = np.sqrt((x**2).sum(axis=1, keepdims=True))
  x = np.divide(x, length, out=np.zeros_like(x), where=length > 0)
  own = np.abs(x.sum(axis=1))
  order = np.argsort(-own, kind="stable")
  # Sums that differ only by rounding count as equal.
  bounds = own[order] - 1e-9
  far, count = np.zeros(m), 0
  for signs in sign_patterns(n, draws):
    sums = np.abs(signs @ x[order].T)
    largest = np.maximum.accumulate(sums[:, ::-1], axis=1)[:, ::-1]
    far += (largest >= bounds).sum(axis=0)
    count += len(signs)
  corrected = np.empty(m)
  corrected[order] = np.maximum.accumulate(far / max(count, 1))
  return corrected


def simultaneous_t(
  differences: Float[np.ndarray, "m n"], confidence: float = 0.95
) -> float:
  """The q of simultaneous 95 % intervals mean ± q·s/√n.

  It is the quantile of the largest |t| of m comparisons when the signs of all
  deviations from the means are flipped together. Comparisons that vary together
  thus widen the intervals little. NaN with too few units for a two-sided test
  at that level, which needs 2 / 2ⁿ ≤ 5 %.

  >>> x = np.array([[1.0, 2.0, 3.0, 5.0, 4.0, 9.0]])
  >>> simultaneous_t(x) == simultaneous_t(np.tile(x, (9, 1)))  # one, nine times
  True

  Source: the wild bootstrap with signs of Wu, Annals of Statistics 14, 1986,
  for the maximum of Westfall and Young 1993.
  """
  x = np.asarray(differences, float)
  n = x.shape[1]
  if 2 / 2**n > 1 - confidence + 1e-12:
    return float("nan")
  x = x - x.mean(axis=1, keepdims=True)
  squares = (x**2).sum(axis=1)
  largest = []
  for signs in sign_patterns(n, PATTERNS if n > EXACT_UP_TO else None):
    sums = signs @ x.T
    rest = np.maximum(squares - sums**2 / n, 1e-12 * squares)
    t2 = np.divide(
      sums**2 * (n - 1), n * rest, out=np.zeros_like(sums), where=squares > 0
    )
    largest.append(np.sqrt(t2.max(axis=1, initial=0.0)))
  maxima = np.concatenate(largest)
  return float(np.quantile(maxima, confidence, method="higher"))


def equivalence_p(
  differences: Float[np.ndarray, "*m n"], delta: float
) -> Float[np.ndarray, "*m"]:
  """p of "the mean is not inside ±δ": the larger of two one-sided t-tests.

  The hypotheses are mean ≤ -δ and mean ≥ δ. NaN units are left out, and p is 1
  with fewer than two units. p ≤ 0.05 means that the 90 % t-interval is inside
  ±δ. It is not corrected: pass the p of a family to `holm`.

  >>> x = np.array([-0.1, 0.0, 0.1])  # mean 0, standard error 0.0577
  >>> round(float(equivalence_p(x, 0.1685)), 3)  # t = 2.92 with 2 degrees
  0.05

  Source: Schuirmann, Journal of Pharmacokinetics and Biopharmaceutics 15, 1987.
  """
  x = np.asarray(differences, float)
  known = np.isfinite(x)
  n = known.sum(axis=-1)
  mean = np.where(known, x, 0).sum(axis=-1) / np.maximum(n, 1)
  squares = np.where(known, (x - mean[..., None]) ** 2, 0).sum(axis=-1)
  error = np.sqrt(squares / np.maximum(n - 1, 1) / np.maximum(n, 1))
  room = delta - np.abs(mean)
  # If all units are equal, the mean is inside or outside with certainty.
  t = np.divide(
    room, error, out=np.where(room > 0, np.inf, -np.inf), where=error > 0
  )
  p = 1 - special.stdtr(np.maximum(n - 1, 1), t)
  return np.where(n < 2, 1.0, p)
