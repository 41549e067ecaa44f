"""The page of a study of tiny runs, and in a browser if there is one."""

import re
import shutil
from html.parser import HTMLParser

import numpy as np
import pytest
from matplotlib.figure import Figure
from scipy.spatial.distance import cdist

from metric_learning.figures import save
from metric_learning.report import write_report
from metric_learning.study.table_lines import table_lines
from metric_learning.training import run_files
from tests.report.browser import BROWSER, PHONE, browser, complaints
from tests.studies import scored_study

ATTRIBUTES = ("src", "href", "xlink:href")


class Page(HTMLParser):
  """The elements of a page, and the texts of its cells."""

  def __init__(self, path):
    super().__init__()
    self.elements, self.rows, self.text = [], [], ""
    self._opened = []
    self.feed(path.read_text())

  def handle_starttag(self, tag, attributes):
    self.elements.append((tag, dict(attributes)))
    self._opened.append(tag)
    if tag == "tr":
      self.rows.append([])
    if tag in ("th", "td"):
      self.rows[-1].append("")

  def handle_endtag(self, tag):
    while self._opened and self._opened.pop() != tag:
      pass

  def handle_data(self, data):
    if {"script", "style"}.isdisjoint(self._opened):
      self.text += data
    if {"th", "td"} & set(self._opened):
      self.rows[-1][-1] += data

  def all(self, tag):
    return [attributes for name, attributes in self.elements if name == tag]


def drawn(folder):
  """A figure with black, a color, an id and words, as figures have them."""
  figure = Figure(figsize=(2, 2))
  axes = figure.subplots()
  axes.plot([0, 1], [0, 1], color="#0072B2", label="<one> & two")
  axes.set_xlabel("step")
  axes.legend()
  return save(figure, folder / "roc") + save(figure, folder / "training")


@pytest.fixture(scope="module")
def study(real_study, tmp_path_factory):
  folder = tmp_path_factory.mktemp("page") / "reported"
  shutil.copytree(real_study.reported, folder)
  return scored_study(folder)


@pytest.fixture(scope="module")
def path(study):
  return write_report(study, drawn(study.folder / "drawn"))


@pytest.fixture(scope="module")
def page(path):
  return Page(path)


def test_the_table_has_every_line_and_five_columns_at_first(study, page):
  names = [line["name"] for line in table_lines(study)]
  assert [row[0] for row in page.rows[1 : len(names) + 1]] == names
  heads = [a for a in page.all("th") if a.get("scope") == "col"]
  shown = [a for a in heads[: len(page.rows[0])] if a.get("class") != "more"]
  assert len(shown) == 5 < len(page.rows[0])
  cell = study.cells[0].chosen
  score = np.mean([run.tested.selected["own/map_at_r"] for run in cell.runs])
  assert f"{score:.3f}" in page.rows[4][3]
  assert page.rows[0][3] == "MAP@R own"


def test_it_needs_no_network_and_its_links_lead_somewhere(page):
  ids = [a["id"] for _, a in page.elements if "id" in a]
  assert len(ids) == len(set(ids))
  for _, attributes in page.elements:
    for name in ATTRIBUTES:
      value = attributes.get(name)
      if value is not None:
        assert value.startswith("data:") or value[1:] in ids, value
  assert not page.all("link") and "@import" not in page.text


def test_a_figure_is_read_aloud_and_follows_the_colors_of_the_page(page, path):
  (label, other) = [a["aria-label"] for a in page.all("svg")]
  assert label == other == "Across: step. Drawn: <one> & two."
  assert all("alt" in attributes for attributes in page.all("img"))
  assert "var(--c-0072b2, #0072b2)" in path.read_text()
  assert "--c-0072b2: #" in path.read_text()


def test_strips_show_the_nearest_under_the_metric_of_the_run(study, page):
  cells = [cell for cell in study.cells if cell.chosen.runs]
  best = max(cells, key=lambda cell: cell.chosen.validation.mean)
  run = best.chosen.runs[0]
  arrays = run_files.read_arrays(run.folder / run_files.EMBEDDINGS)
  selected = run.folder / run_files.SELECTED_EMBEDDINGS
  if selected.exists():
    arrays = run_files.read_arrays(selected)
  points = arrays["test_embeddings"].astype(float)
  names = {"l1": "cityblock", "l2": "euclidean", "cosine": "cosine"}
  distances = cdist(points, points, names[run.result["metric"]])
  np.fill_diagonal(distances, np.inf)
  labels = arrays["test_class_names"][arrays["test_labels"]]
  near = distances[0].argsort()[:8]
  images = [a["alt"] for a in page.all("img")]
  assert images[0] == f"query: {labels[0]}"
  for rank, index in enumerate(near, 1):
    same = "the same" if labels[index] == labels[0] else "another"
    assert images[rank] == f"hit {rank}: {labels[index]}, {same} label"
  # Each of the others is a query that errs.
  firsts = [a for a in images if a.startswith("hit 1:")]
  assert all(a.endswith("another label") for a in firsts[5:])
  nearest = labels[distances.argmin(axis=1)]
  wrong = [p for p in zip(labels, nearest, strict=True) if p[0] != p[1]]
  most = max(wrong.count(pair) for pair in wrong)
  first = re.search(r"taken for \S+: (\d+) of", page.text)
  assert int(first[1]) == most


def test_how_to_make_each_number_again(study, page):
  for cell in study.cells:
    for run in cell.chosen.runs:
      assert f"runs/{run.spec.name}" in page.text
      assert run.result["digest"] in page.text
  about = run_files.read_json(run.folder / run_files.ENVIRONMENT)
  assert about["command"] in page.text
  assert f"git checkout {run.result['commit'].partition('+')[0]}" in page.text


@pytest.mark.skipif(not BROWSER, reason="needs chromium")
def test_in_a_browser_it_sorts_filters_and_unfolds(path):
  page = browser()
  page.open(path)
  assert complaints(page) == []
  found = page.run("""
    const shown = () => [...body.rows].filter((row) => !row.hidden)
      .map((row) => row.cells[0].textContent);
    const heads = table.tHead.rows[0].cells;
    const visible = () => [...heads]
      .filter((head) => head.offsetParent !== null).length;
    const folded = visible();
    document.getElementById("unfold").click();
    const unfolded = visible();
    heads[3].querySelector("button").click();
    const scores = [...body.rows].map((row) => value(row, 3));
    const filter = document.getElementById("filter");
    filter.value = "contrastive L1";
    filter.dispatchEvent(new Event("input"));
    return {folded, unfolded, scores, sort: heads[3].ariaSort,
      count: status.textContent, shown: shown(), total: heads.length};
  """)
  assert (found["folded"], found["unfolded"]) == (5, found["total"])
  scores = [float(text.split()[0]) for text in found["scores"]]
  assert scores == sorted(scores, reverse=True)
  assert found["sort"] == "descending"
  assert found["shown"] == ["contrastive, l1"]
  assert found["count"] == "1 of 7 lines"
  # With all columns and all that folds out, on a dark phone.
  page.look(PHONE, dark=True)
  page.run("""
    for (const one of document.querySelectorAll("details")) one.open = true;
  """)
  assert complaints(page) == page.errors() == []
  assert page.run("return document.body.scrollWidth;") <= PHONE[0]


def page_of(write_study, scored, **options):
  study = scored_study(write_study(scored, **options))
  return Page(write_report(study, []))


def test_a_study_half_done_with_a_failed_run_says_so(write_study):
  scored = [({"metric.name": m}, 0.5) for m in ("l1", "l2", "cosine")]
  page = page_of(write_study, scored, diverged=[1], missing=[2])
  assert "Incomplete: 1 run is missing." in page.text
  assert "Diverged: 1 of the runs of l2." in page.text
  assert "No run of cosine is finished." in page.text
  assert [row[0] for row in page.rows[1:3]] == ["l1", "l2"]
  assert "failed" in page.rows[2]


def test_images_that_are_gone_leave_the_rest_of_the_page(write_study):
  scored = [({"seed": 0}, 0.5)]  # One cell, one seed, two dimensions.
  page = page_of(
    write_study, scored, data__name="image_folder", data__data_dir="/none"
  )
  assert "No pictures: the data of" in page.text
  assert "cannot be read: " in page.text and not page.all("img")
  assert "How good is one cell in" in page.text


def test_many_cells_are_lines_of_the_table(write_study):
  scored = [({"augment.shift": i / 100}, i / 100) for i in range(1, 31)]
  study = scored_study(write_study(scored))
  page = Page(write_report(study, drawn(study.folder / "drawn")))
  names = [row[0] for row in page.rows[1:31]]
  assert names == [f"shift {i / 100}" for i in range(1, 31)]
  assert "Which of 30 cells, which differ in augment shift," in page.text
  assert "Of 30 cells, the 8 best on validation are drawn." in page.text
