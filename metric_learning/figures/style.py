"""How every picture looks: sizes, colours, and the way to a file.

Pictures are `matplotlib.figure.Figure` objects made without pyplot, so that
none shares state with another or with a notebook. What colour tells apart,
a marker or a line style tells apart too, for readers who do not see colours
and for printers that have none.
"""

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib.style
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from metric_learning.training import records

# Okabe and Ito 2008, "Color Universal Design", without its yellow, which is
# faint on paper.
BLACK, BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY = (
  "#000000",
  "#0072B2",
  "#D55E00",
  "#009E73",
  "#CC79A7",
  "#E69F00",
  "#56B4E9",
)
COLORS = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, BLACK)
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "*")
LINES = ("-", "--", "-.", ":", (0, (6, 1, 1, 1, 1, 1)))

WIDTH = 7.0  # of a page's text, in inches

# On top of matplotlib's own defaults: a user's matplotlibrc changes nothing.
STYLE = [
  "default",
  {
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 8,
    "figure.titlesize": 9,
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
  },
]
styled = matplotlib.style.context(STYLE)  # a decorator of what draws


def line_style(index: int) -> dict[str, Any]:
  """Colour, marker and line of the line with this number.

  >>> line_style(0) == {"color": BLUE, "marker": "o", "linestyle": "-"}
  True
  """
  return {
    "color": COLORS[index % len(COLORS)],
    "marker": MARKERS[index % len(MARKERS)],
    "linestyle": LINES[index % len(LINES)],
  }


def point_style(index: int) -> dict[str, Any]:
  """Colour and marker of the class with this number, hollow from the 8th on.

  >>> point_style(7) == {"marker": "<", "edgecolor": BLUE, "facecolor": "none"}
  True
  """
  color = COLORS[index % len(COLORS)]
  return {
    "marker": MARKERS[index % len(MARKERS)],
    "edgecolor": color,
    "facecolor": color if index < len(COLORS) else "none",
  }


def panels(
  count: int,
  *,
  height: float,
  columns: int = 4,
  narrowest: float = 3.5,
  **shared: bool,
) -> tuple[Figure, list[Axes]]:
  """A figure of `count` panels in rows of equal length, as far as it goes.

  `height` is that of a panel, and `narrowest` the least width of the figure,
  in inches; a full row has `columns` panels on the width of a page. `sharex`
  and `sharey` are those of matplotlib.

  >>> figure, axes = panels(5, height=2)
  >>> len(axes), figure.get_size_inches().tolist()  # 3 and 2
  (5, [5.25, 4.0])
  """
  panel = WIDTH / columns
  rows = -(-count // columns)
  columns = -(-count // rows)
  width = max(panel * columns, narrowest)
  figure = Figure(figsize=(width, rows * height), layout="constrained")
  axes = figure.subplots(rows, columns, squeeze=False, **shared).ravel()
  for unused in axes[count:]:
    unused.remove()
  # The lowest of each column bears the numbers of a shared axis.
  for lowest in axes[max(0, count - columns) : count]:
    lowest.tick_params(labelbottom=True)
  return figure, list(axes[:count])


def heading(figure: Figure, text: str) -> None:
  """A title over all panels, broken where the figure ends."""
  characters = int(14 * figure.get_size_inches()[0])
  figure.suptitle(textwrap.fill(text, characters))


def legend_below(
  figure: Figure, handles: Mapping[str, Any], columns: int | None = None
) -> None:
  """A legend under all panels, where it hides no data."""
  figure.legend(
    handles=list(handles.values()),
    labels=list(handles),
    loc="outside lower center",
    ncols=columns or len(handles),
    handletextpad=0.4,
    columnspacing=1.2,
  )


@styled
def save(figure: Figure, path: str | Path) -> list[Path]:
  """Writes `path`.png and `path`.svg, each whole or not at all.

  The same figure gives the same bytes: no date is in them.
  """
  path = Path(path)
  records.make_folder(path.parent)
  written = []
  for suffix in ("png", "svg"):
    # A name may hold dots, so with_suffix would cut it.
    target = path.parent / f"{path.name}.{suffix}"
    metadata = {"Date": None} if suffix == "svg" else {}
    records.write_atomically(
      target,
      lambda file, suffix=suffix, metadata=metadata: figure.savefig(
        file, format=suffix, metadata=metadata
      ),
    )
    written.append(target)
  return written


def thinned(values: Sequence[float], most: int = 6) -> list[float]:
  """At most `most` of some sorted values, evenly chosen, for ticks.

  >>> thinned([1, 2, 3, 4, 5], most=3)
  [1, 3, 5]
  """
  step = -(-len(values) // most)
  return list(values)[::step]
