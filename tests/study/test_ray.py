"""Ray: rows are tasks of a cluster, repeated if a worker dies."""

import os
import signal

import numpy as np
import pytest

from metric_learning import InputError, inference
from metric_learning.study import make_specs, read_study, run_study
from metric_learning.study.launchers import ray as on_ray
from metric_learning.study.launchers.claims import RUNS
from metric_learning.training import run_files
from tests.studies import scored_study
from tests.tiny import tiny_config

ray = pytest.importorskip("ray", reason="pip install -e '.[ray]'")

CONFIG = tiny_config(
  loss__name="contrastive",
  train__steps=2,
  train__eval_every=2,
  train__save_every=2,
)


# Ray starts its processes by a fork, of which JAX warns; they exec at once.
pytestmark = pytest.mark.filterwarnings("ignore:os.fork:RuntimeWarning")


@pytest.fixture
def cluster():
  """Two workers with one processor each."""
  ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
  yield
  ray.shutdown()


def killed_once(marker):
  """The work of a task; the first worker that starts it is killed."""

  def work(fields, splits, code):
    from metric_learning.study.launchers import ray

    try:
      os.close(os.open(marker, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
      return ray.train_elsewhere(fields, splits, code)
    os.kill(os.getpid(), signal.SIGKILL)

  return work


def test_more_than_the_cluster_has_is_refused(cluster, tmp_path):
  rows = make_specs(CONFIG, [{"seed": 0}])
  with pytest.raises(InputError, match=r"gpus_per_run=1, .* has 0"):
    run_study(CONFIG, rows, tmp_path, launcher="ray", gpus_per_run=1.0)


def test_a_worker_of_other_code_is_refused(cluster, tmp_path, monkeypatch):
  monkeypatch.setattr(run_files, "code", lambda: "another")
  rows = make_specs(CONFIG, [{"seed": 0}])
  with pytest.raises(
    InputError, match=r"(?s)1 tasks failed.* has other code of"
  ):
    run_study(CONFIG, rows, tmp_path, launcher="ray")


def test_a_worker_is_killed_and_its_row_done_again(
  cluster, tmp_path, monkeypatch
):
  marker = tmp_path / "killed"
  monkeypatch.setattr(on_ray, "train_elsewhere", killed_once(str(marker)))
  rows = make_specs(CONFIG, [{"seed": seed} for seed in range(3)])
  folder, serial = tmp_path / "ray", tmp_path / "serial"
  run_study(CONFIG, rows, folder, launcher="ray")
  run_study(CONFIG, rows, serial)
  assert marker.exists()
  assert read_study(folder).missing == 0
  for row in rows:
    there, here = (f / RUNS / row.name for f in (folder, serial))
    names = {path.name for path in here.iterdir()}
    assert {path.name for path in there.iterdir()} == names
    assert run_files.EMBEDDINGS not in names and "checkpoints" in names
    scores = [
      run_files.read_json(f / run_files.RESULT)["validation"]
      for f in (there, here)
    ]
    assert scores[0] == pytest.approx(scores[1])
    run = inference.load(there)
    assert np.isfinite(run.embed(np.zeros((1, 8, 8, 1), np.uint8))).all()
  # Their checkpoints came back: chosen runs are embedded and scored here.
  found, expected = (
    [run.tested.selected for run in study.cells[0].chosen.runs]
    for study in map(scored_study, (folder, serial))
  )
  for one, other in zip(found, expected, strict=True):
    assert one == pytest.approx(other, nan_ok=True)
