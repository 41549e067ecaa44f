"""Studies with given scores, and what their tables say."""

import csv

import numpy as np

from metric_learning.study import tables
from tests.studies import scored_study

RNG = np.random.default_rng(0)
NOISE = RNG.normal(0, 0.01, 10)


def cells(**by_metric):
  """Rows of the contrastive loss under each metric, one for each score."""
  return [
    ({"loss.name": "contrastive", "metric.name": metric, "seed": seed}, score)
    for metric, values in by_metric.items()
    for seed, score in enumerate(values)
  ]


def table_of(text, number=0):
  """The lines of a Markdown table by name, each a dict by its heads."""
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
