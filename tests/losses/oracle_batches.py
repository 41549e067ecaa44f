"""Input of oracles: distances, and the candidates of each anchor."""

import dataclasses

import numpy as np
from scipy.spatial.distance import cdist


def softplus(z):
  return np.logaddexp(0.0, z)


def hinge(z):
  return max(0.0, z)


# --- normalization and distances ---------------------------------------------


def normalized(how, x):
  x = np.asarray(x, np.float64)
  if how == "none" or not len(x):
    return x
  length = np.linalg.norm(x, ord={"l1": 1, "l2": 2}[how], axis=1)
  return x / np.where(length == 0, 1, length)[:, None]


def distances(metric, x, y, factor=None):
  """The distance of each row of x to each row of y, by SciPy or definition."""
  x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
  if metric in ("mahalanobis", "squared_mahalanobis"):
    matrix = np.eye(x.shape[1]) if factor is None else factor.T @ factor
    matrix = cdist(x, y, "mahalanobis", VI=matrix)
    return matrix**2 if metric == "squared_mahalanobis" else matrix
  if metric == ("lp", {"p": 3}):
    return cdist(x, y, "minkowski", p=3)
  if metric == "angular":
    # arccos of the cosine loses half the digits of small angles.
    x, y = normalized("l2", x), normalized("l2", y)
    return 2 * np.arctan2(cdist(x, y), cdist(x, -y))
  if metric == "snr":
    noise = np.var(x[:, None] - y[None], axis=2)
    return noise / (np.var(x, axis=1)[:, None] + 1e-8)
  if metric == "dot":
    return -(x @ y.T)
  names = {
    "l1": "cityblock",
    "l2": "euclidean",
    "squared_l2": "sqeuclidean",
    "cosine": "cosine",
    "linf": "chebyshev",
  }
  return cdist(x, y, names[metric])


# --- what a loss is computed from --------------------------------------------


@dataclasses.dataclass
class Batch:
  """Rows: distances, positive and negative weights; and their origin."""

  metric: str
  x: np.ndarray  # [n, d], normalized
  labels: np.ndarray  # [n]
  candidates: np.ndarray  # [m, d], normalized
  candidate_labels: np.ndarray  # [m]
  itself: bool  # the candidates are the anchors
  normalize: str = "none"
  params: dict = dataclasses.field(default_factory=dict)
  affinity: np.ndarray | None = None
  state: dict | None = None
  # The batch and the numbers that give what has no gradient.
  constant: tuple | None = None

  def __post_init__(self):
    self.D = self.distances(self.x, self.candidates)
    n, m = self.D.shape
    self.P, self.N = np.zeros((n, m)), np.zeros((n, m))
    for i in range(n):
      for j in range(m):
        if self.itself and i == j:
          continue
        if self.affinity is not None:
          self.P[i, j] = self.affinity[i, j]
          self.N[i, j] = 1 - self.affinity[i, j]
        elif self.labels[i] == self.candidate_labels[j]:
          self.P[i, j] = 1
        else:
          self.N[i, j] = 1

  def of_candidates(self):
    """The candidates as their own batch."""
    return dataclasses.replace(
      self, x=self.candidates, labels=self.candidate_labels, itself=True
    )

  def mirrored(self):
    """Candidates as anchors, and anchors as their candidates."""
    return dataclasses.replace(
      self,
      x=self.candidates,
      labels=self.candidate_labels,
      candidates=self.x,
      candidate_labels=self.labels,
      affinity=None if self.affinity is None else self.affinity.T,
    )

  def joined(self):
    """Anchors and candidates as one batch."""
    x = np.concatenate([self.x, self.candidates])
    labels = np.concatenate([self.labels, self.candidate_labels])
    return dataclasses.replace(
      self,
      x=x,
      labels=labels,
      candidates=x,
      candidate_labels=labels,
      itself=True,
    )

  def distances(self, x, y):
    factor = self.params.get("metric", {}).get("factor")
    return distances(self.metric, x, y, factor=factor)

  @property
  def learned(self):
    return self.params["loss"]

  def rows(self):
    """Each anchor, its distances, its positives and its negatives."""
    for i in range(len(self.D)):
      yield i, self.D[i], np.flatnonzero(self.P[i]), np.flatnonzero(self.N[i])
