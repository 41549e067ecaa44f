"""The look of all figures: sizes and colors, and how a figure is saved.

Figures are `matplotlib.figure.Figure` objects made without pyplot, so that they
share no state with each other or with a notebook. Lines and points that differ
in color also differ in marker or line style, for readers who do not see colors
and for printers without color.
"""

import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib.style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from metric_learning.training import run_files

# Okabe and Ito 2008, "Color Universal Design". Gray replaces their yellow,
# which is faint on paper.
BLACK, BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, GRAY = (
  "#000000",
  "#0072B2",
  "#D55E00",
  "#009E73",
  "#CC79A7",
  "#E69F00",
  "#56B4E9",
  "#777777",
)
COLORS = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, BLACK, GRAY)
BAND = "#eeeeee"  # of differences that count as negligible
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "*")
LINES = ("-", "--", "-.", ":", (0, (6, 1, 1, 1, 1, 1)))

WIDTH = 7.0  # of the text on a page, in inches
_AROUND = 0.6  # inches above and below all panels, for title and legend

# Starts from the defaults of matplotlib, so that a matplotlibrc has no effect.
STYLE: list[str | Path | dict[str, Any]] = [
  "default",
  {
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 8,
    "figure.titlesize": 9,
    "figure.labelsize": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "lines.linewidth": 1.2,
    "lines.markersize": 4,
    "legend.frameon": False,
    "text.parse_math": False,  # a class may be called "$"
    "savefig.dpi": 200,
    "svg.hashsalt": "metric_learning",  # otherwise ids differ in every file
    "pdf.fonttype": 42,  # embeds whole TrueType fonts, as print shops require
  },
]
styled = matplotlib.style.context(STYLE)  # a decorator for drawing functions


def line_styles(
  losses: Sequence[str], order: Sequence[str] = ()
) -> list[dict[str, Any]]:
  """The styles of lines, given the loss of each: one color for each loss.

  Lines of one color differ in their dashes, and all lines differ in their
  markers. If there is only one loss, each line has its own color. Losses get
  colors in the sequence of `order`, so that a loss has the same color in all
  figures of a study; losses that `order` does not name follow.

  >>> looks = line_styles(["triplet", "triplet", "supcon"])
  >>> [look["color"] == BLUE for look in looks]
  [True, True, False]
  >>> [look["linestyle"] for look in looks]
  ['-', '--', '-']
  """
  order = list(dict.fromkeys([*order, *losses]))
  if len(order) < 2:
    return [line_style(index) for index in range(len(losses))]
  colors = [COLORS[order.index(loss) % len(COLORS)] for loss in losses]
  return [
    {
      "color": color,
      "marker": MARKERS[index % len(MARKERS)],
      "linestyle": LINES[colors[:index].count(color) % len(LINES)],
    }
    for index, color in enumerate(colors)
  ]


def panel_styles(
  count: int, order: Sequence[str], loss: str | None = None
) -> list[dict[str, Any]]:
  """The styles of the lines of a panel that shows one loss, in its color.

  If the figure has only one loss, each line has its own color. For a legend of
  all panels, `loss` is None and lines are black.

  >>> one, other = panel_styles(2, ["triplet", "supcon"], "supcon")
  >>> one["color"] == other["color"] == VERMILION
  True
  >>> one["linestyle"], other["linestyle"]
  ('-', '--')
  """
  looks = [line_style(index) for index in range(count)]
  if len(order) < 2:
    return looks
  color = BLACK if loss is None else COLORS[order.index(loss) % len(COLORS)]
  return [{**look, "color": color} for look in looks]


def line_style(index: int) -> dict[str, Any]:
  """The color, marker and dashes of the line with this index.

  >>> line_style(0) == {"color": BLUE, "marker": "o", "linestyle": "-"}
  True
  """
  return {
    "color": COLORS[index % len(COLORS)],
    "marker": MARKERS[index % len(MARKERS)],
    "linestyle": LINES[index % len(LINES)],
  }


def point_style(index: int) -> dict[str, Any]:
  """The color and marker of the class with this index, hollow from the 9th on.

  >>> point_style(8) == {"marker": ">", "edgecolor": BLUE, "facecolor": "none"}
  True
  """
  color = COLORS[index % len(COLORS)]
  return {
    "marker": MARKERS[index % len(MARKERS)],
    "edgecolor": color,
    "facecolor": color if index < len(COLORS) else "none",
  }


def panels(
  titles: Sequence[str],
  *,
  height: float,
  columns: int = 4,
  narrowest: float = 3.5,
  sharex: bool = False,
  sharey: bool = False,
  xlabel: str = "",
) -> tuple[Figure, list[Axes]]:
  """A figure with a panel for each title, in rows as equal as possible.

  `height` is the height of a panel and `narrowest` the least width of the
  figure, in inches. A row has at most `columns` panels, which then fill the
  width of a page. A single panel is 1.5 times as high. `sharex` and `sharey`
  are those of matplotlib; `xlabel` is below the lowest panel of each column.

  >>> figure, axes = panels("abcde", height=2.0)
  >>> len(axes), figure.get_size_inches().tolist()  # 3 and 2
  (5, [5.25, 4.6])
  """
  panel = WIDTH / columns
  rows = -(-len(titles) // columns)
  columns = -(-len(titles) // rows)
  width = max(panel * columns, narrowest)
  size = width, (1.5 if len(titles) == 1 else rows) * height + _AROUND
  figure = Figure(figsize=size, layout="constrained")
  grid = figure.subplots(
    rows, columns, squeeze=False, sharex=sharex, sharey=sharey
  ).ravel()
  axes, unused = grid[: len(titles)], grid[len(titles) :]
  for axis in unused:
    axis.remove()
  for axis, title in zip(axes, titles, strict=True):
    # A title is broken after a comma, not between a field and its value.
    title = title.replace(" ", "\N{NO-BREAK SPACE}")
    title = title.replace(",\N{NO-BREAK SPACE}", ", ")
    axis.set_title(textwrap.fill(title, _letters(width / columns)))
  # The lowest panel of each column shows the tick labels of a shared axis.
  for axis in axes[-columns:]:
    axis.tick_params(labelbottom=True)
    axis.set_xlabel(xlabel)
  return figure, list(axes)


def heading(figure: Figure, text: str) -> None:
  """Writes a title above all panels, wrapped at the width of the figure."""
  figure.suptitle(textwrap.fill(text, _letters(figure.get_figwidth())))


def _letters(width: float) -> int:
  """How many letters fill a line of this width in inches."""
  return int(14 * width)


def legend_below(figure: Figure, handles: Mapping[str, Any]) -> None:
  """Draws a legend below all panels, where it hides no data."""
  widths = [len(label) + 6 for label in handles]  # a handle is six letters wide
  for rows in range(1, len(widths) + 1):
    columns = [widths[i : i + rows] for i in range(0, len(widths), rows)]
    if sum(map(max, columns)) <= _letters(figure.get_figwidth()):
      break
  figure.legend(
    handles=list(handles.values()),
    labels=list(handles),
    loc="outside lower center",
    ncols=len(columns),
    handletextpad=0.4,
    columnspacing=1.2,
  )


FORMATS = ("png", "svg")
# The metadata of a file: a description in words, and no date, so that the same
# figure gives the same bytes.
_METADATA: Mapping[str, Callable[[str], dict[str, Any]]] = {
  "png": lambda words: {"Description": words},
  "svg": lambda words: {"Date": None, "Description": words},
  "pdf": lambda words: {"CreationDate": None, "Subject": words},
}


def describe(figure: Figure) -> str:
  """Describes a figure in words, for readers who do not see it.

  The description is the label that `set_label` gave the figure. Otherwise it
  lists the heading, panels, axes and legends.

  >>> figure, (axes,) = panels(["one run"], height=2.0)
  >>> _ = axes.set(xlabel="step", ylabel="loss")
  >>> describe(figure)
  'Panels: one run. Across: step. Up: loss.'
  """
  if figure.get_label():
    return str(figure.get_label())
  axes = figure.axes
  legends = [*figure.legends, *(a.get_legend() for a in axes)]
  words = {
    "": [figure.get_suptitle()],
    "Panels: ": [a.get_title() for a in axes],
    "Across: ": [figure.get_supxlabel(), *(a.get_xlabel() for a in axes)],
    "Up: ": [figure.get_supylabel(), *(a.get_ylabel() for a in axes)],
    "Drawn: ": [
      text.get_text()
      for legend in legends
      if legend is not None
      for text in legend.get_texts()
    ],
  }
  parts = []
  for name, texts in words.items():
    flat = dict.fromkeys(" ".join(text.split()) for text in texts)
    if nonempty := [text for text in flat if text]:
      parts.append(f"{name}{'; '.join(nonempty)}.")
  return " ".join(parts)


@styled
def save(
  figure: Figure, path: str | Path, formats: Sequence[str] = FORMATS
) -> list[Path]:
  """Writes `path`.png, `path`.svg or `path`.pdf, and returns the paths.

  A file is written completely or not at all, and the same figure gives the same
  bytes. A PDF embeds whole fonts.
  """
  path = Path(path)
  run_files.make_folder(path.parent)
  words, written = describe(figure), []
  for suffix in formats:
    # A name may contain dots, and with_suffix would cut it there.
    target = path.parent / f"{path.name}.{suffix}"
    metadata = _METADATA[suffix](words)
    run_files.write_atomically(
      target,
      lambda file, suffix=suffix, metadata=metadata: figure.savefig(
        file, format=suffix, metadata=metadata
      ),
    )
    written.append(target)
  return written


def thinned(values: Sequence[Any], most: int = 6) -> list[Any]:
  """At most `most` of the sorted values, evenly spaced, for ticks.

  >>> thinned([1, 2, 3, 4, 5], most=3)
  [1, 3, 5]
  """
  step = -(-len(values) // most)
  return list(values)[::step]


def ticks_at(axis: Axes, values: Sequence[float | int]) -> None:
  """Puts ticks at sorted values, and names as many as have room.

  The scale is logarithmic if positive values span a factor of 4 or more.
  """
  if len(values) > 2 and 0 < 4 * values[0] <= values[-1]:
    axis.set_xscale("log")
  names = [f"{value:g}" for value in values]
  # A panel has room for about 25 characters.
  most = max(min(6, 25 // (1 + max(map(len, names), default=0))), 2)
  ticks = thinned(list(zip(values, names, strict=True)), most)
  axis.set_xticks([x for x, _ in ticks], [name for _, name in ticks])
  axis.xaxis.set_minor_locator(NullLocator())
