"""Miners: functions from Row to Row that select or reweight pairs.

A miner never indexes the batch. If it chooses triplets that are not all
combinations of positives and negatives, it stores them in `row.triplets`, for
the losses that loop over triplets. For pair losses, the weights in the row then
count how often each candidate was chosen. The choice of a miner has no
gradient. Thresholds and margins are in units of the distance.
"""

from metric_learning.miners.base import Miner
from metric_learning.miners.pairs import (
  all_pairs,
  batch_hard,
  check_sides,
  easy_hard,
  multi_similarity,
  pair_margin,
)
from metric_learning.miners.triplets import (
  angular,
  between,
  check_type,
  distance_weighted,
  keys,
  packaged,
  positions,
  triplet_margin,
)
from metric_learning.miners.whole_batch import (
  draw_from_bins,
  hardest_pairs,
  hdc,
  uniform_histogram,
)

__all__ = ["MINERS", "Miner"]

MINERS: dict[str, Miner] = {
  "all": Miner(all_pairs),
  "batch_hard": Miner(batch_hard),
  "easy_hard": Miner(
    easy_hard,
    scaled={"positive_range": 1, "negative_range": 1},
    check=check_sides,
  ),
  "triplet_margin": Miner(
    triplet_margin, scaled={"margin": 1}, check=check_type
  ),
  "multi_similarity": Miner(multi_similarity, scaled={"epsilon": 1}),
  "pair_margin": Miner(
    pair_margin, scaled={"positive_margin": 1, "negative_margin": 1}
  ),
  "distance_weighted": Miner(
    distance_weighted, context=keys, metrics=("l2",), normalize="l2"
  ),
  "hdc": Miner(hdc, context=hardest_pairs),
  "uniform_histogram": Miner(uniform_histogram, context=draw_from_bins),
  "angular": Miner(angular, context=between, metrics=("l2",)),
  "packaged": Miner(packaged, context=positions),
}
