"""Contrastive losses: two scalar functions of a distance, attract and repel.

These two functions are a pair potential: they depend on distances alone. A row
loss applies them to the candidates of an anchor, `pair_loss` applies them to
explicit pairs, and a figure plots them. Margins are in units of the distance.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from metric_learning.distances import METRICS
from metric_learning.errors import InputError
from metric_learning.intervals import NotNegative, Positive
from metric_learning.losses.base import DISTANCES, Loss
from metric_learning.losses.search import MARGIN, Range
from metric_learning.rows import Row, Terms, add_terms, make_terms

Distances = Float[Array, "*m"]


def contrastive_potential(
  d: Distances, *, margin: NotNegative = 1.0, half: bool = True
) -> tuple[Distances, Distances]:
  """Contrastive loss of 2006: attract ½D², repel ½[m - D]+².

  `half=False` omits the factor ½, which doubles the effective learning rate and
  leaves the minima where they are.

  >>> [float(x) for x in contrastive_potential(jnp.array(0.5), margin=2.0)]
  [0.125, 1.125]

  Source: Hadsell, Chopra, LeCun, CVPR 2006, equation 4. There, Y = 0 means
  similar; here, `same` is True for similar pairs.
  """
  factor = 0.5 if half else 1.0
  return factor * d**2, factor * jax.nn.relu(margin - d) ** 2


def contrastive_2005_potential(
  d: Distances, *, upper_bound: Positive | None = None
) -> tuple[Distances, Distances]:
  """Contrastive loss of 2005: attract (2/Q)·E², repel 2Q·exp(-2.77·E/Q).

  Q (`upper_bound`) is the largest possible distance E, in units of the
  distance. An objective derives it from metric and normalization: 2 for L1
  under L1 normalization, 2√d for L1 and 2 for L2 on the unit sphere. If these
  do not bound the distance, you must give it.

  >>> [round(float(x), 4) for x in contrastive_2005_potential(jnp.array(1.0),
  ...                                                 upper_bound=2.0)]
  [1.0, 1.0013]

  Source: Chopra, Hadsell, LeCun, CVPR 2005, where E is an L1 norm.
  """
  if upper_bound is None:
    raise InputError("contrastive_2005 needs upper_bound, the largest distance")
  q = upper_bound
  return (2 / q) * d**2, 2 * q * jnp.exp(-2.77 * d / q)


def contrastive_linear_potential(
  d: Distances,
  *,
  positive_margin: NotNegative = 0.0,
  negative_margin: NotNegative = 1.0,
) -> tuple[Distances, Distances]:
  """Linear hinges: attract [D - m_pos]+, repel [m_neg - D]+.

  >>> [float(x) for x in contrastive_linear_potential(jnp.array(0.75),
  ...                                            positive_margin=0.5)]
  [0.25, 0.25]

  Source: Musgrave, Belongie, Lim 2020 (arXiv 2003.08505).
  """
  return jax.nn.relu(d - positive_margin), jax.nn.relu(negative_margin - d)


def contrastive_double_margin_potential(
  d: Distances,
  *,
  positive_margin: NotNegative = 0.0,
  negative_margin: NotNegative = 1.0,
) -> tuple[Distances, Distances]:
  """Two margins, squared hinges: attract [D - m1]+², repel [m2 - D]+².

  >>> [float(x) for x in contrastive_double_margin_potential(jnp.array(0.75),
  ...                                                  positive_margin=0.5)]
  [0.0625, 0.0625]

  Source: Lin et al. 2015 (arXiv 1501.04711).
  """
  attract, repel = contrastive_linear_potential(
    d, positive_margin=positive_margin, negative_margin=negative_margin
  )
  return attract**2, repel**2


def snr_contrastive_potential(
  d: Distances,
  *,
  positive_margin: NotNegative = 0.0,
  negative_margin: NotNegative = 1.0,
) -> tuple[Distances, Distances]:
  """SNR contrastive loss: attract [D - m_pos]+, repel [m_neg - D]+.

  D = Var(x_a - x_b) / Var(x_a) depends on which of the two is the anchor.

  >>> [float(x) for x in snr_contrastive_potential(jnp.array(0.75),
  ...                                        positive_margin=0.5)]
  [0.25, 0.25]

  Source: Yuan et al., CVPR 2019 (arXiv 1904.02616), equation 9, without its
  zero-mean regularizer, like the default of pytorch-metric-learning.
  """
  return contrastive_linear_potential(
    d, positive_margin=positive_margin, negative_margin=negative_margin
  )


def contrastive_sq_margin_potential(
  d: Distances, *, margin: NotNegative = 1.0, half: bool = False
) -> tuple[Distances, Distances]:
  """Squared margin: attract D², repel [m² - D²]+.

  The slope of the repulsion is 2D, so it vanishes at D = 0, where it is needed
  most.

  >>> [float(x) for x in contrastive_sq_margin_potential(jnp.array(0.5))]
  [0.25, 0.75]

  Source: the "m squared" variant of similarity-learning texts.
  """
  factor = 0.5 if half else 1.0
  return factor * d**2, factor * jax.nn.relu(margin**2 - d**2)


def contrastive_caffe_legacy_potential(
  d: Distances, *, margin: NotNegative = 1.0, half: bool = True
) -> tuple[Distances, Distances]:
  """Legacy mode of Caffe: attract ½D², repel ½[m - D²]+, m not squared.

  m is in units of D². The slope of the repulsion vanishes at D = 0.

  >>> [float(x) for x in contrastive_caffe_legacy_potential(jnp.array(0.5))]
  [0.125, 0.375]

  Source: the contrastive loss layer of Caffe before April 2015, which later
  versions call `legacy_version`.
  """
  factor = 0.5 if half else 1.0
  return factor * d**2, factor * jax.nn.relu(margin - d**2)


def contrastive_inverse_potential(
  d: Distances, *, floor: Positive = 1e-3, half: bool = True
) -> tuple[Distances, Distances]:
  """Inverse repulsion: attract ½D², repel 1 / max(D, δ).

  The repulsion is positive at every distance. δ (`floor`) is in units of the
  distance and keeps the loss of coincident points finite. `half` applies to the
  attraction alone, as in the definition.

  >>> [float(x) for x in contrastive_inverse_potential(jnp.array(0.5))]
  [0.125, 2.0]

  Source: we know of no paper. Texts on the contrastive loss mention 1/D as the
  alternative that its margin avoids.
  """
  return (0.5 if half else 1.0) * d**2, 1 / jnp.maximum(d, floor)


def _joined(potential: Callable[..., Any]) -> Callable[..., dict[str, Terms]]:
  """The row loss of a potential, with same and different pairs in one part."""

  def terms(row: Row, **hyper: Any) -> dict[str, Terms]:
    attract, repel = potential(row.distances, **hyper)
    same = make_terms(attract, row.positives)
    return {"pair": add_terms(same, make_terms(repel, row.negatives))}

  return _named(terms, potential)


def _split(potential: Callable[..., Any]) -> Callable[..., dict[str, Terms]]:
  """The row loss of a potential, with separate parts for same and different.

  Each part is reduced by itself.
  """

  def terms(row: Row, **hyper: Any) -> dict[str, Terms]:
    attract, repel = potential(row.distances, **hyper)
    return {
      "positive": make_terms(attract, row.positives),
      "negative": make_terms(repel, row.negatives),
    }

  return _named(terms, potential)


def _named(terms: Any, potential: Callable[..., Any]) -> Any:
  """Gives a row loss the name and the hyperparameters of its potential."""
  terms.__name__ = potential.__name__.removesuffix("potential") + "loss"
  terms.__doc__ = potential.__doc__
  terms.__wrapped__ = potential
  return terms


def _bound(
  hyper: dict[str, Any], metric: str, normalize: str, dim: int
) -> dict[str, Any]:
  """Fills in Q, the bound of the distance under metric and normalization."""
  if hyper["upper_bound"] is not None:
    return hyper
  bound = METRICS[metric].bound(normalize, dim)
  if bound is None:
    raise InputError(
      f"contrastive_2005 needs upper_bound, the largest distance: {metric!r}"
      f" with normalize={normalize!r} has no known bound."
    )
  return {**hyper, "upper_bound": bound}


CONTRASTIVE_LOSSES: dict[str, Loss] = {
  "contrastive_2005": Loss(
    _joined(contrastive_2005_potential),
    metric="l1",
    normalize="none",
    reduction="mean",
    metrics=DISTANCES,
    scaled={"upper_bound": 1},
    fill_defaults=_bound,
    needs_positives=False,
    search={"upper_bound": Range(0.25, 4.0, log=True)},
    source="Chopra, Hadsell, LeCun, CVPR 2005",
  ),
  "contrastive": Loss(
    _joined(contrastive_potential),
    metric="l2",
    normalize="none",
    reduction="mean",
    metrics=DISTANCES,
    static=("half",),
    scaled={"margin": 1},
    needs_positives=False,
    search={"margin": MARGIN},
    source="Hadsell, Chopra, LeCun, CVPR 2006, equation 4",
  ),
  "contrastive_linear": Loss(
    _split(contrastive_linear_potential),
    metric="l2",
    normalize="l2",
    reduction="mean_active",
    metrics=DISTANCES,
    scaled={"positive_margin": 1, "negative_margin": 1},
    needs_positives=False,
    search={"negative_margin": MARGIN, "positive_margin": MARGIN},
    source="Musgrave, Belongie, Lim 2020, arXiv 2003.08505",
  ),
  "contrastive_double_margin": Loss(
    _joined(contrastive_double_margin_potential),
    metric="l2",
    normalize="none",
    reduction="mean",
    metrics=DISTANCES,
    scaled={"positive_margin": 1, "negative_margin": 1},
    needs_positives=False,
    search={"negative_margin": MARGIN, "positive_margin": MARGIN},
    source="Lin et al. 2015, arXiv 1501.04711",
  ),
  "snr_contrastive": Loss(
    _split(snr_contrastive_potential),
    metric="snr",
    normalize="l2",
    reduction="mean_active",
    metrics=("snr",),
    scaled={"positive_margin": 1, "negative_margin": 1},
    needs_positives=False,
    search={"negative_margin": MARGIN, "positive_margin": MARGIN},
    source="Yuan et al., CVPR 2019, arXiv 1904.02616",
  ),
  "contrastive_sq_margin": Loss(
    _joined(contrastive_sq_margin_potential),
    metric="l2",
    normalize="none",
    reduction="mean",
    metrics=DISTANCES,
    static=("half",),
    scaled={"margin": 1},
    needs_positives=False,
    search={"margin": MARGIN},
    source="the m² - D² variant of similarity-learning texts",
  ),
  "contrastive_caffe_legacy": Loss(
    _joined(contrastive_caffe_legacy_potential),
    metric="l2",
    normalize="none",
    reduction="mean",
    metrics=DISTANCES,
    static=("half",),
    scaled={"margin": 2},
    needs_positives=False,
    search={"margin": Range(0.0, 4.0)},
    source="Caffe before April 2015, its legacy mode",
  ),
  "contrastive_inverse": Loss(
    _joined(contrastive_inverse_potential),
    metric="l2",
    normalize="none",
    reduction="mean",
    metrics=DISTANCES,
    static=("half",),
    scaled={"floor": 1},
    absolute="½D² equals 1/D at a distance that no hyperparameter scales",
    needs_positives=False,
    search={"floor": Range(1e-4, 1.0, log=True)},
    source="no paper that we know: 1/D in place of a margin",
  ),
}
