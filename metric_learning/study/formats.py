"""Tables as Markdown, CSV and LaTeX."""

import csv
import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

from metric_learning.study.statistics import Interval


def as_markdown(heads: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
  """A Markdown table."""
  rows = [heads, ["---"] * len(heads), *lines]
  return "\n".join("| " + " | ".join(cells) + " |" for cells in rows)


def as_csv(lines: Sequence[Mapping[str, Any]]) -> str:
  """A CSV of all numbers: an interval as mean, low and high."""
  rows = []
  for line in lines:
    row: dict[str, Any] = {}
    for name, value in line.items():
      if isinstance(value, Interval):
        row |= {
          name: value.mean,
          f"{name} low": value.low,
          f"{name} high": value.high,
        }
      else:
        row[name] = value
    rows.append(row)
  fields = list(dict.fromkeys(name for row in rows for name in row))
  out = io.StringIO()
  writer = csv.DictWriter(out, fields, lineterminator="\n")
  writer.writeheader()
  writer.writerows(rows)
  return out.getvalue()


def as_latex(
  heads: Sequence[str], lines: Sequence[Sequence[str]], note: str
) -> str:
  r"""A LaTeX table (booktabs) with a note."""

  def escape(text: str) -> str:
    # The special characters of LaTeX first, since the symbols below use them.
    text = re.sub(r"[_%&#$]", r"\\\g<0>", text).replace("^", r"\^{}")
    for a, b in (("d̄", r"$\bar d$"), ("²", r"$^2$"), ("±", r"$\pm$")):
      text = text.replace(a, b)
    for a, b in (("×", r"$\times$"), ("≤", r"$\le$"), ("–", "--")):
      text = text.replace(a, b)
    return text

  return "\n".join(
    [
      r"\begin{tabular}{" + "l" * len(heads) + "}",
      r"\toprule",
      " & ".join(map(escape, heads)) + r" \\",
      r"\midrule",
      *(" & ".join(map(escape, line)) + r" \\" for line in lines),
      r"\bottomrule",
      r"\end{tabular}",
      "",
      r"\smallskip",
      r"{\footnotesize " + escape(note) + "}",
      "",
    ]
  )
