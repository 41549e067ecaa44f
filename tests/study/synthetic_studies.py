"""Studies as they lie on disk, with test scores of our own choice."""

import json

from metric_learning.study import make_rows
from metric_learning.study.references import cells_of
from metric_learning.study.results import TEST
from metric_learning.study.runner import claim_study
from metric_learning.training import records
from tests.figures.synthetic import write_run
from tests.tiny import tiny_config

COLUMNS = ("own/map_at_r", "cosine/map_at_r", "own/recall_at_1", "own/eer")


def scores(value, last=None):
  """What test.json holds of a run with this score."""
  kinds = {"selected": value, "last": value if last is None else last}
  geometry = {"geometry/effective_rank": 2.0, "geometry/collapsed": 0.0}
  return {
    kind: {**dict.fromkeys(COLUMNS, number), **geometry}
    for kind, number in kinds.items()
  }


def write_study(folder, scored, diverged=(), missing=(), **fields):
  """Writes the runs of (overrides, score), and what is to be compared."""
  config = tiny_config(eval__columns=COLUMNS, **fields)
  rows = make_rows(config, [overrides for overrides, _ in scored])
  folder.mkdir()
  claim_study(folder, config, rows, cells_of(rows), {})
  records.write_json(folder / "baselines.json", [])
  for index, (row, (_, score)) in enumerate(zip(rows, scored, strict=True)):
    if index in missing:
      continue
    where = folder / "runs" / row.name
    write_run(where, row.config, score, index, index in diverged)
    if index not in diverged:
      change(
        where / records.RESULT,
        commit="0123456789ab",
        normalize="none",
        seconds=1.5,
        train={"loss": 1.0, "active_fraction": 0.25},
      )
      records.write_json(where / TEST, scores(score))
  return folder


def change(path, **values):
  """Puts values into a JSON file."""
  path.write_text(json.dumps(json.loads(path.read_text()) | values))
