"""How figures are written, and whether everybody can read them."""

import io
import itertools
import xml.etree.ElementTree

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from metric_learning import figures
from metric_learning.figures import style
from metric_learning.study import read_study
from tests.studies import scored_study


@pytest.fixture
def every_figure(make_space, write_study):
  """One figure of each kind, with more panels, classes and words than most."""
  spaces = [
    make_space(f"infonce_per_pair, l{i}, normalize none", i, classes=10)
    for i in range(5)
  ]
  spaces[0] = spaces[0]._replace(margins=(1.0,), gaps=(1.0,), threshold=2.0)
  scored = [
    ({"metric.name": "l1", "loss.temperature": t}, t) for t in (0.1, 0.2)
  ]
  images = np.zeros((80, 8, 8, 1), np.uint8)
  # Small differences between cells with long names.
  pairs = [
    (
      {
        "loss.name": loss,
        "metric.name": metric,
        "model.hidden": (64,),
        "model.embedding_dim": dim,
        "seed": seed,
      },
      0.5 + 0.004 * (metric == "l1") + 0.0005 * (seed + dim),
    )
    for loss in ("infonce_per_pair", "contrastive_double_margin")
    for metric in ("l2", "l1")
    for dim in (4, 8)
    for seed in range(3)
  ]
  compared = write_study(
    pairs, "compared", study__reference={"metric.name": "l2"}
  )
  return {
    "maps": figures.embedding_maps(spaces, "test"),
    "histograms": figures.distance_histograms(spaces, "test"),
    "roc": figures.roc_curves(spaces, "test"),
    "curves": figures.tuning_curves(read_study(write_study(scored))),
    "potentials": figures.pair_potentials(),
    "differences": figures.differences(scored_study(compared)),
    "strip": figures.neighbor_strip(spaces[0], images, [0, 9]),
    "confusion": figures.confusion(spaces[0]),
  }


def written(figure, folder, name="picture"):
  return figures.save(figure, folder / name)


def test_png_and_svg_have_the_size_of_the_figure(make_space, tmp_path):
  figure = figures.embedding_maps([make_space()] * 4)
  png, svg = written(figure, tmp_path, "maps, margin=0.5")
  assert png.name == "maps, margin=0.5.png"
  assert svg.name == "maps, margin=0.5.svg"
  width, height = figure.get_size_inches()
  assert width == 7
  with Image.open(png) as image:
    assert image.size == (round(200 * width), round(200 * height))
  root = xml.etree.ElementTree.parse(svg).getroot()
  assert float(root.get("width").removesuffix("pt")) == pytest.approx(72 * 7)


def test_the_same_input_gives_the_same_bytes(make_space, tmp_path):
  for name in ("first", "second"):
    space = make_space(dim=5, threshold=1.0, gaps=[0.5])
    written(figures.embedding_maps([space]), tmp_path / name, "map")
    written(figures.distance_histograms([space]), tmp_path / name, "histogram")
    written(figures.roc_curves([space]), tmp_path / name, "roc")
  first = sorted((tmp_path / "first").iterdir())
  assert len(first) == 6
  for path in first:
    assert path.read_bytes() == (tmp_path / "second" / path.name).read_bytes()
    assert b"<dc:date>" not in path.read_bytes()


def test_a_users_settings_neither_change_a_picture_nor_are_changed(
  make_space, tmp_path
):
  draw = lambda: figures.roc_curves([make_space()])
  (_, plain) = written(draw(), tmp_path, "plain")
  with matplotlib.rc_context({"font.size": 20, "axes.grid": True}):
    before = dict(matplotlib.rcParams)
    (_, other) = written(draw(), tmp_path, "other")
    assert dict(matplotlib.rcParams) == before
  assert plain.read_bytes() == other.read_bytes()


def test_no_picture_is_left_in_pyplot(make_space):
  import matplotlib.pyplot as plt

  figures.embedding_maps([make_space()])
  assert plt.get_fignums() == []


@pytest.mark.parametrize("dim", [2, 6])
@pytest.mark.parametrize(
  "title", ["infonce_per_pair, l1", "triplet, l2, margin 0.5, seed 3, dim 64"]
)
def test_maps_in_rows_hide_no_text_of_each_other(make_space, title, dim):
  """As many as fill a row, and as many as the comparison of README has."""
  figures_of = {}
  for count in (1, 2, 5, 8):
    spaces = [make_space(title, i, dim=dim) for i in range(count)]
    figures_of[f"{count} maps"] = figures.embedding_maps(spaces, "test")
  check_text(figures_of)


def test_text_is_readable_inside_the_figure_and_hides_no_other(every_figure):
  check_text(every_figure)


def check_text(named):
  for name, figure in named.items():
    figure.savefig(io.BytesIO(), format="png")  # lays it out
    # Axes keep a label beyond either end, and do not draw it.
    ticks = {label for axes in figure.axes for label in tick_labels(axes)}
    texts = [t for t in figure.findobj(Text) if t.get_text().strip()]
    texts = [text for text in texts if text.get_visible()]
    assert all(text.get_fontsize() >= 8 for text in texts), name
    boxes = {t: t.get_window_extent() for t in texts if t not in ticks}
    inside = figure.bbox.padded(1)
    for text, box in boxes.items():
      assert inside.x0 <= box.x0 and box.x1 <= inside.x1, (name, text)
      assert inside.y0 <= box.y0 and box.y1 <= inside.y1, (name, text)
    for (one, box), (other, other_box) in itertools.combinations(
      boxes.items(), 2
    ):
      assert not box.padded(-1).overlaps(other_box), (name, one, other)

    for axes in figure.axes:
      check_ticks(axes, name)


def check_ticks(axes, name):
  """No tick label hides another one of its axis."""
  for axis, low, high in (
    (axes.xaxis, *sorted(axes.get_xlim())),
    (axes.yaxis, *sorted(axes.get_ylim())),
  ):
    boxes = [
      label.get_window_extent()
      for tick in axis.get_major_ticks()
      for label in (tick.label1, tick.label2)
      if low <= tick.get_loc() <= high
      if label.get_visible() and label.get_text().strip()
    ]
    for one, other in itertools.combinations(boxes, 2):
      assert not one.padded(-1).overlaps(other), (name, axis)


def tick_labels(axes):
  both = ("major", "minor")
  x = [label for which in both for label in axes.get_xticklabels(which=which)]
  return x + [label for w in both for label in axes.get_yticklabels(which=w)]


def test_what_has_another_color_has_another_shape():
  markers = {style.point_style(i)["marker"] for i in range(10)}
  assert len(markers) == 10
  lines = [style.line_style(i) for i in range(8)]
  assert len({line["marker"] for line in lines}) == 8
  assert len({line["color"] for line in lines}) == 8


def test_a_loss_has_one_color_in_all_figures_of_a_study(write_study):
  scored = [
    ({"loss.name": loss, "metric.name": metric, field: value}, value)
    # The best is not the first; the panels of curves come as the cells do.
    for loss, field, values in (
      ("supcon", "loss.temperature", (0.1, 0.2)),
      ("triplet", "loss.margin", (0.3, 0.4)),
    )
    for metric in ("l1", "l2")
    for value in values
  ]
  study = read_study(write_study(scored))
  colors = dict(zip(("supcon", "triplet"), style.COLORS, strict=False))
  for axes in figures.tuning_curves(study).axes:
    lines = [container.lines[0] for container in axes.containers]
    assert {line.get_color() for line in lines} == {colors[axes.get_title()]}
    assert len({line.get_linestyle() for line in lines}) == 2
  # Of spaces that are fewer, or in another order, too.
  spaces = figures.spaces_of(study)
  axes = figures.roc_curves(spaces[::-1]).axes[0]
  for line in axes.lines:
    loss = line.get_label().partition(",")[0]
    if loss in colors:
      assert line.get_color() == colors[loss]


def test_a_name_is_not_read_as_mathematics(make_space, tmp_path):
  space = make_space("a $^$", classes=2, class_names=("$^$", "_x"))
  figure = figures.embedding_maps([space])
  written(figure, tmp_path)  # as mathematics, $^$ does not parse
  (legend,) = figure.legends
  assert [text.get_text() for text in legend.get_texts()] == ["$^$", "_x"]


@pytest.mark.parametrize(
  "values, names",
  [
    ((0.0625, 0.125, 0.25, 0.5, 1), ["0.0625", "0.25", "1"]),
    ((0.25, 0.5, 1, 1.5, 2), ["0.25", "0.5", "1", "1.5", "2"]),
  ],
)
def test_names_of_ticks_do_not_touch(values, names):
  figure = Figure(figsize=(style.WIDTH / 4, 1.8), layout="constrained")
  axis = figure.subplots()
  axis.plot(values, values)
  style.ticks_at(axis, values)
  figure.draw_without_rendering()
  labels = axis.get_xticklabels()
  assert [label.get_text() for label in labels] == names
  boxes = [label.get_window_extent() for label in labels]
  for one, following in itertools.pairwise(boxes):
    assert one.x1 < following.x0
