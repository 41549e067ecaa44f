"""Pair potentials as drawn, against their definitions."""

import numpy as np
import pytest

from metric_learning import PAIR_POTENTIALS
from metric_learning.figures import pair_potentials


def hinge(x):
  return np.maximum(x, 0)


# Margin 1, upper bound 2, other numbers default.
POTENTIALS = {
  "contrastive_2005": (lambda d: d**2, lambda d: 4 * np.exp(-2.77 * d / 2)),
  "contrastive": (lambda d: d**2 / 2, lambda d: hinge(1 - d) ** 2 / 2),
  "contrastive_linear": (lambda d: d, lambda d: hinge(1 - d)),
  "contrastive_double_margin": (lambda d: d**2, lambda d: hinge(1 - d) ** 2),
  "contrastive_caffe_legacy": (
    lambda d: d**2 / 2,
    lambda d: hinge(1 - d**2) / 2,
  ),
  "snr_contrastive": (lambda d: d, lambda d: hinge(1 - d)),
  "contrastive_sq_margin": (lambda d: d**2, lambda d: hinge(1 - d**2)),
  "contrastive_inverse": (
    lambda d: d**2 / 2,
    lambda d: 1 / np.maximum(d, 1e-3),
  ),
  "pair_bce": (lambda d: np.log1p(np.exp(d)), lambda d: np.log1p(np.exp(-d))),
}


@pytest.fixture(scope="module")
def panels():
  return {axes.get_title(): axes for axes in pair_potentials().axes}


def test_every_potential_has_a_panel(panels):
  assert list(panels) == list(PAIR_POTENTIALS)


@pytest.mark.parametrize("name", POTENTIALS)
def test_curves_are_the_potentials(panels, name):
  for line, potential in zip(
    panels[name].lines[:2], POTENTIALS[name], strict=True
  ):
    d, cost = (np.asarray(x, float) for x in line.get_data())
    assert d[0] < 1e-5 and d[-1] == 2
    np.testing.assert_allclose(cost, potential(d), rtol=1e-4, atol=1e-6)


def test_margins_are_marked_where_there_are_any(panels):
  marked = [name for name, axes in panels.items() if len(axes.lines) == 3]
  assert marked == [
    "contrastive",
    "contrastive_linear",
    "contrastive_double_margin",
    "contrastive_sq_margin",
    "contrastive_caffe_legacy",
    "snr_contrastive",
  ]
  for name in marked:
    assert panels[name].lines[2].get_xdata() == [1, 1]


def test_panels_share_their_axes(panels):
  limits = {(*axes.get_xlim(), *axes.get_ylim()) for axes in panels.values()}
  assert limits == {(0, 2, 0, 3)}
