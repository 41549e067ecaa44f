"""Which loss, miner and reducer of pytorch-metric-learning is which of ours.

Tables: they name both sides and the settings under which they are equal. The
benchmark, the parity page and the tests read them; `pml_sides` makes both.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

import metric_learning as ml

KINDS = ("balanced", "unbalanced", "singletons", "duplicates")
DISTINCT = KINDS[:3]
NO_SINGLETONS = ("balanced", "unbalanced", "duplicates")

Made = tuple[str, Mapping[str, Any]]

# Of its own in float32, and so in a comparison in float64.
BETA = float(np.float32(1.2))
ARCFACE_MARGIN = math.radians(28.6)
CENTERS = 3


@dataclasses.dataclass(frozen=True)
class Pair:
  """A loss of ours, that of theirs, and where they are equal.

  loss, ours: the arguments of `make_objective`.
  theirs, arguments: the class and its arguments; `Made` ones are built.
  miner: a miner of theirs, where ours is among the arguments or in the loss.
  variant: what tells two pairs of one loss apart.
  kinds: the batches on which they are equal.
  labels: "classes"; "pairs", each label twice; "views", no labels and two
    halves; "square", k classes of k items side by side.
  n: the largest batch that theirs can do in a benchmark, in n/8 classes.
  only_value, tolerance, note: in what they differ all the same, and why.
  """

  loss: str
  theirs: str
  ours: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  arguments: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  miner: Made | None = None
  variant: str = ""
  kinds: tuple[str, ...] = KINDS
  labels: str = "classes"
  n: int | None = None
  only_value: bool = False
  tolerance: float = 1e-9
  note: str = ""

  @property
  def name(self) -> str:
    """The loss, and the variant."""
    return f"{self.loss}, {self.variant}" if self.variant else self.loss

  def objective(self, **more: Any) -> ml.Objective:
    """Our side."""
    return ml.make_objective(self.loss, **self.ours, **more)


L1 = ("LpDistance", {"p": 1})
SQUARED = ("LpDistance", {"power": 2})
_UNIT = {"normalize": "l2"}
_ACTIVE = {"reduction": "mean_active"}
_OVER_TRIPLETS = {"over": "triplets", **_ACTIVE}
_TRIPLET = {"metric": "l2", "margin": 0.05}
_NAN = "theirs is NaN where a cosine exceeds 1 by rounding"
_BINS = "theirs writes beyond its array at s = 1"
_ALONE = "theirs counts anchors that lack positives, ours skips them"
_CUBE = "theirs holds n³ numbers"

LOSSES: tuple[Pair, ...] = (
  Pair("contrastive_linear", "ContrastiveLoss"),
  Pair(
    "contrastive_linear",
    "ContrastiveLoss",
    {"positive_margin": 0.3, "negative_margin": 1.2},
    {"pos_margin": 0.3, "neg_margin": 1.2},
    variant="margins",
  ),
  Pair(
    "contrastive_linear",
    "ContrastiveLoss",
    {"metric": "l1", "normalize": "l1"},
    {"distance": L1},
    variant="l1",
  ),
  Pair(
    "margin",
    "MarginLoss",
    {"beta": BETA, "learn_beta": False, **_OVER_TRIPLETS},
  ),
  Pair(
    "margin",
    "MarginLoss",
    {"beta": BETA, "nu": 0.1, **_OVER_TRIPLETS},
    {"nu": 0.1, "learn_beta": True},
    variant="learned",
  ),
  Pair(
    "margin",
    "MarginLoss",
    {"beta": BETA, "per_class": True, **_OVER_TRIPLETS},
    {"learn_beta": True, "num_classes": None},
    variant="per class",
    note="with ν > 0 theirs divides Σ ν·β_c over triplets by the active terms;"
    " ours is a mean",
  ),
  Pair(
    "snr_contrastive",
    "SignalToNoiseRatioContrastiveLoss",
    {"metric": ("snr", {"epsilon": 1e-30})},
    n=1024,
    note="theirs holds n²d numbers",
  ),
  Pair("intra_pair_variance", "IntraPairVarianceLoss"),
  Pair("tcm", "ThresholdConsistentMarginLoss"),
  Pair("triplet", "TripletMarginLoss", _TRIPLET),
  Pair(
    "triplet",
    "TripletMarginLoss",
    {"metric": "l1", "normalize": "l1", "margin": 0.05},
    {"distance": L1},
    variant="l1",
  ),
  Pair(
    "triplet",
    "TripletMarginLoss",
    {"margin": 0.2},
    {"distance": SQUARED, "margin": 0.2},
    variant="squared_l2",
  ),
  Pair(
    "triplet_semihard",
    "TripletMarginLoss",
    {"metric": "l2", "margin": 0.2, **_ACTIVE},
    {"margin": 0.2},
    miner=("TripletMarginMiner", {"type_of_triplets": "semihard"}),
    note="their miner keeps D_an = D_ap + α, of value 0: equal under"
    " mean_active",
  ),
  Pair(
    "triplet_batch_hard",
    "TripletMarginLoss",
    {"margin": 0.2, **_UNIT, **_ACTIVE},
    {"margin": 0.2},
    miner=("BatchHardMiner", {}),
  ),
  Pair(
    "triplet_soft",
    "TripletMarginLoss",
    {"margin": 0.05, **_UNIT},
    {"smooth_loss": True},
  ),
  Pair("triplet_swap", "TripletMarginLoss", arguments={"swap": True}),
  Pair("lifted", "LiftedStructureLoss", _UNIT, n=512),
  Pair(
    "lifted_generalized",
    "GeneralizedLiftedStructureLoss",
    _UNIT,
    kinds=NO_SINGLETONS,
    note=_ALONE,
  ),
  Pair("npair", "NPairsLoss", {"regularization": 0.0, **_UNIT}),
  Pair("tuplet_margin", "TupletMarginLoss", kinds=DISTINCT, n=512, note=_NAN),
  Pair("nca", "NCALoss", _UNIT),
  Pair(
    "infonce",
    "NTXentLoss",
    labels="views",
    n=512,
    kinds=("balanced", "duplicates"),
  ),
  Pair(
    "ntxent",
    "NTXentLoss",
    arguments={"temperature": 0.5},
    labels="pairs",
    n=512,
    kinds=("balanced", "duplicates"),
  ),
  Pair("infonce_per_pair", "NTXentLoss", n=512),
  Pair("supcon", "SupConLoss", _ACTIVE),
  Pair("multi_similarity", "MultiSimilarityLoss"),
  Pair(
    "multi_similarity",
    "MultiSimilarityLoss",
    {"miner": "multi_similarity"},
    miner=("MultiSimilarityMiner", {}),
    variant="mined",
  ),
  Pair("circle", "CircleLoss", _ACTIVE),
  Pair(
    "angular",
    "AngularLoss",
    note="theirs leaves x_n as it is: equal on points of norm 1",
  ),
  Pair(
    "ranked_list",
    "RankedListLoss",
    {"negative_temperature": 0.0},
    {"margin": 0.4, "Tn": 0},
    kinds=DISTINCT,
    tolerance=1e-3,
    note="theirs adds n·1e-5 to each divisor, drops negatives at distance 0"
    " and has a gradient through the weights, none at T = 0",
  ),
  Pair(
    "histogram",
    "HistogramLoss",
    kinds=("balanced", "unbalanced"),
    tolerance=1e-4,
    note=f"{_BINS}, finds the bin in float32, and loses pairs of two anchors"
    " that are in no triplet",
  ),
  Pair("fastap", "FastAPLoss"),
  Pair(
    "smooth_ap",
    "SmoothAPLoss",
    {"include_self": True},
    labels="square",
    kinds=("balanced", "duplicates"),
    n=484,
    tolerance=1e-6,
    note="theirs takes classes side by side, of one size, and is right only"
    " with as many classes as items in each; it averages in float32, and holds"
    " n³ numbers",
  ),
  *(
    Pair(
      "pnp",
      "PNPLoss",
      {"variant": variant, "include_self": True},
      {"variant": variant},
      variant=variant,
      n=512,
      note=_CUBE,
    )
    for variant in ("O", "Ds", "Dq", "Iu", "Ib")
  ),
  Pair("norm_softmax", "NormalizedSoftmaxLoss"),
  Pair("proxy_nca", "ProxyNCALoss", {"include_positive": True}),
  Pair(
    "proxy_nca_pp",
    "ProxyNCALoss",
    arguments={"softmax_scale": 9},
  ),
  Pair("proxy_anchor", "ProxyAnchorLoss"),
  Pair(
    "soft_triple",
    "SoftTripleLoss",
    {"num_centers": CENTERS},
    {"centers_per_class": CENTERS},
  ),
  Pair("l_softmax", "LargeMarginSoftmaxLoss"),
  Pair(
    "l_softmax",
    "LargeMarginSoftmaxLoss",
    {"margin": 3},
    {"margin": 3},
    variant="m = 3",
  ),
  Pair("sphereface", "SphereFaceLoss"),
  Pair("cosface", "CosFaceLoss"),
  Pair("arcface", "ArcFaceLoss", {"margin": ARCFACE_MARGIN}),
  Pair(
    "arcface_subcenter",
    "SubCenterArcFaceLoss",
    {"margin": ARCFACE_MARGIN, "num_centers": CENTERS},
    {"sub_centers": CENTERS},
  ),
  Pair(
    "p2sgrad",
    "P2SGradLoss",
    tolerance=1e-6,
    note="theirs norms its weights to 1/(1 + 1e-7) in place, so that their"
    " gradient is not along the sphere: that of the embeddings is compared",
  ),
  Pair(
    "vicreg",
    "VICRegLoss",
    labels="views",
    kinds=("balanced", "duplicates"),
  ),
  Pair(
    "manifold",
    "ManifoldLoss",
    tolerance=1e-4,
    note="theirs inverts in float32; given the same meta-classes, which theirs"
    " draws anew in each call",
  ),
)


@dataclasses.dataclass(frozen=True)
class Choice:
  """A miner of ours and that of theirs; what is compared, and why not more.

  compared: "triplets", "pairs", or for what a tie or a draw decides
    "distances", those of the pairs.
  """

  ours: Any
  theirs: str
  arguments: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  metric: str = "l2"
  compared: str = "triplets"
  note: str = ""

  @property
  def name(self) -> str:
    """Our miner with its options."""
    if isinstance(self.ours, str):
      return self.ours
    name, options = self.ours
    return f"{name}, " + ", ".join(f"{k} {v}" for k, v in options.items())


_SIDES = ("easy", "semihard", "hard", "all")
_DROPPED = (
  "with `all` theirs also returns pairs of anchors that lack the other side"
)


def _easy_hard(
  positive: str, negative: str, note: str = "", **ranges: Any
) -> Choice:
  ours = {"positive": positive, "negative": negative, **ranges}
  theirs = {"pos_strategy": positive, "neg_strategy": negative}
  for side in ("positive", "negative"):
    if f"{side}_range" in ranges:
      theirs[f"allowed_{side[:3]}_range"] = ranges[f"{side}_range"]
  return Choice(("easy_hard", ours), "BatchEasyHardMiner", theirs, note=note)


_RANGES: dict[str, Any] = {
  "positive_range": (0.4, 1.3),
  "negative_range": (0.8, 1.5),
}

MINERS: tuple[Choice, ...] = (
  Choice("batch_hard", "BatchHardMiner"),
  *(
    _easy_hard(p, n, _DROPPED if "all" in (p, n) else "")
    for p in _SIDES
    for n in _SIDES
    if {p, n} not in ({"semihard"}, {"semihard", "all"})
  ),
  _easy_hard("easy", "semihard", **_RANGES),
  _easy_hard("hard", "hard", **_RANGES),
  *(
    Choice(
      ("triplet_margin", {"triplets": kind}),
      "TripletMarginMiner",
      {"type_of_triplets": kind},
    )
    for kind in ("all", "hard", "semihard", "easy")
  ),
  Choice(
    "multi_similarity",
    "MultiSimilarityMiner",
    metric="cosine",
    compared="pairs",
  ),
  Choice(
    ("pair_margin", {"positive_margin": 0.9, "negative_margin": 1.2}),
    "PairMarginMiner",
    {"pos_margin": 0.9, "neg_margin": 1.2},
    compared="pairs",
  ),
  *(
    Choice(
      ("hdc", {"fraction": fraction}),
      "HDCMiner",
      {"filter_percentage": fraction},
      compared="distances",
      note="the cut may fall between (i, j) and (j, i), which are equal",
    )
    for fraction in (0.5, 0.25)
  ),
  Choice(
    "angular",
    "AngularMiner",
    note="theirs takes raw embeddings and adds 1e-6 to differences: compared"
    " on points of norm 1",
  ),
  Choice("packaged", "EmbeddingsAlreadyPackagedAsTriplets"),
)

_WEIGHTS = (0.5, 2.0, 1.0, 3.0, 0.25, 1.5, 1.0, 2.5, 0.75)
_WINDOW = {"low": 0.1, "high": 0.9}


def _reducers() -> tuple[Pair, ...]:
  """Each reducer on pairs, on triplets and on anchors."""
  losses: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("contrastive_linear", "ContrastiveLoss", {}),
    ("triplet", "TripletMarginLoss", _TRIPLET),
    ("nca", "NCALoss", _UNIT),
  )
  reducers: tuple[tuple[Any, str, dict[str, Any]], ...] = (
    ("mean", "MeanReducer", {}),
    ("mean_active", "AvgNonZeroReducer", {}),
    ("sum", "SumReducer", {}),
    (("mean", _WINDOW), "ThresholdReducer", _WINDOW),
    (
      ("mean", {"class_weights": _WEIGHTS}),
      "ClassWeightedReducer",
      {"weights": _WEIGHTS},
    ),
    (
      ("per_anchor_mean", {"count_empty": True}),
      "PerAnchorReducer",
      {},
    ),
  )
  return tuple(
    Pair(
      loss,
      theirs,
      {**ours, "reduction": reduction},
      {"reducer": (reducer, arguments)},
      variant=reducer,
    )
    for reduction, reducer, arguments in reducers
    for loss, theirs, ours in losses
    # Theirs reduces no triplets by anchor. An anchor without a positive is no
    # term of ours, which here would count as one of value 0.
    if reducer != "PerAnchorReducer" or loss == "contrastive_linear"
  )


REDUCERS = _reducers()

# Those that the tests hold: each formula once, each reducer on pairs.
FROZEN = (
  *(pair for pair in LOSSES if pair.variant not in ("Ds", "Dq", "Iu")),
  *(pair for pair in REDUCERS if pair.loss == "contrastive_linear"),
)

# Our regularizer, theirs, and what it is of.
REGULARIZERS: tuple[tuple[str, dict[str, Any], Made, str], ...] = (
  ("lp", {}, ("LpRegularizer", {}), "embeddings"),
  (
    "lp",
    {"p": 3, "power": 2},
    ("LpRegularizer", {"p": 3, "power": 2}),
    "embeddings",
  ),
  ("zero_mean", {}, ("ZeroMeanRegularizer", {}), "embeddings"),
  ("center_invariant", {}, ("CenterInvariantRegularizer", {}), "weights"),
  ("regular_face", {}, ("RegularFaceRegularizer", {}), "weights"),
  (
    "sparse_centers",
    {},
    (
      "SparseCentersRegularizer",
      {"num_classes": 9, "centers_per_class": CENTERS},
    ),
    "centers",
  ),
)

# Our metric and normalization, and their distance.
DISTANCES: tuple[tuple[Any, str, Made], ...] = (
  ("l2", "l2", ("LpDistance", {})),
  ("l2", "none", ("LpDistance", {"normalize_embeddings": False})),
  ("squared_l2", "l2", SQUARED),
  ("l1", "l1", L1),
  (
    ("lp", {"p": 3}),
    "none",
    ("LpDistance", {"p": 3, "normalize_embeddings": False}),
  ),
  (
    "linf",
    "none",
    ("LpDistance", {"p": math.inf, "normalize_embeddings": False}),
  ),
  ("cosine", "none", ("CosineSimilarity", {})),
  ("dot", "none", ("DotProductSimilarity", {"normalize_embeddings": False})),
  (("snr", {"epsilon": 1e-30}), "l2", ("SNRDistance", {})),
)
