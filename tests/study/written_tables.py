"""Studies with given scores, and the text of their tables."""

import csv

import numpy as np

from metric_learning.study import tables, tuning
from metric_learning.study.ranges import RATE
from metric_learning.training import run_files
from tests.studies import scored_study

RNG = np.random.default_rng(0)
NOISE = RNG.normal(0, 0.01, 10)
# Of each cell of `searched`.
SEARCHES = 6


def cells(**by_metric):
  """Rows of the contrastive loss under each metric, one for each score."""
  return [
    ({"loss.name": "contrastive", "metric.name": metric, "seed": seed}, score)
    for metric, values in by_metric.items()
    for seed, score in enumerate(values)
  ]


def searched(write_study, real_study, lost=(), **options):
  """Two cells with six searches, two final runs each; `lost` of l1 failed."""
  rng = np.random.default_rng(3)
  noise = 0.01 * rng.normal(size=2 * SEARCHES)
  scored = cells(l2=0.5 + noise, l1=0.6 + noise + 0.001 * rng.normal(size=12))
  numbers = {"loss.margin": 1.0, RATE: 0.03}
  scored = [({**some, **numbers}, score) for some, score in scored]
  folder = write_study(
    scored,
    missing=[12 + 2 * number + k for number in lost for k in (0, 1)],
    **options,
  )
  entries = [
    real_study.tuned(
      cell={"loss.name": "contrastive", "metric.name": metric},
      search=number,
      seeds=[2 * number, 2 * number + 1],
      chosen={} if metric == "l1" and number in lost else numbers,
      trials=3,
      on_edge=["loss.margin"] * (number == 2) + [RATE] * (number > 1),
      ranges={"loss.margin": [0.0, 2.0, False]},
      scores=[[0.2, 0.4], [0.3, 0.3]],
      history=[0.1, None, 0.3],
      folder=f"trials/{metric}/{number:02}",
      seconds=60.0,
    )
    for metric in ("l2", "l1")
    for number in range(SEARCHES)
  ]
  run_files.write_json(folder / tuning.TUNING, entries)
  return folder


def table_of(text, number=0):
  """The lines of a Markdown table by name, each a dict by head."""
  tables_in = [t for t in text.split("\n\n") if t.lstrip().startswith("| ")]
  head, _, *rows = [
    [cell.strip() for cell in line.split("|")[1:-1]]
    for line in tables_in[number].strip().splitlines()
  ]
  return {row[0]: dict(zip(head, row, strict=True)) for row in rows}


def lines_of(folder):
  """The lines of table.csv by name."""
  tables.write_tables(scored_study(folder))
  with (folder / "table.csv").open() as file:
    return {line["name"]: line for line in csv.DictReader(file)}
