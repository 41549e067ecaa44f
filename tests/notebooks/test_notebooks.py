"""Notebooks: their cells run here, at toy size; their files hold no outputs."""

import ast
from pathlib import Path

import jupytext
import nbformat
import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from metric_learning import InputError, data
from metric_learning.study import read_study
from tests.tiny import tiny_config

FOLDER = Path(__file__).parents[2] / "notebooks"
NAMES = sorted(path.stem for path in FOLDER.glob("*.ipynb"))
# Bytes of a notebook with the outputs that are kept.
MOST_BYTES = 700_000


def cells_of(name):
  return [
    cell.source
    for cell in nbformat.read(FOLDER / f"{name}.ipynb", as_version=4).cells
    if cell.cell_type == "code"
  ]


def execute(name, monkeypatch):
  """The output of the last line of each cell."""
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
  return [value for value in shown if value is not None]  # prints


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


@pytest.fixture
def photos(tmp_path, monkeypatch):
  """A folder of class folders, named by PHOTOS."""
  test = data.load(tiny_config().data).test
  for label in range(8):
    (tmp_path / f"digit {label}").mkdir()
    for index in np.flatnonzero(test.labels == label)[:4]:
      image = Image.fromarray(test.inputs[index, :, :, 0])
      image.save(tmp_path / f"digit {label}" / f"{index}.png")
  monkeypatch.setenv("PHOTOS", str(tmp_path))


def test_it_trains_on_a_folder_of_images(photos, monkeypatch):
  monkeypatch.setenv("STEPS", "2")
  parts, score, strip, confused, *_ = execute(
    "bring_your_own_images", monkeypatch
  )
  assert sum(count for count, _ in parts.values()) == 32
  names = [set(names) for _, names in parts.values()]
  assert not set.intersection(*names) and len(set.union(*names)) == 8
  assert 0 <= score <= 1
  assert isinstance(strip, Figure) and isinstance(confused, Figure)


def test_it_looks_at_a_study(real_study, monkeypatch, capsys):
  monkeypatch.setenv("STUDY", str(real_study.reported))
  figures = execute("embedding_space", monkeypatch)
  assert len(figures) == 7
  assert all(isinstance(figure, Figure) for figure in figures)
  *cells, shared = capsys.readouterr().out.splitlines()
  scores = [
    c.chosen.validation.mean for c in read_study(real_study.reported).cells
  ]
  assert [f"{score:.3f}" for score in scores] == [
    line.split(", ")[-1].split(" ± ")[0] for line in cells
  ]
  assert shared.startswith("contrastive, l1 and contrastive, l2: ")


def test_without_a_study_it_says_which_command_makes_one(tmp_path, monkeypatch):
  monkeypatch.setenv("STUDY", str(tmp_path / "none"))
  with pytest.raises(InputError, match="is not there: run make compare"):
    execute("embedding_space", monkeypatch)


def test_it_uses_a_run(real_study, photos, monkeypatch, capsys):
  monkeypatch.setenv("RUN", str(real_study.run))
  share, strip = execute("use_a_run", monkeypatch)
  assert 0 <= share <= 1 and isinstance(strip, Figure)
  said = capsys.readouterr().out
  assert "(32, 4)" in said and "expected FAR 0.2" in said


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
  assert notebook.metadata.jupytext.formats == "ipynb,py:percent"
  for cell in notebook.cells:
    if cell.cell_type == "code":
      assert "def " not in cell.source and "lambda" not in cell.source


@pytest.mark.parametrize("name", NAMES)
def test_outputs_of_a_real_run_are_kept_small_and_clean(name):
  path = FOLDER / f"{name}.ipynb"
  assert path.stat().st_size < MOST_BYTES
  cells = [
    cell
    for cell in nbformat.read(path, as_version=4).cells
    if cell.cell_type == "code"
  ]
  counts = [cell.execution_count for cell in cells]
  assert counts == list(range(1, len(cells) + 1))  # In order, in one go.
  for cell in cells:
    last = ast.parse(
      "\n".join(x for x in cell.source.splitlines() if not x.startswith("%"))
    ).body[-1]
    shows = isinstance(last, ast.Expr) and "cleanup" not in cell.source
    assert cell.outputs or not shows, cell.source
    for output in cell.outputs:
      assert output.output_type != "error" and output.get("name") != "stderr"
      assert "/root" not in str(output) and "/work" not in str(output)
