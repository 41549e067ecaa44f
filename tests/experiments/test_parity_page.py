"""The page on parity with pytorch-metric-learning; its parts without torch."""

import importlib.util

import numpy as np
import pytest

from experiments.benchmarks import pml, pml_sides
from experiments.benchmarks.parity import cells, golden


def test_batches_are_as_many_of_each_kind_as_asked():
  found = list(cells.batches(pml.KINDS, 2))
  assert [kind for kind, _ in found] == [k for k in pml.KINDS for _ in range(2)]
  first, second = (batch for _, batch in found[:2])
  assert first.x.shape == (cells.ITEMS, cells.DIM)
  assert np.any(first.x != second.x)


def test_a_difference_is_relative_and_nan_is_infinite():
  assert cells.apart([1.0, 4.5], [1.0, 4.0]) == pytest.approx(0.125)
  assert cells.apart([np.nan], [1.0]) == np.inf


def test_settings_are_said_in_few_words():
  settings = {"margin": 1 / 3, "distance": ("LpDistance", {"p": 1}), "no": None}
  said = cells.settings_text(settings)
  assert said == "margin 0.333333, distance LpDistance (p 1)"
  assert cells.number_text(0.0) == "0" and cells.number_text(3e-7) == "3e-07"


def test_the_golden_file_has_a_line_for_each_entry():
  tree = {"command": "x", "losses": {"a": {"balanced": 1.5}, "b": {}}}
  assert golden.compact(tree) == (
    '{\n  "command": "x",\n  "losses": {\n    "a": {"balanced": 1.5},\n'
    '    "b": {}\n  }\n}\n'
  )


def test_square_batches_have_as_many_classes_as_items_in_each():
  (pair,) = (pair for pair in pml.LOSSES if pair.labels == "square")
  batch = pml_sides.make_batch("balanced", cells.ITEMS, cells.DIM, 0)
  x, labels = pml_sides.inputs(pair, batch)
  assert len(x) == 16 and list(np.bincount(labels)) == [4] * 4


@pytest.mark.skipif(
  importlib.util.find_spec("pytorch_metric_learning") is not None,
  reason="the extra is installed",
)
def test_without_the_extra_the_page_says_how_to_install_it(run):
  done = run(script="benchmarks.parity")
  assert done.returncode == 2
  assert "pip install -e '.[bench]'" in done.stderr
