"""The explorer of a real tiny run, and in a browser if there is one."""

import shutil

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from metric_learning import InputError, data
from metric_learning.report import explorer, write_explorer
from metric_learning.training import run_files
from metric_learning.training.writers import STEPS
from tests.report.browser import BROWSER, PHONE, browser, complaints
from tests.tiny import tiny_config

plotly = pytest.importorskip("plotly")


@pytest.fixture
def small(monkeypatch):
  """Pages of forty images, with a projection that takes no time."""
  monkeypatch.setattr(explorer, "MOST_IMAGES", 40)


LOT = lambda count: np.sort(np.random.default_rng(0).permutation(count)[:40])


@pytest.fixture
def moved(real_study, tmp_path):
  """A run that stored its embeddings at two steps, and these embeddings."""
  folder = shutil.copytree(real_study.run, tmp_path / "moved")
  final = run_files.read_arrays(folder / run_files.EMBEDDINGS)
  final = final["validation_embeddings"]
  turned = np.random.default_rng(0).normal(size=final.shape).astype("f")
  (folder / STEPS).mkdir()
  for step, points in ((1, turned), (2, (final + turned) / 2)):
    np.save(folder / STEPS / f"{step}.npy", points)
  return folder, [turned, (final + turned) / 2], final


def plane_of(final, points):
  """The plane of largest variance of `final`, in float64."""
  center = final.astype(float).mean(axis=0)
  values, axes = np.linalg.eigh(np.cov(final.astype(float).T))
  return (points.astype(float) - center) @ axes[:, np.argsort(-values)[:2]]


# Where an image lies in the window.
PLACE = """
  const at = (view, i) => {
    const {xaxis, yaxis} = view.plot._fullLayout;
    const {x, y} = view.plot.data[0];
    const box = view.plot.getBoundingClientRect();
    return [box.left + xaxis._offset + xaxis.d2p(x[i]),
      box.top + yaxis._offset + yaxis.d2p(y[i])];
  };
"""


def point_at_image(page, label):
  """Points at image 7, and presses."""
  x, y = page.run(PLACE + "return at(data.views[0], 7);")
  page.point(x, y)
  hovered = page.run("""
    await new Promise((done) => setTimeout(done, 300));
    const image = by("hover").firstChild;
    return [by("hover").hidden, by("hover").textContent,
      getComputedStyle(image).backgroundImage.slice(0, 9)];
  """)
  assert hovered == [False, f"{label}image 7", 'url("blob']
  page.point(x, y, press=True)


def check_neighbors(page, labels, near, distances):
  """The neighbors of image 7 are those by SciPy, under the trained metric."""
  shown = page.run("""
    await new Promise((done) => setTimeout(done, 300));
    const [view, other] = data.views;
    const buttons = (v) => [...v.place.querySelectorAll(".nearest .one")];
    return {near: buttons(view).map((one) => one.ariaLabel),
      linked: buttons(other).length, rings: view.plot.data[1].x.length,
      drawn: view.plot.data[0].x.length,
      quality: view.place.querySelector(".quality").textContent};
  """)
  assert shown["drawn"] == 40
  assert shown["near"][0] == f"{labels[7]} chosen, image 7"
  for text, index in zip(shown["near"][1:], near, strict=True):
    begin, image, same = text.split(", ")
    label, _, distance = begin.rpartition(" ")
    assert (image, label) == (f"image {index}", labels[index])
    assert float(distance) == pytest.approx(distances[index], rel=6e-3)
    same_class = labels[index] == labels[7]
    assert same == ("the same class" if same_class else "another class")
  assert shown["linked"] == 13 and shown["rings"] == 12
  assert "pca: trustworthiness 0." in shown["quality"]


def check_keyboard_and_class(page, labels, near):
  """By keyboard, chooses the nearest image; shows all images of a class."""
  page.run('data.views[0].place.querySelectorAll(".one")[1].focus();')
  page.key("Enter")
  shown = page.run("""
    const told = document.querySelector(".told").textContent;
    by("class").value = data.classes[labels[7]];
    by("class").dispatchEvent(new Event("input"));
    return {told, matches: by("matches").children.length,
      bright: data.views[0].plot.data[0].marker.color
        .filter((color) => color[0] === "#").length,
      count: by("count").textContent};
  """)
  assert shown["told"].startswith(f"Image {near[0]}, ")
  of_class = np.count_nonzero(labels == labels[7])
  assert shown["matches"] == shown["bright"] == of_class
  assert shown["count"] == f"{of_class} of 40 images"


def check_steps(page, steps):
  """The steps that the run stored, with the selected checkpoint last."""
  frames = page.run("""
    const shown = ({plot}) => [[...plot.data[0].x], [...plot.data[0].y]];
    const frames = [];
    for (const step of [0, 1, 2]) {
      by("step").value = step;
      by("step").dispatchEvent(new Event("input"));
      frames.push([by("at").textContent, ...data.views.map(shown)]);
    }
    return frames;
  """)
  names = [name for name, *_ in frames]
  assert names == ["step 1", "step 2", "step 3, selected"]
  final = steps[-1]
  for (_, first, second), step in zip(frames, steps, strict=True):
    plane = plane_of(final, step)
    for shown, expected in ((first, plane), (second, plane_of(final, final))):
      # Either sign of an axis will do.
      np.testing.assert_allclose(
        np.abs(shown), np.abs(expected.T), atol=2e-4 * np.abs(plane).max()
      )
  last = page.run("""
    by("play").click();
    const begun = by("play").textContent;
    while (by("play").textContent !== "Play")
      await new Promise((done) => setTimeout(done, 50));
    return [begun, by("at").textContent];
  """)
  assert last == ["Pause", "step 3, selected"]


@pytest.mark.skipif(not BROWSER, reason="needs chromium")
def test_in_a_browser_it_shows_searches_finds_and_moves(
  real_study, moved, small, tmp_path
):
  folder, steps, final = moved
  path = write_explorer(
    tmp_path / "x.html",
    [folder, real_study.run],
    part="validation",
    projections=["pca"],
  )
  arrays = run_files.read_arrays(folder / run_files.EMBEDDINGS)
  shown = LOT(len(final))
  labels = arrays["validation_class_names"][arrays["validation_labels"][shown]]
  metric = run_files.read_json(folder / run_files.RESULT)["metric"]
  name = {"l1": "cityblock", "l2": "euclidean"}[metric]
  points = final[shown].astype(float)
  distances = cdist(points[7:8], points, name)[0]
  distances[7] = np.inf
  near = distances.argsort()[:12]

  page = browser()
  page.open(path)
  point_at_image(page, labels[7])
  check_neighbors(page, labels, near, distances)
  check_keyboard_and_class(page, labels, near)
  check_steps(page, [step[shown] for step in (*steps, final)])
  assert complaints(page) == page.errors() == []
  page.look(PHONE, dark=True)
  assert complaints(page) == page.errors() == []
  # The window of a phone is as wide as its content, but its screen is not.
  width = page.run("""
    for (let i = 0; i < 600 && document.body.scrollWidth > screen.width; i++)
      await new Promise((done) => setTimeout(done, 50));
    return document.body.scrollWidth;
  """)
  assert width <= PHONE[0]


def test_steps_of_another_network_are_refused(moved, small, tmp_path):
  folder, (points, _), _ = moved
  np.save(folder / STEPS / "2.npy", points[:, :3])
  options = {"projections": ["pca"], "images": False}
  with pytest.raises(InputError, match=r"2\.npy has embeddings \(\d+, 3\)"):
    write_explorer(tmp_path / "x", [folder], part="validation", **options)
  (folder / STEPS / "2.npy").write_bytes(b"no array")
  with pytest.raises(InputError, match=r"2\.npy"):
    write_explorer(tmp_path / "x", [folder], part="validation", **options)


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
  with pytest.raises(InputError, match="embed different test images"):
    other = write_run(tmp_path / "other", tiny_config())
    write_explorer(page, [real_study.run, other], projections=["pca"])
  gone = tiny_config(data__name="image_folder", data__data_dir="/none")
  folder = write_run(tmp_path / "gone", gone)
  with pytest.raises(
    InputError, match=r"cannot be read: .* needs no images: --noimages"
  ):
    write_explorer(page, [folder], projections=["as is"])
  assert not page.exists()
  write_explorer(page, [folder], projections=["as is"], images=False)
  assert page.stat().st_size > 1e6
