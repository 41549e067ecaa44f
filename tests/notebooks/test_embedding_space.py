"""The notebook runs on a finished run, and says what to do without one."""

from pathlib import Path

import jupytext
import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from metric_learning.training import train
from tests.tiny import tiny_config

ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "notebooks" / "embedding_space.ipynb"


@pytest.fixture
def notebook():
  return nbformat.read(NOTEBOOK, as_version=4)


def execute(notebook, folder):
  resources = {"metadata": {"path": str(folder)}}
  client = NotebookClient(notebook, timeout=120, resources=resources)
  client.execute()
  return [
    output
    for cell in notebook.cells
    if cell.cell_type == "code"
    for output in cell.outputs
  ]


def test_it_shows_a_run(notebook, tmp_path, monkeypatch):
  run = tmp_path / "run"
  config = tiny_config(loss__name="triplet", model__embedding_dim=2)
  result = train(config, run, progress=False)
  monkeypatch.setenv("RUN", str(run))
  outputs = execute(notebook, NOTEBOOK.parent)
  data = [output.data for output in outputs if "data" in output]
  assert sum("image/png" in item for item in data) == 5
  text = "\n".join(item.get("text/plain", "") for item in data)
  assert "'loss.name': 'triplet'" in text
  assert str(result["validation_selected"]["own/map_at_r"]) in text
  assert not [output for output in outputs if output.get("name") == "stderr"]


def test_without_a_run_it_says_which_command_makes_one(
  notebook, tmp_path, monkeypatch
):
  monkeypatch.delenv("RUN", raising=False)
  with pytest.raises(CellExecutionError, match="no finished run") as error:
    execute(notebook, tmp_path)
  assert "make compare" in error.value.traceback
  assert "metric_learning/figures" not in error.value.traceback


def test_both_files_say_the_same(notebook):
  script = jupytext.read(NOTEBOOK.with_suffix(".py"))

  def cells(document):
    return [(cell.cell_type, cell.source) for cell in document.cells]

  assert cells(script) == cells(notebook)
  assert notebook.metadata.jupytext.formats == "ipynb,py:percent"


def test_outputs_are_not_kept_and_nothing_is_defined(notebook):
  for cell in notebook.cells:
    if cell.cell_type == "code":
      assert not cell.outputs and cell.execution_count is None
      for line in cell.source.splitlines():
        assert not line.lstrip().startswith(("def ", "class ", "async def "))
        assert "lambda" not in line
