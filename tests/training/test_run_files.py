"""Records: strict JSON, with NaN restored where a number was."""

import json
import math

import numpy as np
import pytest

from metric_learning.training import run_files


def strict(text):
  """Parses like any other reader of JSON."""
  return json.loads(text, parse_constant=lambda name: pytest.fail(name))


def test_nan_and_infinity_are_written_strictly_and_read_again(tmp_path):
  value = {
    "step": 3,
    "selected_step": None,
    "test": {"own/eer": math.nan, "geometry/rho_spectrum_1": math.inf},
    "class_interval": {"own/map_at_r": (-np.inf, np.float64("nan"))},
    "rows": [{"own/auc": 0.5, "trial": float("nan")}],
    "metric": {"p": math.inf},
  }
  path = tmp_path / "some.json"
  run_files.write_json(path, value)
  expected = {
    "step": 3,
    "selected_step": None,
    "test": {"own/eer": None, "geometry/rho_spectrum_1": "Infinity"},
    "class_interval": {"own/map_at_r": ["-Infinity", None]},
    "rows": [{"own/auc": 0.5, "trial": None}],
    "metric": {"p": "Infinity"},
  }
  assert strict(path.read_text()) == expected
  expected["test"] = {"own/eer": math.nan, "geometry/rho_spectrum_1": math.inf}
  expected["class_interval"] = {"own/map_at_r": [-math.inf, math.nan]}
  expected["metric"] = {"p": math.inf}
  assert run_files.read_json(path) == expected


def test_metrics_are_strict_and_read_back(tmp_path):
  metrics = run_files.Metrics(tmp_path, 0)
  metrics.write(1, {"validation/own/eer": math.nan})
  metrics.write(2, {"validation/own/eer": 0.5})
  for again in range(2):
    for line in (tmp_path / run_files.METRICS).read_text().splitlines():
      strict(line)
    first, second = run_files.read_metrics(tmp_path)
    assert math.isnan(first["validation/own/eer"]), again
    assert second == {"step": 2, "validation/own/eer": 0.5}
    run_files.Metrics(tmp_path, 2)  # writes what it keeps again


def test_all_json_of_a_study_is_strict(real_study):
  paths = [*real_study.reported.rglob("*.json")]
  lines = [*real_study.reported.rglob("*.jsonl")]
  names = {path.name for path in (*paths, *lines)}
  assert names >= {
    *("study.json", "baselines.json", "trace.json", "test.json"),
    *("config.json", "data.json", "environment.json", "result.json"),
    "metrics.jsonl",
  }
  for path in (*paths, *real_study._searched.rglob("*.json")):
    strict(path.read_text())
  for path in lines:
    for line in path.read_text().splitlines():
      strict(line)


def test_no_json_is_written_around_the_writer():
  # Keys of dicts in memory and texts of the log may be; files may not.
  package = run_files.Path(run_files.__file__).parents[1]
  for path in package.rglob("*.py"):
    text = path.read_text()
    assert "json.dump(" not in text, path
    assert "json.load(" not in text, path


def test_leftovers_of_one_file_are_dropped_alone(tmp_path):
  parts = [tmp_path / f".{n}.json-x.part" for n in ("000-again", "001-again")]
  for path in (*parts, tmp_path / "000-again.json"):
    path.touch()
  run_files.drop_leftovers(tmp_path, "000-again.json")
  assert sorted(tmp_path.iterdir()) == [parts[1], tmp_path / "000-again.json"]
  run_files.drop_leftovers(tmp_path)
  assert [*tmp_path.iterdir()] == [tmp_path / "000-again.json"]
