"""The notebook uses a run on a folder of photographs."""

from pathlib import Path

import jupytext
import nbformat
import numpy as np
from nbclient import NotebookClient
from PIL import Image

from metric_learning import data
from tests.tiny import tiny_config

NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "use_a_run.ipynb"


def test_it_uses_a_run(real_study, tmp_path, monkeypatch):
  test = data.load(tiny_config().data).test
  for label in range(3):
    (tmp_path / f"digit {label}").mkdir()
    for index in np.flatnonzero(test.labels == label)[:4]:
      image = Image.fromarray(test.inputs[index, :, :, 0])
      image.save(tmp_path / f"digit {label}" / f"{index}.png")
  monkeypatch.setenv("RUN", str(real_study.run))
  monkeypatch.setenv("PHOTOS", str(tmp_path))
  notebook = nbformat.read(NOTEBOOK, as_version=4)
  resources = {"metadata": {"path": str(NOTEBOOK.parent)}}
  NotebookClient(notebook, timeout=120, resources=resources).execute()
  outputs = [
    output
    for cell in notebook.cells
    if cell.cell_type == "code"
    for output in cell.outputs
  ]
  assert sum("image/png" in output.get("data", {}) for output in outputs) == 1
  text = "\n".join(output.get("text", "") for output in outputs)
  assert "(12, 4)" in text and "threshold" in text
  assert not [output for output in outputs if output.get("name") == "stderr"]


def test_both_files_say_the_same_and_define_nothing():
  notebook = nbformat.read(NOTEBOOK, as_version=4)
  script = jupytext.read(NOTEBOOK.with_suffix(".py"))
  cells = [(cell.cell_type, cell.source) for cell in notebook.cells]
  assert cells == [(cell.cell_type, cell.source) for cell in script.cells]
  for cell in notebook.cells:
    if cell.cell_type == "code":
      assert not cell.outputs and cell.execution_count is None
      assert "def " not in cell.source and "lambda" not in cell.source
