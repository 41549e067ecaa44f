"""The tables of the benchmark as Markdown."""

import functools
import statistics
from collections.abc import Callable, Iterable
from typing import Any

from experiments.benchmarks import training
from experiments.benchmarks.speed.turns import CALLS, LONG, TURN, WARM


def page(found: dict[str, Any], numbers: str) -> str:
  """All tables; `numbers` is the file that has their numbers."""
  said = found["machine"]
  commits = {
    line["commit"]
    for suite in found["suites"].values()
    for line in suite.values()
  }
  versions = ", ".join(f"{k} {v}" for k, v in said["versions"].items())
  text = [
    "# Benchmarks",
    "",
    f"Measured on {said['processor']} with {said['cores']} cores; {versions}."
    f" Value and gradient in float32, {said['dim']} dimensions. Ours and theirs"
    f" take {said['repeats']} turns of {CALLS} calls each, or as many as fit"
    f" into {TURN} s; before each turn they rest, and then make calls that do"
    f" not count for {WARM} s, since in training calls follow each other. The"
    " tables show medians over all calls that count. Each side has its own"
    " process, with the same number of threads. Memory is the growth of the"
    " process at the peak of one call."
    " Made by `python -m experiments.benchmarks.speed`, at the commits"
    f" {', '.join(sorted(commits))}; {numbers} has the commit of each line.",
    "",
  ]
  # In the order of the tables, whatever was measured first.
  for name in (name for name in _TABLES if name in found["suites"]):
    text += _TABLES[name](list(found["suites"][name].values()))
  return "\n".join(text)


def _against(title: str, of: str, lines: list[dict[str, Any]]) -> list[str]:
  head = (
    *(of, "n / classes", "rival", "ours", "theirs", "theirs / ours"),
    *("our memory", "their memory", "values apart"),
  )
  text = [f"## {title}", "", _row(head), _row(["---"] * len(head))]
  for line in lines:
    text.append(
      _row(
        (
          line["name"],
          f"{line['n']} / {line['classes']}",
          line["rival"],
          _time(line["ours"]),
          _time(line["theirs"]),
          f"{line['ratio']:.1f}" if "ratio" in line else "–",
          _size_of(line["ours"]),
          _size_of(line["theirs"]),
          f"{line['apart']:.0e}" if "apart" in line else "–",
        )
      )
    )
  ratios = [line["ratio"] for line in lines if "ratio" in line]
  if ratios:
    mean = statistics.geometric_mean(ratios)
    text += ["", f"Geometric mean of {len(ratios)} ratios: {mean:.1f}."]
  return [*text, ""]


def _of_sets(lines: list[dict[str, Any]]) -> list[str]:
  title, *table = _against("Evaluation", "metric", lines)
  text = (
    "Recall@1, R-precision and MAP@R of points of norm 1 whose classes overlap;"
    " each point is a query among all others. The rival always ranks by L2."
    " Memory is the growth of the resident memory of a new process, which holds"
    " its imports and the points, at the peak of its first call, including"
    f" compilation. A side whose first call takes over {LONG:.0f} s is not"
    " called again."
  )
  return [title, "", text, *table]


def _in_blocks(lines: list[dict[str, Any]]) -> list[str]:
  head = ("loss", "n", "time", "extra memory", "one float32 matrix")
  text = ["## In blocks", "", _row(head), _row(["---"] * len(head))]
  for line in lines:
    text.append(
      _row(
        (
          line["name"],
          str(line["n"]),
          _time(line["ours"]),
          _size_of(line["ours"]),
          _bytes(line["matrix"]),
        )
      )
    )
  return [*text, ""]


def _of_auto(lines: list[dict[str, Any]]) -> list[str]:
  head = ("loss", "n", "auto", "dense", "64", "256", "auto / best other")
  text = ["## Block size", "", _row(head), _row(["---"] * len(head))]
  for line in lines:
    times = [_time({"seconds": line["seconds"].get(k)}) for k in head[2:6]]
    ratio = f"{line['ratio']:.2f}" if "ratio" in line else "–"
    text.append(_row((line["name"], str(line["n"]), *times, ratio)))
  return [*text, ""]


def _of_training(
  title: str, columns: tuple[str, str], lines: list[dict[str, Any]]
) -> list[str]:
  head = ("", "runs", *columns, f"{columns[1]} / {columns[0]}")
  text = [f"## {title}", "", _row(head), _row(["---"] * len(head))]
  for line in lines:
    times = _time(line["ours"]), _time(line["theirs"])
    ratio = f"{line['ratio']:.2f}" if "ratio" in line else "–"
    text.append(_row((line["name"], str(line["n"]), *times, ratio)))
  return [*text, ""]


_TABLES: dict[str, Callable[[list[dict[str, Any]]], list[str]]] = {
  "distances": functools.partial(_against, "Distances", "distance"),
  "losses": functools.partial(_against, "Losses", "loss"),
  "memory": _in_blocks,
  "auto": _of_auto,
  "evaluation": _of_sets,
  "input": functools.partial(
    _against, "Input: images from files, against images in memory", "network"
  ),
  "loop": functools.partial(
    _of_training, "The loop", ("whole run", "bare steps")
  ),
  "population": functools.partial(
    _of_training,
    f"Populations, {training.STEPS} steps each",
    ("one program", "in turn"),
  ),
}


def _row(cells: Iterable[str]) -> str:
  return "| " + " | ".join(cells) + " |"


def _time(side: dict[str, Any]) -> str:
  seconds = side.get("seconds")
  if seconds is None:
    return side.get("failed", "–")
  return (
    f"{1e3 * seconds:,.0f} ms" if seconds > 0.1 else f"{1e3 * seconds:.1f} ms"
  )


def _size_of(side: dict[str, Any]) -> str:
  return _bytes(side["extra"]) if "extra" in side else "–"


def _bytes(number: float) -> str:
  return f"{number / 1e9:.2f} GB" if number > 1e9 else f"{number / 1e6:.0f} MB"


def shown(line: dict[str, Any]) -> str:
  """A line while it runs."""
  said = [f"{line['name']:<28}", f"{line['n']:>6}"]
  if "seconds" in line:
    said += [f"{k} {_time({'seconds': s})}" for k, s in line["seconds"].items()]
  for side in ("ours", "theirs"):
    if side in line:
      said.append(f"{side} {_time(line[side])}, {_size_of(line[side])}")
  if "ratio" in line:
    said.append(f"ratio {line['ratio']:.2f}")
  if "apart" in line:
    said.append(f"apart {line['apart']:.0e}")
  return "  ".join(said)
