"""Clustering scores: how well clusters of embeddings agree with classes."""

import warnings

import numpy as np
from jaxtyping import Array, Float, Int

from metric_learning.evaluation.tiles import (
  as_float32,
  check_embeddings,
  check_labels,
)


def clustering(
  embeddings: Float[np.ndarray | Array, "n d"],
  labels: Int[np.ndarray | Array, " n"],
  *,
  seed: int = 0,
  restarts: int = 10,
) -> dict[str, float]:
  """NMI, AMI and F1 of k-means with as many clusters as there are classes.

  K-means restarts several times, and the result of lowest inertia is scored.
  K-means is Euclidean: these scores compare embeddings under L2, whatever
  metric was trained. See `agreement` for the scores.

  >>> points = np.array([[0.0], [0.1], [5.0], [5.1]])
  >>> clustering(points, np.array([3, 3, 8, 8]))
  {'nmi': 1.0, 'ami': 1.0, 'f1': 1.0}

  Args:
    embeddings: one point per row.
    labels: the class of each point.
    seed: fixes the starts of k-means.
    restarts: the number of starts.

  Raises:
    InputError: if there are no embeddings, if an embedding is not finite, or if
      the labels do not fit the embeddings.
  """
  from sklearn.cluster import KMeans
  from sklearn.exceptions import ConvergenceWarning

  (embeddings,) = as_float32("l2", check_embeddings("embeddings", embeddings))
  labels = check_labels("labels", labels, len(embeddings))
  means = KMeans(len(np.unique(labels)), n_init=restarts, random_state=seed)
  with warnings.catch_warnings():
    # K-means warns if there are fewer distinct points than clusters. Collapsed
    # embeddings are such a case, and their scores already show it.
    warnings.simplefilter("ignore", ConvergenceWarning)
    clusters = means.fit_predict(embeddings)
  return agreement(clusters, labels)


def agreement(
  clusters: Int[np.ndarray | Array, " n"],
  labels: Int[np.ndarray | Array, " n"],
) -> dict[str, float]:
  """How well a partition into clusters agrees with the classes.

  With the mutual information I and the entropies H of clusters and classes,

    nmi  I / M, M = (H(clusters) + H(classes)) / 2  (the arithmetic mean)
    ami  (I - E[I]) / (M - E[I]), E over partitions with the same sizes: 0 is
         chance, even with many classes
    f1   2 P R / (P + R) over unordered pairs of items: P is the share of
         same-class pairs among those in one cluster, R the share of pairs in
         one cluster among those of one class; NaN if there is neither

  >>> agreement(np.array([0, 0, 0, 1]), np.array([0, 0, 1, 1]))["f1"]
  0.4

  In this example P = 1/3 and R = 1/2.

  Source: Manning et al., Introduction to Information Retrieval, section 16.3;
  AMI, Vinh et al., JMLR 2010.
  """
  from sklearn.metrics import (
    adjusted_mutual_info_score,
    normalized_mutual_info_score,
  )
  from sklearn.metrics.cluster import pair_confusion_matrix

  labels = check_labels("labels", labels, len(np.atleast_1d(clusters)))
  clusters = check_labels("clusters", clusters, len(labels))
  # Counted from the contingency table; the pairs are never listed.
  (_, wrong), (missed, right) = pair_confusion_matrix(labels, clusters)
  pairs = 2 * right + wrong + missed
  return {
    "nmi": float(normalized_mutual_info_score(labels, clusters)),
    "ami": float(adjusted_mutual_info_score(labels, clusters)),
    "f1": float(2 * right / pairs) if pairs else float("nan"),
  }
