"""Cells of the tables of the accelerator run."""

from collections.abc import Sequence

from experiments.benchmarks.clock import Line

DASH = "–"


def table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> list[str]:
  """Rows of Markdown."""
  line = lambda cells: "| " + " | ".join(cells) + " |"
  return [line(head), line(("---",) * len(head)), *map(line, rows)]


def duration(side: Line, name: str = "seconds") -> str:
  """Milliseconds, or why there are none."""
  if name not in side:
    return side.get("failed", DASH) if name == "seconds" else DASH
  value = 1e3 * side[name]
  digits = 0 if value >= 100 else 1 if value >= 1 else 3
  return f"{value:,.{digits}f} ms"


def size(number: float | None) -> str:
  """Megabytes or gigabytes."""
  if number is None:
    return "not measured"
  return f"{number / 1e9:.2f} GB" if number > 1e9 else f"{number / 1e6:.1f} MB"


def memory(side: Line) -> str:
  """What was planned, if it is known, and what was measured."""
  if "failed" in side:
    return DASH
  if "planned" not in side:
    return size(side.get("peak"))
  if side["peak"] is None:
    return size(side["planned"])
  return f"{size(side['planned'])} ({size(side['peak'])})"


def ratio(line: Line) -> str:
  """Their time over ours."""
  ours, theirs = (line[side].get("seconds") for side in ("ours", "theirs"))
  return f"{theirs / ours:.2f}" if ours and theirs else DASH


def values_apart(line: Line) -> str:
  """The relative difference of both values."""
  ours, theirs = (line[side].get("value") for side in ("ours", "theirs"))
  if ours is None or theirs is None:
    return DASH
  return f"{abs(ours - theirs) / max(abs(theirs), 1e-30):.0e}"
