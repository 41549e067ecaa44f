"""Pair laws as drawn, against their definitions."""

import numpy as np
import pytest

from metric_learning import PAIR_LAWS
from metric_learning.figures import pair_laws


def hinge(x):
  return np.maximum(x, 0)


# Margin 1, upper bound 2, other numbers default.
LAWS = {
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
  return {axes.get_title(): axes for axes in pair_laws().axes}


def test_every_law_has_a_panel(panels):
  assert list(panels) == list(PAIR_LAWS)


@pytest.mark.parametrize("name", LAWS)
def test_curves_are_the_laws(panels, name):
  for line, law in zip(panels[name].lines[:2], LAWS[name], strict=True):
    d, cost = (np.asarray(x, float) for x in line.get_data())
    assert d[0] < 1e-5 and d[-1] == 2
    np.testing.assert_allclose(cost, law(d), rtol=1e-4, atol=1e-6)


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
