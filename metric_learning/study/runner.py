"""Runs the rows of a study: those that are missing, one after another."""

import json
import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from metric_learning import data
from metric_learning.data.sampler import make_batches
from metric_learning.errors import InputError
from metric_learning.study.baselines import write_baselines
from metric_learning.study.references import check_comparisons
from metric_learning.study.sweeps import StudyRow
from metric_learning.training import NotFiniteError, records, train
from metric_learning.training.config import as_dict, of_study

STUDY = "study.json"
RUNS = "runs"

log = logging.getLogger(__name__)

# A program holds its constants, a data set its images: few are needed at once.
_SPLITS: dict[str, data.Splits] = {}


def load_once(config: ConfigDict) -> data.Splits:
  """The data of a config, read once in a process."""
  key = json.dumps(as_dict(config)["data"], sort_keys=True)
  if key not in _SPLITS:
    _SPLITS[key] = data.load(config.data)
  return _SPLITS[key]


def run_study(
  config: ConfigDict, rows: Sequence[StudyRow], folder: str | Path
) -> None:
  """Does what is missing of a study; a finished one is left as it is.

  Everything is checked before the first run: the rows, their data, the batch
  that the data must fill, what is to be compared. A run whose loss stops being
  finite is recorded as such and does not end the study.

  Raises:
    InputError: for data that cannot be used, or a folder of another study.
  """
  folder = Path(folder)
  check_comparisons(config, rows)
  for row in rows:
    train_part = load_once(row.config).train
    try:
      make_batches(train_part, row.config.data, 0)
    except InputError as error:
      raise InputError(f"row {row.name}: {error}") from None
  _claim(folder, config, rows)
  write_baselines(folder, [(row.config, load_once(row.config)) for row in rows])
  missing = [row for row in rows if not _finished(folder / RUNS / row.name)]
  log.info("%d of %d runs to do", len(missing), len(rows))
  started = time.perf_counter()
  for done, row in enumerate(missing, start=1):
    summary = _run(row, folder / RUNS / row.name)
    spent = time.perf_counter() - started
    left = spent / done * (len(missing) - done)
    log.info(
      "[%d/%d] %s: %s (%.0f s left)",
      done,
      len(missing),
      row.name,
      summary,
      left,
    )


def _run(row: StudyRow, workdir: Path) -> str:
  """Trains one row and says how it went."""
  try:
    splits = load_once(row.config)
    result = train(row.config, workdir, splits=splits, progress=False)
  except NotFiniteError as error:
    result = {"diverged": str(error)}
    records.write_json(workdir / records.RESULT, result)
  if "diverged" in result:
    return "diverged"
  select = row.config.eval.select
  chosen = result["validation_selected"][select]
  return f"validation {select} {chosen:.3f}, {result['seconds']:.1f} s"


def _finished(workdir: Path) -> bool:
  return (workdir / records.RESULT).exists()


def _claim(folder: Path, config: ConfigDict, rows: Sequence[StudyRow]) -> None:
  """Writes study.json, or finds that the folder is of this very study."""
  records.make_folder(folder)
  study: dict[str, Any] = {
    "config": as_dict(config),
    "study": of_study(config),
    "rows": [
      {
        "name": row.name,
        "overrides": row.overrides,
        "config": as_dict(row.config),
      }
      for row in rows
    ],
  }
  study = json.loads(json.dumps(study))
  path = folder / STUDY
  if not path.exists():
    records.write_json(path, study)
  elif records.read_json(path) != study:
    raise InputError(
      f"{folder} holds another study (its {STUDY} differs in config, rows or"
      " what is compared): choose another --study, or delete it."
    )
