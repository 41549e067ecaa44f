"""Pictures for TensorBoard of a real tiny run, read back."""

import io
import shutil

import numpy as np
from PIL import Image

from metric_learning import data, figures
from metric_learning.report import tensorboard, write_pictures
from metric_learning.training import run_files
from tests.tiny import tiny_config
from tests.training.test_writers import events


def test_it_has_figures_and_each_embedding_with_its_image(
  real_study, tmp_path, monkeypatch
):
  only = {name: figures.FIGURES[name] for name in ("roc", "spread")}
  monkeypatch.setattr(tensorboard, "FIGURES", only)
  folder = shutil.copytree(real_study.run, tmp_path / "run")
  write_pictures(folder)
  place = write_pictures(folder)  # In place of the first.
  step = run_files.read_json(folder / run_files.RESULT)["selected_step"]
  ((tag, at, value),) = events(place)
  assert (tag, at) == ("validation/roc", step)
  picture = Image.open(io.BytesIO(value.image.encoded_image_string))
  assert picture.size == (value.image.width, value.image.height)
  assert picture.width == 7 * 120

  config = (place / "projector_config.pbtxt").read_text()
  assert config.count("embeddings {") == 1
  (where,) = place.glob("*/validation")
  for name in ("tensors.tsv", "metadata.tsv", "sprite.png"):
    assert f"{where.relative_to(place)}/{name}" in config
  arrays = run_files.read_arrays(folder / run_files.EMBEDDINGS)
  points = np.loadtxt(where / "tensors.tsv")
  np.testing.assert_allclose(points, arrays["validation_embeddings"], rtol=1e-6)
  names = arrays["validation_class_names"][arrays["validation_labels"]]
  assert (where / "metadata.tsv").read_text().split() == names.tolist()
  sheet = np.asarray(Image.open(where / "sprite.png"))
  images = data.load(tiny_config().data).validation.inputs
  side = images.shape[1]
  assert f"single_image_dim: {side}\n" in config
  columns = sheet.shape[1] // side
  for place in (0, 7, len(images) - 1):
    row, column = (side * number for number in divmod(place, columns))
    shown = sheet[row : row + side, column : column + side]
    np.testing.assert_array_equal(
      shown, np.broadcast_to(images[place], shown.shape)
    )
