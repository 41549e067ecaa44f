"""How every picture looks: sizes, colors, and the way to a file.

Pictures are `matplotlib.figure.Figure` objects made without pyplot, so that
none shares state with another or with a notebook. What color tells apart,
a marker or a line style tells apart too, for readers who do not see colors
and for printers that have none.
"""

import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib.style
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from metric_learning.training import run_files

# Okabe and Ito 2008, "Color Universal Design", with gray for its yellow, which
# is faint on paper.
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
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "*")
LINES = ("-", "--", "-.", ":", (0, (6, 1, 1, 1, 1, 1)))

WIDTH = 7.0  # of a page's text, in inches
_AROUND = 0.6  # above and below all panels, for title and legend

# On top of matplotlib's own defaults: a user's matplotlibrc changes nothing.
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
    "svg.hashsalt": "metric_learning",  # else every file has ids of its own
    "pdf.fonttype": 42,  # TrueType, whole in the file: print shops ask for it
  },
]
styled = matplotlib.style.context(STYLE)  # a decorator of what draws


def line_styles(
  losses: Sequence[str], order: Sequence[str] = ()
) -> list[dict[str, Any]]:
  """Looks of lines, given the loss of each: one color for each loss.

  Lines of one color differ in their dashes, and all lines in their markers. Of
  one loss alone each line has a color of its own. Colors are given in `order`,
  so that a loss has one in all figures of a study; without it, as they come.

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
  """Looks of the lines of a panel, which is of one loss: in its color.

  Where the figure has one loss alone, each line has a color of its own. For a
  legend of all panels, `loss` is None, and lines are black.

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
  """Color, marker and line of the line with this number.

  >>> line_style(0) == {"color": BLUE, "marker": "o", "linestyle": "-"}
  True
  """
  return {
    "color": COLORS[index % len(COLORS)],
    "marker": MARKERS[index % len(MARKERS)],
    "linestyle": LINES[index % len(LINES)],
  }


def point_style(index: int) -> dict[str, Any]:
  """Color and marker of the class with this number, hollow from the 9th on.

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
) -> tuple[Figure, list[Axes]]:
  """A figure with a panel for each title, in rows of equal length if it goes.

  `height` is that of a panel, and `narrowest` the least width of the figure,
  in inches; a full row has `columns` panels on the width of a page, and a panel
  alone is half as high again. `sharex` and `sharey` are those of matplotlib.

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
    # Broken after a comma, rather than between a field and its value.
    title = title.replace(" ", "\N{NO-BREAK SPACE}")
    title = title.replace(",\N{NO-BREAK SPACE}", ", ")
    axis.set_title(textwrap.fill(title, _letters(width / columns)))
  # The lowest of each column bears the numbers of a shared axis.
  for axis in axes[-columns:]:
    axis.tick_params(labelbottom=True)
  return figure, list(axes)


def heading(figure: Figure, text: str) -> None:
  """A title over all panels, broken where the figure ends."""
  figure.suptitle(textwrap.fill(text, _letters(figure.get_figwidth())))


def _letters(width: float) -> int:
  """How many letters fill a line of this width in inches."""
  return int(14 * width)


def legend_below(figure: Figure, handles: Mapping[str, Any]) -> None:
  """A legend under all panels, where it hides no data."""
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
# What a file says of itself: no date, so that the same figure gives the same
# bytes, and in words what it shows.
_METADATA: Mapping[str, Callable[[str], dict[str, Any]]] = {
  "png": lambda words: {"Description": words},
  "svg": lambda words: {"Date": None, "Description": words},
  "pdf": lambda words: {"CreationDate": None, "Subject": words},
}


def describe(figure: Figure) -> str:
  """What a figure shows, in words, for readers who do not see it.

  Its own words, where `set_label` gave it some; else its heading, panels, axes
  and legends.

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
    if kept := [text for text in flat if text]:
      parts.append(f"{name}{'; '.join(kept)}.")
  return " ".join(parts)


@styled
def save(
  figure: Figure, path: str | Path, formats: Sequence[str] = FORMATS
) -> list[Path]:
  """Writes `path`.png, `path`.svg, or .pdf, each whole or not at all.

  The same figure gives the same bytes. Fonts are whole in a PDF.
  """
  path = Path(path)
  run_files.make_folder(path.parent)
  words, written = describe(figure), []
  for suffix in formats:
    # A name may hold dots, so with_suffix would cut it.
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
  """At most `most` of some sorted values, evenly chosen, for ticks.

  >>> thinned([1, 2, 3, 4, 5], most=3)
  [1, 3, 5]
  """
  step = -(-len(values) // most)
  return list(values)[::step]
