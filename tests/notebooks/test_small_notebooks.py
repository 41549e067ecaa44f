"""Notebooks that need no run: their cells in this process, at toy size."""

import ast
from pathlib import Path

import jupytext
import nbformat
import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from metric_learning import data
from tests.tiny import tiny_config

FOLDER = Path(__file__).parents[2] / "notebooks"
NAMES = ("losses", "bring_your_own_images", "margins")


def cells_of(name):
  return [
    cell.source
    for cell in nbformat.read(FOLDER / f"{name}.ipynb", as_version=4).cells
    if cell.cell_type == "code"
  ]


def execute(name, monkeypatch):
  """What the last line of each cell shows."""
  monkeypatch.chdir(FOLDER)
  names, shown = {}, []
  for source in cells_of(name):
    lines = [x for x in source.splitlines() if not x.startswith("%")]
    tree = ast.parse("\n".join(lines))
    last = tree.body[-1]
    if isinstance(last, ast.Expr):
      rest = ast.Module(tree.body[:-1], [])
      exec(compile(rest, name, "exec"), names)
      shown.append(
        eval(compile(ast.Expression(last.value), name, "eval"), names)
      )
    else:
      exec(compile(tree, name, "exec"), names)
  return shown


def test_the_forces_are_the_slopes_of_the_laws(monkeypatch):
  laws, forces, table, *_ = execute("losses", monkeypatch)
  assert isinstance(laws, Figure) and isinstance(forces, Figure)
  d = np.array([0.01, 0.1, 0.5, 0.99, 1.5])
  inside = d < 1
  expected = {
    "contrastive": np.where(inside, 2 * (1 - d), 0),
    "contrastive_sq_margin": np.where(inside, 2 * d, 0),
    "contrastive_inverse": 1 / d**2,
    "contrastive_2005": 2 * 2.77 * np.exp(-2.77 * d / 2),
  }
  for name, law in expected.items():
    # Some have half of the usual factor.
    ratio = np.array(table[name])[law > 0.01] / law[law > 0.01]
    np.testing.assert_allclose(ratio, ratio[-1], rtol=0.05)


def test_it_trains_on_a_folder_of_images(tmp_path, monkeypatch):
  test = data.load(tiny_config().data).test
  for label in range(8):
    (tmp_path / f"digit {label}").mkdir()
    for index in np.flatnonzero(test.labels == label)[:4]:
      image = Image.fromarray(test.inputs[index, :, :, 0])
      image.save(tmp_path / f"digit {label}" / f"{index}.png")
  monkeypatch.setenv("PHOTOS", str(tmp_path))
  monkeypatch.setenv("STEPS", "2")
  parts, score, strip, confused, *_ = execute(
    "bring_your_own_images", monkeypatch
  )
  assert sum(count for count, _ in parts.values()) == 32
  names = [set(names) for _, names in parts.values()]
  assert not set.intersection(*names) and len(set.union(*names)) == 8
  assert 0 <= score <= 1
  assert isinstance(strip, Figure) and isinstance(confused, Figure)


def test_margins_and_seeds_are_one_program(monkeypatch):
  monkeypatch.setenv("STEPS", "2")
  names, scores, curves, tested, *_ = execute("margins", monkeypatch)
  assert len(names) == 6 and scores.keys() == {0.5, 1.0, 2.0}
  assert isinstance(curves, Figure) and 0 < tested < 1


@pytest.mark.parametrize("name", NAMES)
def test_both_files_say_the_same_and_define_nothing(name):
  notebook = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
  script = jupytext.read(FOLDER / f"{name}.py")
  cells = [(cell.cell_type, cell.source) for cell in notebook.cells]
  assert cells == [(cell.cell_type, cell.source) for cell in script.cells]
  for cell in notebook.cells:
    if cell.cell_type == "code":
      assert not cell.outputs and cell.execution_count is None
      assert "def " not in cell.source and "lambda" not in cell.source
