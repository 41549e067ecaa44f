"""Oracles of all losses: loops over the equations in NumPy and SciPy, float64.

They are written from the definitions, not from the package, and take raw
embeddings: an oracle that took our distances could not detect a wrong one. An
oracle yields terms `(part, anchor, weight, value)`; `loss` reduces each part
and adds the parts.
"""

import numpy as np
import oracle_classes
import oracle_pairs
import oracle_ranking
import oracle_softmax
from oracle_batches import Batch, normalized

ORACLES = {
  name: getattr(room, name)
  for room in (oracle_pairs, oracle_softmax, oracle_ranking, oracle_classes)
  for name in (
    "contrastive_2005",
    "contrastive",
    "contrastive_linear",
    "contrastive_double_margin",
    "snr_contrastive",
    "contrastive_sq_margin",
    "contrastive_caffe_legacy",
    "contrastive_inverse",
    "margin",
    "intra_pair_variance",
    "tcm",
    "pair_bce",
    "pair_regression",
    "triplet",
    "triplet_semihard",
    "triplet_batch_hard",
    "triplet_soft",
    "triplet_swap",
    "triplet_ratio",
    "triplet_dynamic_soft",
    "quadruplet",
    "angular",
    "lifted_hard",
    "lifted",
    "lifted_generalized",
    "tuplet_margin",
    "npair",
    "nca",
    "soft_nn",
    "nce",
    "infonce",
    "ntxent",
    "infonce_per_pair",
    "infonce_all",
    "supcon",
    "dcl",
    "debiased",
    "hard_negative",
    "multi_similarity",
    "circle",
    "ranked_list",
    "siglip",
    "histogram",
    "fastap",
    "smooth_ap",
    "pnp",
    "cross_entropy",
    "norm_softmax",
    "proxy_nca",
    "proxy_nca_pp",
    "proxy_anchor",
    "soft_triple",
    "center",
    "manifold",
    "l_softmax",
    "sphereface",
    "cosface",
    "arcface",
    "arcface_subcenter",
    "p2sgrad",
    "instance",
    "vicreg",
    "barlow",
  )
  if hasattr(room, name)
}

# Losses whose anchors are the classes.
CLASS_ANCHORS = ("proxy_anchor",)


# --- reductions --------------------------------------------------------------


def reduced(reduction, terms, n):
  """Reduces terms (anchor, weight, value); 0 without terms."""
  if reduction == "none":
    values = np.zeros(n)
    for i in range(n):
      values[i] = reduced("mean", [t for t in terms if t[0] == i], n)
    return values
  if reduction == "per_anchor_mean":
    anchors = sorted({i for i, weight, _ in terms if weight > 0})
    means = [
      reduced("mean", [t for t in terms if t[0] == i], n) for i in anchors
    ]
    return float(np.mean(means)) if means else 0.0
  if reduction == "mean_active":
    terms = [t for t in terms if t[2] > 0]
  total = sum(weight * value for _, weight, value in terms)
  count = sum(weight for _, weight, _ in terms)
  if reduction == "sum":
    return total
  return total / count if count else 0.0


def terms(
  name,
  embeddings,
  labels,
  *,
  metric,
  normalize,
  hyper,
  params=None,
  where=None,
  references=None,
  reference_labels=None,
  affinity=None,
  state=None,
  constant=None,
):
  """The terms (anchor, weight, value) of each part of the loss `name`.

  A loss with its own geometry has the metric None. `constant` is another triple
  (hyper, params, embeddings), from which the loss takes values that have no
  gradient: if it is fixed, a difference quotient is the gradient.
  """
  embeddings, labels = np.asarray(embeddings), np.asarray(labels)
  kept = np.arange(len(labels)) if where is None else np.flatnonzero(where)
  itself = references is None
  if affinity is not None:
    affinity = np.asarray(affinity)[kept]
    affinity = affinity[:, kept] if itself else affinity

  def batch_of(embeddings, params):
    x = normalized(normalize, np.asarray(embeddings)[kept])
    return Batch(
      metric=metric or "l2",
      x=x,
      labels=labels[kept],
      candidates=x if itself else normalized(normalize, references),
      candidate_labels=labels[kept] if itself else np.asarray(reference_labels),
      itself=itself,
      normalize=normalize,
      params=params or {},
      affinity=affinity,
      state=state,
    )

  batch = batch_of(embeddings, params)
  if constant is None:
    batch.constant = batch, hyper
  else:
    batch.constant = batch_of(constant[2], constant[1]), constant[0]
  parts = {}
  for part, anchor, weight, value in ORACLES[name](batch, **hyper):
    # Anchors that were joined to the batch keep their place behind it.
    if anchor < len(kept) and name not in CLASS_ANCHORS:
      anchor = kept[anchor]
    parts.setdefault(part, []).append((anchor, weight, value))
  return parts


def loss(name, embeddings, labels, *, reduction, **options):
  """The value of the loss `name` of raw embeddings; see `terms`."""
  n = len(labels)
  if name in CLASS_ANCHORS:
    n = len(options["params"]["loss"]["weights"])
  parts = terms(name, embeddings, labels, **options).values()
  zero = np.zeros(n) if reduction == "none" else 0.0
  return sum((reduced(reduction, part, n) for part in parts), zero)


def numeric_slope(function, point, direction, step=1e-6):
  """Central difference of a scalar function of arrays along a direction."""
  ends = [
    function(*(x + sign * v for x, v in zip(point, direction, strict=True)))
    for sign in (step, -step)
  ]
  return (ends[0] - ends[1]) / (2 * step)
