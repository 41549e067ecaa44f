"""The figure of identification agrees with the scores."""

import numpy as np

from metric_learning.evaluation import OpenSet, open_set
from metric_learning.figures import identification_curves


def test_its_lines_are_the_scores_and_without_a_protocol_it_is_none(make_space):
  protocol = OpenSet(unknown=0.5, gallery=1, draws=3)
  space = make_space(classes=6, images=40, spread=2.0, open_set=protocol)
  opened, closed = identification_curves([space], "test").axes
  scores = open_set(
    space.embeddings, space.labels, protocol=protocol, ks=(1, 2, 3)
  )
  expected = [scores[f"rank_{k}"] for k in (1, 2, 3)]
  assert expected[0] < expected[-1] == 1
  np.testing.assert_allclose(closed.lines[0].get_ydata(), expected)
  far, rates = opened.lines[0].get_data()
  # From ten of 120 unknown probes, to all: there any threshold will do.
  np.testing.assert_allclose(far[[0, -1]], [10 / 120, 1])
  np.testing.assert_allclose(rates[-1], scores["rank_1"])
  at = np.interp(0.1, far, rates)
  assert abs(at - scores["dir_at_far_0.1"]) < 0.05
  assert (np.diff(rates) >= 0).all() and opened.get_xscale() == "log"
  assert identification_curves([make_space()]) is None
