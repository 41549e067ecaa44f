"""The explorer, of a real tiny run, and in a browser where there is one."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from metric_learning import InputError, data
from metric_learning.report import explorer, write_explorer
from metric_learning.training import run_files
from tests.report.browser import BROWSER, after
from tests.tiny import tiny_config

plotly = pytest.importorskip("plotly")


@pytest.fixture
def arrays(real_study):
  return run_files.read_arrays(real_study.run / run_files.EMBEDDINGS)


@pytest.fixture
def small(monkeypatch):
  """Pages of forty images, and a plane that takes no time."""
  monkeypatch.setattr(explorer, "MOST_IMAGES", 40)


@pytest.fixture
def path(real_study, tmp_path, small):
  folders = [real_study.run, real_study.run]
  return write_explorer(tmp_path / "x.html", folders, projections=["pca"])


LOT = lambda count: np.sort(np.random.default_rng(0).permutation(count)[:40])


@pytest.mark.skipif(not BROWSER, reason="needs chromium")
def test_in_a_browser_it_shows_searches_and_finds(path, real_study, arrays):
  found = after(
    path,
    """
    const [view, other] = data.views;
    const rect = (place) => place.getBoundingClientRect().width;
    const drawn = view.plot.data[0].x.length;
    view.plot.emit("plotly_hover",
      {points: [{curveNumber: 0, pointNumber: 7}], event: {clientX: 9}});
    const hovered = [by("hover").hidden, by("hover").textContent,
      getComputedStyle(by("hover").firstChild).backgroundImage.slice(0, 9)];
    view.plot.emit("plotly_click",
      {points: [{curveNumber: 0, pointNumber: 7}]});
    const buttons = (v) => [...v.place.querySelectorAll(".nearest .one")];
    const near = buttons(view).map((one) => one.ariaLabel);
    const linked = buttons(other).length;
    const rings = view.plot.data[1].x.length;
    buttons(view)[1].click();
    const next = view.place.querySelector(".told").textContent;
    by("class").value = data.classes[labels[7]];
    by("class").dispatchEvent(new Event("input"));
    const matches = by("matches").children.length;
    const bright = view.plot.data[0].marker.color
      .filter((color) => color[0] === "#").length;
    return {drawn, hovered, near, linked, rings, next, matches, bright,
      said: by("count").textContent,
      quality: view.place.querySelector(".quality").textContent};
    """,
    wait=8000,
  )
  assert found["errors"] == []
  assert found["drawn"] == 40
  kept = LOT(len(arrays["test_labels"]))
  points = arrays["test_embeddings"][kept].astype(float)
  labels = arrays["test_class_names"][arrays["test_labels"][kept]]
  metric = run_files.read_json(real_study.run / run_files.RESULT)["metric"]
  assert metric in ("l1", "l2")
  name = "cityblock" if metric == "l1" else "euclidean"
  distances = cdist(points, points, name)
  np.fill_diagonal(distances, np.inf)
  near = distances[7].argsort()[:12]
  assert found["hovered"] == [False, f"{labels[7]}image 7", 'url("blob']
  assert found["near"][0] == f"{labels[7]} chosen, image 7"
  for said, index in zip(found["near"][1:], near, strict=True):
    begin, image, same = said.split(", ")
    label, _, distance = begin.rpartition(" ")
    assert (image, label) == (f"image {index}", labels[index])
    assert float(distance) == pytest.approx(distances[7, index], rel=6e-3)
    same_class = labels[index] == labels[7]
    assert same == ("the same class" if same_class else "another class")
  assert found["linked"] == 13 and found["rings"] == 12
  assert found["next"].startswith(f"Image {near[0]}, ")
  of_class = np.count_nonzero(labels == labels[7])
  assert found["matches"] == found["bright"] == of_class
  assert found["said"] == f"{of_class} of 40 images"
  assert "pca: trustworthiness 0." in found["quality"]


def test_a_picture_is_that_of_its_point(real_study, small):
  import base64
  import io

  from PIL import Image

  kept = LOT(100)
  sprites = explorer._sprites(real_study.run, "test", kept)
  sheet = Image.open(io.BytesIO(base64.b64decode(sprites["sheets"][0])))
  pixels = np.asarray(sheet.convert("L")).astype(int)
  side = sprites["side"]
  inputs = data.load(tiny_config().data).test.inputs
  assert side == inputs.shape[1]
  for place in (0, 7, 39):
    column = place % 40
    shown = pixels[:side, column * side : (column + 1) * side]
    differences = np.abs(inputs[kept, :, :, 0].astype(int) - shown)
    assert differences.mean(axis=(1, 2)).argmin() == place


def test_pictures_shrink_until_they_fit(real_study, monkeypatch):
  kept = np.arange(30)
  monkeypatch.setattr(explorer, "SIDES", (6, 4, 2))
  whole = explorer._sprites(real_study.run, "test", kept)
  size = sum(map(len, whole["sheets"]))
  monkeypatch.setattr(explorer, "MOST_BYTES", size - 1)
  assert explorer._sprites(real_study.run, "test", kept)["side"] < whole["side"]
  monkeypatch.setattr(explorer, "MOST_BYTES", 10)
  with pytest.raises(InputError, match="do not fit on a page: --noimages"):
    explorer._sprites(real_study.run, "test", kept)


def test_bad_input_is_refused(real_study, write_run, tmp_path):
  page = tmp_path / "x.html"
  with pytest.raises(InputError, match="holds no finished run"):
    write_explorer(page, [tmp_path])
  with pytest.raises(InputError, match="unknown projection 'tsen'; did you"):
    write_explorer(page, [real_study.run], projections=["tsen"])
  with pytest.raises(InputError, match="embed other test images"):
    other = write_run(tmp_path / "other", tiny_config())
    write_explorer(page, [real_study.run, other], projections=["pca"])
  gone = tiny_config(data__name="image_folder", data__data_dir="/none")
  folder = write_run(tmp_path / "gone", gone)
  with pytest.raises(InputError, match=r"are gone: .* or leave pictures out"):
    write_explorer(page, [folder], projections=["as is"])
  assert not page.exists()
  write_explorer(page, [folder], projections=["as is"], images=False)
  assert page.stat().st_size > 1e6
