"""Shape of an embedding space: logged, never used to select a model."""

import numpy as np
from jaxtyping import Array, Float, Int

from metric_learning.evaluation.neighbours import check_embeddings, check_labels

# Rows whose products are formed at a time.
_BLOCK = 512


def geometry(
  embeddings: Float[np.ndarray | Array, "n d"],
  labels: Int[np.ndarray | Array, " n"] | None = None,
) -> dict[str, float]:
  """Effective rank, norms, collapse, uniformity and alignment.

    effective_rank       exp(-Σ p_i log p_i), p = σ / Σσ for the singular
                         values σ of the centred embeddings: 1 for one
                         direction or for a single point, at most d
    embedding_norm_mean, embedding_norm_std  of the rows as given
    collapsed            1 if `collapsed` says so, else 0
    uniformity           log of the mean over pairs of exp(-2 |x - y|²): 0 if
                         all are equal, about -4 for uniform points
    alignment            mean over same-class pairs of |x - y|², in 0 to 4;
                         only if labels are given

  Uniformity and alignment are of the embeddings scaled to unit L2 norm
  (a zero row stays zero). Without a pair they are NaN.

  >>> square = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])
  >>> scores = geometry(square, np.array([0, 0, 1, 1]))
  >>> scores["alignment"], round(scores["effective_rank"], 6)
  (2.0, 2.0)
  >>> round(scores["uniformity"], 4)  # log((4 exp(-4) + 2 exp(-8)) / 6)
  -4.3963

  Raises:
    InputError: if an embedding is not finite, there is none, or the labels
      do not fit.

  Sources: alignment and uniformity, Wang & Isola, ICML 2020, with α = 2 and
  t = 2; effective rank, Roy & Vetterli, EUSIPCO 2007.
  """
  embeddings = check_embeddings("embeddings", embeddings)
  norms = np.linalg.norm(embeddings.astype(np.float64), axis=1)
  unit = embeddings / np.where(norms > 0, norms, 1)[:, None]
  scores = {
    "effective_rank": effective_rank(embeddings),
    "embedding_norm_mean": float(norms.mean()),
    "embedding_norm_std": float(norms.std()),
    "collapsed": float(collapsed(embeddings)),
    "uniformity": _uniformity(unit.astype(np.float32)),
  }
  if labels is not None:
    scores["alignment"] = _alignment(
      unit, check_labels("labels", labels, len(unit))
    )
  return scores


def effective_rank(embeddings: Float[np.ndarray | Array, "n d"]) -> float:
  """exp of the entropy of the centred matrix's singular-value shares.

  >>> effective_rank(np.array([[0.0, 1.0], [0.0, 1.0]]))  # one point
  1.0
  """
  singular = np.linalg.svd(_centred(embeddings), compute_uv=False)
  total = singular.sum()
  if not total > 0:
    return 1.0
  share = singular[singular > 0] / total
  return float(np.exp(-np.sum(share * np.log(share))))


def collapsed(embeddings: Float[np.ndarray | Array, "n d"]) -> bool:
  """Whether the embeddings are one point, or one line, for practical ends.

  True if the root mean square distance from their mean is less than 1/1000 of
  their root mean square norm, or, in two dimensions or more, if their
  effective rank is less than 1.5.

  >>> collapsed(np.array([[5.0, 1.0], [5.001, 1.0], [5.0, 1.001]]))
  True
  >>> collapsed(np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, -1.0]]))
  False
  """
  size = np.linalg.norm(np.asarray(embeddings, np.float64))
  spread = np.linalg.norm(_centred(embeddings))
  one_point = bool(spread <= 1e-3 * size)
  return one_point or (
    embeddings.shape[1] > 1 and effective_rank(embeddings) < 1.5
  )


def _centred(
  embeddings: Float[np.ndarray | Array, "n d"],
) -> Float[np.ndarray, "n d"]:
  # The first row first: of equal rows, the rest is then exactly zero.
  moved = np.asarray(embeddings, np.float64)
  moved = moved - moved[:1]
  return moved - moved.mean(axis=0)


def _uniformity(unit: Float[np.ndarray, "n d"]) -> float:
  n = len(unit)
  if n < 2:
    return float("nan")
  squares = np.sum(unit * unit, axis=1)
  total = 0.0
  for start in range(0, n, _BLOCK):
    rows = slice(start, start + _BLOCK)
    # The product form is good enough here: an error of 1e-7 in a distance
    # changes a term by as much, and no rank depends on it.
    squared = squares[rows, None] + squares - 2 * unit[rows] @ unit.T
    total += np.exp(-2 * squared).sum(dtype=np.float64)
  own = float(n)  # exp(0) for each row with itself
  return float(np.log((total - own) / (n * (n - 1))))


def _alignment(
  unit: Float[np.ndarray, "n d"], labels: Int[np.ndarray, " n"]
) -> float:
  total, pairs = 0.0, 0
  for label in np.unique(labels):
    members = unit[labels == label].astype(np.float64)
    n = len(members)
    # Over the pairs of n points, Σ |x - y|² = n Σ |x - mean|².
    total += n * np.sum((members - members.mean(axis=0)) ** 2)
    pairs += n * (n - 1) // 2
  return float(total / pairs) if pairs else float("nan")
