"""The simulated studies by which the test was chosen, at toy size."""

import pytest

from experiments.power import page as pages
from experiments.power import simulation


def test_a_toy_of_the_simulation_fills_its_page(monkeypatch):
  small = {
    "FAMILIES": (3, 23),
    "SEARCHES": (10,),
    "MORE_SEARCHES": (10,),
    "SMALLER_SPREADS": (0.023, 0.005),
    "SHAPES": {
      name: simulation.SHAPES[name] for name in ("normal", "skewed reference")
    },
    "PERMUTATIONS": 199,
    "DRAWS": 99,
  }
  for name, value in small.items():
    monkeypatch.setattr(simulation, name, value)
    if hasattr(pages, name):
      monkeypatch.setattr(pages, name, value)
  found = simulation.simulate_all(4)
  text = pages.page({**found, "commit": "0123456789ab"})
  assert "commit 0123456789ab" in text and "python -m experiments.power" in text
  for test in simulation.TESTS:
    assert f"| {test} |" in text
  assert "nan" not in text.lower().replace("finance", "")
  # By design: ten searches and Holm over 23 leave no p below 23 · 2/2^10.
  assert "| Holm, 23 | 0.045 |" in text
  shares = [line[k] for line in found["tests"] for k in ("false", "any")]
  assert all(0 <= share <= 1 for share in shares)


def test_a_difference_that_is_large_is_found_and_none_is_not():
  """Cells differ by .5 with deviations of .02: every test detects each one."""
  rng = simulation.np.random.default_rng(0)
  truth = simulation.np.array([0.5, -0.5, 0.0])
  scores = simulation.simulate(
    rng, truth, 10, 5, simulation.SHAPES["normal"], scale=1.0
  )
  assert scores.shape == (5, 4, 10)
  for corrected in simulation.TESTS.values():
    found = simulation.judged(corrected(scores, (3,))[3], scores, truth)
    assert found["found"] == 1
  assert simulation.judged(simulation.np.zeros((5, 3)), scores, truth)[
    "false"
  ] == pytest.approx(1)
