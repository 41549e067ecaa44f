"""Studies for tests: one is trained, and the others are derived from its files.

No test writes a record from scratch. A derived record is a real one with other
values, so that it has the keys that the code writes.
"""

import functools
import json
import shutil

import numpy as np

from metric_learning.study import (
  make_specs,
  read_study,
  run_study,
  score_chosen,
  tables,
  tuning,
)
from metric_learning.study.baselines import BASELINES
from metric_learning.study.compared_with import cells_of
from metric_learning.study.runner import claim_study
from metric_learning.study.scoring import TEST
from metric_learning.training import run_files
from metric_learning.training.build import objectives_of
from metric_learning.training.config import (
  as_dict,
  digest,
  override,
  traced_numbers,
)
from tests.tiny import tiny_config

COLUMNS = (
  *("own/recall_at_1", "own/map_at_r"),
  *("cosine/recall_at_1", "cosine/map_at_r"),
  "own/eer",
  "own/identification_rank_1",
)
# Half of its terms can become 0, or none: where "active" has a meaning.
HINGE, SOFTMAX = "contrastive", "supcon"
# What a run leaves whose loss did not stay finite; see study/test_study.py.
DIVERGED = {"diverged": "at step 3"}
CONFIG = tiny_config(
  margin_unit="initial_mean",
  train__steps=3,
  eval__columns=COLUMNS,
  eval__identification__draws=2,
)


def real_sweep():
  """A hinge loss and a softmax loss; three margins under L1; two seeds."""
  for loss, metric, field, values in (
    (HINGE, "l1", "loss.margin", (0.5, 1.0, 2.0)),
    (HINGE, "l2", "loss.margin", (1.0,)),
    (SOFTMAX, "l1", "loss.temperature", (0.1,)),
    (SOFTMAX, "l2", "loss.temperature", (0.1,)),
  ):
    for value in values:
      for seed in (0, 1):
        yield {
          "loss.name": loss,
          "metric.name": metric,
          field: value,
          "seed": seed,
        }


class RealStudy:
  """The trained study: its folder, and a copy with everything a report adds.

  Its files must not be changed: tests share them, and copy what they change.
  """

  def __init__(self, root):
    """Takes the folder of both, and of a search with one trial."""
    self.folder, self.reported = root / "trained", root / "reported"
    self._searched = root / "searched"

  def make(self):
    """Trains the study, reports a copy of it, and searches."""
    run_study(CONFIG, make_specs(CONFIG, real_sweep()), self.folder)
    shutil.copytree(self.folder, self.reported)
    tables.write_tables(scored_study(self.reported))
    few = {
      "loss.name": HINGE,
      "tune.searches": 1,
      "tune.trials": 1,
      "tune.folds": 1,
      "tune.finalists": 0,
    }
    config = override(CONFIG, few)
    cells = make_specs(config, [{"metric.name": "l2"}])
    tuning.search(config, cells, self._searched, f"{self._searched}.journal")

  @functools.cached_property
  def run(self):
    """The folder of a reported run of the hinge loss."""
    return next(self.reported.glob(f"runs/*{HINGE}*/{TEST}")).parent

  def read(self, name):
    """A record of that run."""
    return run_files.read_json(self.run / name)

  def tuned(self, **values):
    """The entry of a cell in tuning.json, with other values."""
    (real,) = run_files.read_json(self._searched / tuning.TUNING)
    return changed(real, values)

  def tuned_once(self, **values):
    """The same for an earlier study, in which each cell had one search."""
    entry = self.tuned(**values)
    of_searches = ("search", "seeds", "scores", "history")
    return {k: v for k, v in entry.items() if k not in of_searches}

  def baseline(self, name, score, **values):
    """A record of baselines.json with another score."""
    found = run_files.read_json(self.reported / BASELINES)
    (real,) = [b for b in found if b["name"] == name and not b["seed"]]
    test = changed(real["test"], dict.fromkeys(COLUMNS, score))
    return changed(real, {"test": test, **values})

  def scores(self, value, last=None):
    """The contents of test.json for a run with this score."""
    kinds = {"selected": value, "last": value if last is None else last}
    geometry = {"geometry/effective_rank": 2.0, "geometry/collapsed": 0.0}
    return {
      kind: changed(scores, dict.fromkeys(COLUMNS, kinds[kind]) | geometry)
      for kind, scores in run_files.read_own(self.run / TEST).items()
    }

  def write_run(
    self,
    folder,
    config,
    score=0.5,
    seed=0,
    diverged=False,
    dim=2,
    class_names=None,
  ):
    """Writes a finished run of a config, with this validation score.

    Its numbers are twice those of the config.
    """
    folder.mkdir(parents=True)
    run_files.write_json(folder / run_files.CONFIG, as_dict(config))
    if diverged:
      run_files.write_json(folder / run_files.RESULT, DIVERGED)
      return folder
    arrays = {}
    for number, part in enumerate(("validation", "test")):
      points, labels = clusters(100 * number + seed, dim=dim, spread=2.0)
      arrays |= {f"{part}_embeddings": points, f"{part}_labels": labels}
    real = run_files.read_own(self.run / run_files.EMBEDDINGS)
    arrays = changed(real, arrays)
    for part in ("validation", "test"):
      if class_names is None:
        del arrays[f"{part}_class_names"]  # Older runs have none.
      else:
        arrays[f"{part}_class_names"] = np.array(class_names)
    run_files.write_arrays(folder / run_files.EMBEDDINGS, arrays)
    result = self.read(run_files.RESULT)
    validation = changed(
      result["validation_selected"], {config.eval.select: score}
    )
    numbers = traced_numbers(config).items()
    result = changed(
      result,
      {
        "digest": digest(config),
        "commit": "0123456789ab",
        "metric": objectives_of(config).main.eval_metric,
        "normalize": "none",
        "numbers": {
          k: 2 * v if k.startswith("loss.") else v for k, v in numbers
        },
        "seconds": 1.5,
        "train": changed(result["train"], {"train/active_fraction": 0.25}),
        "validation_selected": validation,
      },
    )
    run_files.write_json(folder / run_files.RESULT, result)
    return folder

  def write_study(
    self,
    folder,
    scored,
    diverged=(),
    missing=(),
    class_names=None,
    **fields,
  ):
    """Writes a study of (overrides, score); test scores equal validation."""
    config = tiny_config(eval__columns=COLUMNS, **fields)
    rows = make_specs(config, [overrides for overrides, _ in scored])
    folder.mkdir()
    claim_study(folder, config, rows, cells_of(rows), {})
    run_files.write_json(folder / BASELINES, [])
    for index, (row, (_, score)) in enumerate(zip(rows, scored, strict=True)):
      if index in missing:
        continue
      where = folder / "runs" / row.name
      self.write_run(
        where,
        row.config,
        score,
        index,
        index in diverged,
        class_names=class_names,
      )
      if index not in diverged:
        run_files.write_json(where / TEST, self.scores(score))
    return folder


def scored_study(folder):
  """A study as a report prints it, with its chosen runs scored."""
  return score_chosen(read_study(folder))


def changed(record, values):
  """A copy of a record with other values under existing keys."""
  unknown = values.keys() - record.keys()
  assert not unknown, f"the code writes no {sorted(unknown)}"
  return {**record, **values}


def change(path, **values):
  """Changes values in a JSON file."""
  path.write_text(json.dumps(changed(json.loads(path.read_text()), values)))


def clusters(seed, classes=3, images=8, dim=2, spread=0.3):
  """Gaussian clusters around well-separated centers."""
  rng = np.random.default_rng(seed)
  labels = np.repeat(np.arange(classes), images).astype(np.int32)
  centers = 4 * rng.normal(size=(classes, dim))
  points = centers[labels] + spread * rng.normal(size=(len(labels), dim))
  return points.astype(np.float32), labels
