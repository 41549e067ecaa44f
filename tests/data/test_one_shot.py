import os
import pathlib

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from metric_learning.data import omniglot_runs
from metric_learning.errors import InputError
from tests.data import stand_ins


def drawing(number):
  """A row with as many inked pixels as the number, less one."""
  import io

  from PIL import Image

  paper = np.arange(21)[None] > np.array([[number], [0]])
  buffer = io.BytesIO()
  Image.fromarray(paper).save(buffer, "PNG")
  return buffer.getvalue()


def write_runs(path, wrong=0):
  """Item i shows class (i + run) mod 20, except the last `wrong` in run 1."""
  files = {}
  for run in range(1, 21):
    lines = []
    for i in range(1, 21):
      name = (i + run) % 20 + 1
      shown = name % 20 + 1 if run == 1 and i > 20 - wrong else name
      files[f"run{run:02d}/training/class{i:02d}.png"] = drawing(i)
      files[f"run{run:02d}/test/item{i:02d}.png"] = drawing(shown)
      lines.append(
        f"run{run:02d}/test/item{i:02d}.png"
        f" run{run:02d}/training/class{name:02d}.png"
      )
    files[f"run{run:02d}/class_labels.txt"] = "\n".join(lines).encode()
  stand_ins.write(path, files)
  return path, files


def pixels(test, training):
  flat = [x.reshape(len(x), -1).astype(float) for x in (test, training)]
  return cdist(*flat)


@pytest.mark.slow
def test_runs_are_scored(tmp_path):
  path, _ = write_runs(tmp_path / "all_runs.zip", wrong=3)
  runs = omniglot_runs.read(path)
  assert runs.training.shape == runs.test.shape == (20, 20, 2, 21, 1)
  assert runs.answers[4, 0] == (1 + 5) % 20
  assert (runs.training[0].sum(axis=(1, 2, 3)) / 255).tolist() == [
    i + 2 for i in range(1, 21)
  ]
  scores = omniglot_runs.error(runs, pixels)
  assert scores["error"] == pytest.approx(3 / 400)
  assert scores["std"] == pytest.approx(np.std([3 / 20] + [0] * 19, ddof=1))
  assert scores["trials"] == 400
  constant = omniglot_runs.error(runs, lambda x, y: np.zeros((len(x), len(y))))
  assert constant["error"] == pytest.approx(0.95)  # chance


@pytest.mark.slow
def test_unpacked_folder_and_size(tmp_path):
  path, files = write_runs(tmp_path / "all_runs.zip")
  for name, content in files.items():
    (tmp_path / "runs" / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / "runs" / name).write_bytes(content)
  one, two = (
    omniglot_runs.read(path, (4, 7)),
    omniglot_runs.read(tmp_path / "runs", (4, 7)),
  )
  assert one.test.shape == (20, 20, 4, 7, 1)
  for a, b in zip(one, two, strict=True):
    np.testing.assert_array_equal(a, b)


def test_runs_that_cannot_be_used(tmp_path):
  with pytest.raises(InputError, match=r"nowhere\.zip is missing; .*github"):
    omniglot_runs.read(tmp_path / "nowhere.zip")
  path, files = write_runs(tmp_path / "all_runs.zip")
  path.write_bytes(path.read_bytes()[:-100])
  with pytest.raises(InputError, match=r"all_runs\.zip.*fetch it again"):
    omniglot_runs.read(path)
  bad = dict(files)
  bad["run03/class_labels.txt"] = files["run02/class_labels.txt"]
  stand_ins.write(path, bad)
  with pytest.raises(
    InputError, match=r"run03/class_labels\.txt does not give"
  ):
    omniglot_runs.read(path)
  for name in ("run07/class_labels.txt", "run07/test/item05.png"):
    stand_ins.write(path, {n: c for n, c in files.items() if n != name})
    with pytest.raises(InputError, match=name):
      omniglot_runs.read(path)


def test_modified_hausdorff_by_its_definition():
  rng = np.random.default_rng(0)
  images = np.uint8(255) * (rng.random((5, 7, 9, 1)) < 0.3)
  found = omniglot_runs.modified_hausdorff(images[:2], images[2:])
  for i, a in enumerate(images[:2]):
    for j, b in enumerate(images[2:]):
      sets = []
      for image in (a, b):
        places = np.array([p for p in np.ndindex(7, 9) if image[p]], float)
        sets.append(places - places.mean(axis=0))
      apart = cdist(*sets)
      wanted = max(apart.min(axis=1).mean(), apart.min(axis=0).mean())
      assert found[i, j] == pytest.approx(wanted)


def test_published_error_of_modified_hausdorff():
  """The error of 38.8 % (Lake et al.) confirms the images and the answers."""
  folder = os.environ.get("METRIC_LEARNING_DATA", "")
  path = pathlib.Path(folder, "omniglot", "all_runs.zip")
  if not folder or not path.exists():
    pytest.skip("METRIC_LEARNING_DATA names no folder with all_runs.zip")
  scores = omniglot_runs.error(
    omniglot_runs.read(path), omniglot_runs.modified_hausdorff
  )
  assert scores["error"] == pytest.approx(0.388, abs=0.0006)
