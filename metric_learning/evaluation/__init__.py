"""Scores of embeddings: plain functions from arrays to dicts of floats."""

from metric_learning.evaluation.bootstrap import class_bootstrap, rate_bootstrap
from metric_learning.evaluation.choosing import too_few
from metric_learning.evaluation.clustering import agreement, clustering
from metric_learning.evaluation.computing import per_query
from metric_learning.evaluation.entries import Points, Score
from metric_learning.evaluation.evaluating import evaluate, evaluate_pairs
from metric_learning.evaluation.few_shot import few_shot
from metric_learning.evaluation.geometry import (
  collapsed,
  effective_rank,
  geometry,
  intra_inter_ratio,
)
from metric_learning.evaluation.identification import identification
from metric_learning.evaluation.neighbors import neighbors
from metric_learning.evaluation.open_set import (
  OpenSet,
  check_open_set,
  open_set,
)
from metric_learning.evaluation.retrieval import retrieval, retrieval_per_query
from metric_learning.evaluation.score_questions import (
  check_ranks,
  check_score,
  heading,
  is_at_threshold,
  is_by_query,
  is_slow,
  lower_is_better,
  why_absent,
  why_no_choice,
)
from metric_learning.evaluation.scores import SCORES
from metric_learning.evaluation.verification import (
  Roc,
  accuracy_at,
  best_threshold,
  cross_validated_accuracy,
  pair_distances,
  pairs_of,
  refusal,
  roc,
  threshold_at_far,
  verification,
)

__all__ = [
  "SCORES",
  "OpenSet",
  "Points",
  "Roc",
  "Score",
  "accuracy_at",
  "agreement",
  "best_threshold",
  "check_open_set",
  "check_ranks",
  "check_score",
  "class_bootstrap",
  "clustering",
  "collapsed",
  "cross_validated_accuracy",
  "effective_rank",
  "evaluate",
  "evaluate_pairs",
  "few_shot",
  "geometry",
  "heading",
  "identification",
  "intra_inter_ratio",
  "is_at_threshold",
  "is_by_query",
  "is_slow",
  "lower_is_better",
  "neighbors",
  "open_set",
  "pair_distances",
  "pairs_of",
  "per_query",
  "rate_bootstrap",
  "refusal",
  "retrieval",
  "retrieval_per_query",
  "roc",
  "threshold_at_far",
  "too_few",
  "verification",
  "why_absent",
  "why_no_choice",
]
