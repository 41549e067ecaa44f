"""Values of a run in other formats, read back; and lines for people."""

import contextlib
import logging
import os
import signal
import socket
import struct
import subprocess
import sys
import time
import urllib.request

import numpy as np
import pytest
from scipy.spatial.distance import pdist

from metric_learning import InputError
from metric_learning.training import progress, run_files, train, writers
from metric_learning.training.config import as_dict
from tests.tiny import tiny_config


def events(folder):
  """The contents of the event files in a folder: (tag, step, typed value)."""
  from tensorboardX.proto.event_pb2 import Event

  for path in sorted(folder.glob("events.*")):
    content, at = path.read_bytes(), 0
    while at < len(content):
      (length,) = struct.unpack_from("<Q", content, at)
      event = Event.FromString(content[at + 12 : at + 12 + length])
      at += 16 + length  # two checksums of four bytes
      for value in event.summary.value:
        yield value.tag, event.step, value


def test_tensorboard_has_every_value_of_metrics_jsonl(
  tmp_path, monkeypatch, caplog
):
  pytest.importorskip("tensorboardX")
  monkeypatch.setenv(writers.WANTED, "tensorboard,embeddings")
  with caplog.at_level(logging.INFO, "metric_learning"):
    train(tiny_config(train__steps=3), tmp_path)
  written = {
    (name, record["step"]): value
    for record in run_files.read_metrics(tmp_path)
    for name, value in record.items()
    if name != "step"
  }
  values = list(events(tmp_path / writers.TENSORBOARD))
  found = {
    (n, s): v.simple_value for n, s, v in values if not v.HasField("histo")
  }
  assert found.keys() == written.keys()
  assert found == pytest.approx(written, nan_ok=True, rel=1e-5)
  # Histograms of the validation part, which is that of the last step.
  arrays = run_files.read_arrays(tmp_path / run_files.EMBEDDINGS)
  points, labels = (
    arrays[f"validation_{kind}"] for kind in ("embeddings", "labels")
  )
  lot = np.random.default_rng(0).permutation(len(points))[:500]
  metric = run_files.read_json(tmp_path / run_files.RESULT)["metric"]
  distances = pdist(points[lot].astype(float), metric)
  same = pdist(labels[lot, None]) == 0
  expected = {
    "validation/embeddings": points,
    "validation/distances/same": distances[same],
    "validation/distances/different": distances[~same],
  }
  drawn = {(n, s): v.histo for n, s, v in values if v.HasField("histo")}
  assert drawn.keys() == {(name, 3) for name in expected}
  for (name, _), histogram in drawn.items():
    assert histogram.num == expected[name].size
    assert histogram.sum == pytest.approx(expected[name].sum(), rel=1e-4)
    assert histogram.max == pytest.approx(expected[name].max(), rel=1e-4)
  # The writer of embeddings kept the same.
  (kept,) = writers.kept_steps(tmp_path).items()
  assert kept[0] == 3
  np.testing.assert_array_equal(np.load(kept[1]), points)
  # Not on a terminal: plain lines, one for each evaluation.
  (line,) = [r.getMessage() for r in caplog.records if "left" in r.getMessage()]
  loss = written["train/loss", 3]
  assert line.startswith(f"step 3 of 3, loss {loss:.4g}")
  assert line.endswith("0:00 left")


@pytest.fixture
def mlflow_server(tmp_path):
  """The address of a local server that stores files."""
  pytest.importorskip("mlflow")
  with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    port = free.getsockname()[1]
  store = f"--backend-store-uri=file://{tmp_path}/store"
  where = ["--host=127.0.0.1", f"--port={port}", "--workers=1"]
  process = subprocess.Popen(
    [sys.executable, "-m", "mlflow", "server", store, *where],
    env={**os.environ, "MLFLOW_ALLOW_FILE_STORE": "true"},
    cwd=tmp_path,
    stdout=subprocess.DEVNULL,
    stderr=subprocess.DEVNULL,
    start_new_session=True,
  )
  address = f"http://127.0.0.1:{port}"
  for _ in range(120):
    with contextlib.suppress(OSError):
      urllib.request.urlopen(f"{address}/health").close()
      break
    time.sleep(1)
  yield address
  os.killpg(process.pid, signal.SIGTERM)
  process.wait()


def test_mlflow_has_values_and_config(tmp_path, monkeypatch, mlflow_server):
  import mlflow

  monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_server)
  monkeypatch.setenv(writers.WANTED, "mlflow")
  folder = tmp_path / "run"
  folder.mkdir()
  config = tiny_config(loss__temperature=0.5)
  run_files.write_json(folder / run_files.CONFIG, as_dict(config))
  written = writers.Writers(folder, 0)
  written.write(3, {"train/loss": 0.25})
  written.close()
  client = mlflow.MlflowClient(mlflow_server)
  (run,) = client.search_runs(["0"])
  assert run.info.status == "FINISHED" and run.info.run_name == "run"
  assert run.data.params["loss.temperature"] == "0.5"
  (metric,) = client.get_metric_history(run.info.run_id, "train/loss")
  assert (metric.step, metric.value) == (3, 0.25)


def test_a_writer_that_is_not_there_is_refused_before_anything(
  tmp_path, monkeypatch
):
  monkeypatch.setenv(writers.WANTED, "tensorbord")
  with pytest.raises(InputError, match="unknown writer 'tensorbord'; did you"):
    train(tiny_config(), tmp_path / "run")
  monkeypatch.setitem(
    writers.WRITERS, "mine", writers.Kind(print, "no_such_module", "mine")
  )
  monkeypatch.setenv(writers.WANTED, "mine")
  with pytest.raises(
    InputError, match=r"pip install 'metric-learning\[mine\]'"
  ):
    train(tiny_config(), tmp_path / "run")
  assert not (tmp_path / "run").exists()


def test_a_terminal_has_one_line_that_lives(monkeypatch, capsys):
  monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
  watched = progress.Progress(2, 4, shown=True)
  watched.logged({"train/loss": 0.5, "train/active_fraction": 0.25})
  watched.step()
  watched.step()
  watched.evaluated(4)
  watched.close()
  said = capsys.readouterr().err
  assert said.count("\n") == 1 and "cpu" in said
  assert "4/4" in said and "loss 0.5, active 0.25" in said
