"""The commands that use a finished run: their output, and their refusals."""

import csv

import numpy as np
import pytest
from PIL import Image

from metric_learning import data, inference
from metric_learning.evaluation import pair_distances, verification
from metric_learning.training import train
from tests.tiny import tiny_config

CONFIG = tiny_config(train__steps=2, train__eval_every=2, train__save_every=2)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
  """A folder with a run, and with photographs of four digits."""
  root = tmp_path_factory.mktemp("used")
  splits = data.load(CONFIG.data)
  train(CONFIG, root / "run", splits=splits)
  for part, first in (("known", 0), ("new", 3)):
    for label in range(4):
      members = np.flatnonzero(splits.test.labels == label)[first : first + 3]
      (root / part / f"digit {label}").mkdir(parents=True)
      for number, index in enumerate(members):
        pixels = Image.fromarray(splits.test.inputs[index, :, :, 0])
        pixels.save(root / part / f"digit {label}" / f"{number}.png")
  return root


def read(path):
  with path.open(newline="") as file:
    return list(csv.DictReader(file))


def assert_done(done):
  assert done.returncode == 0, done.stderr


def test_embeds_and_searches(run, place, tmp_path):
  use = f"--run={place / 'run'}"
  points, hits = tmp_path / "points.npz", tmp_path / "hits.csv"
  done = run(
    *(use, f"--input={place / 'known'}", f"--output={points}"), script="embed"
  )
  assert_done(done)
  used = inference.load(place / "run")
  expected = used.embed(place / "known")
  with np.load(points) as file:
    np.testing.assert_array_equal(file["embeddings"], expected)
    assert (
      file["labels"].tolist()
      == np.repeat([f"digit {i}" for i in range(4)], 3).tolist()
    )
    assert file["paths"][0] == str(place / "known" / "digit 0" / "0.png")
  done = run(
    *(use, f"--gallery={points}", "--k=2", f"--output={hits}"),
    f"--page={tmp_path / 'hits.html'}",
    script="search",
  )
  assert_done(done)
  rows = read(hits)
  exact = used.distances(expected)
  np.fill_diagonal(exact, np.inf)
  nearest = np.sort(exact, axis=1)[:, :2].ravel()
  np.testing.assert_allclose([float(r["distance"]) for r in rows], nearest)
  assert all(row["query"] != row["hit"] for row in rows)
  assert (tmp_path / "hits.html").read_text().count("<img ") == 12 * 3


def test_verifies_pairs_and_says_what_is_left_out(run, place, tmp_path):
  (tmp_path / "broken.png").write_bytes(b"no image")
  names = inference.images_in(place / "new")
  labels = np.repeat(np.arange(4), 3)
  pairs = [(i, j) for i in range(12) for j in range(i)]
  lines = [
    f"{names[i]},{names[j]},{int(labels[i] == labels[j])}" for i, j in pairs
  ]
  table = tmp_path / "pairs.csv"
  table.write_text(
    "\n".join(["first,second,same", *lines, f"broken.png,{names[0]},1"])
  )
  use = (f"--run={place / 'run'}", f"--pairs={table}", "--far=0.05")
  done = run(*use, script="verify")
  assert done.returncode == 2
  assert "cannot read the image" in done.stderr and "broken.png" in done.stderr
  out = tmp_path / "decided.csv"
  done = run(*use, "--skip_bad", f"--output={out}", script="verify")
  assert_done(done)
  assert "1 of 67 pairs are left out" in done.stdout
  used = inference.load(place / "run")
  points = used.embed(place / "new")
  first, second = np.array(pairs).T
  distances = pair_distances(points[first], points[second], used.metric)
  expected = verification(distances, labels[first] == labels[second])
  said = dict(
    line.split() for line in done.stdout.splitlines() if line.count(" ") == 1
  )
  assert float(said["eer"]) == pytest.approx(expected["eer"], rel=1e-5)
  rows = read(out)
  threshold = used.verify(points[:1], points[:1], far=0.05).threshold.distance
  assert [row["accepted"] == "1" for row in rows] == list(
    distances <= threshold
  )


def test_identifies(run, place, tmp_path):
  out = tmp_path / "names.csv"
  done = run(
    f"--run={place / 'run'}",
    *(f"--gallery={place / 'known'}", f"--probes={place / 'new'}"),
    *("--far=0.2", f"--output={out}"),
    script="identify",
  )
  assert_done(done)
  used = inference.load(place / "run")
  labels = np.repeat([f"digit {i}" for i in range(4)], 3)
  index = used.index(used.embed(place / "known"), labels)
  found = index.identify(used.embed(place / "new"), far=0.2)
  rows = read(out)
  assert [row["label"] or None for row in rows] == found.labels
  assert [row["unknown"] == "1" for row in rows] == [
    label is None for label in found.labels
  ]


@pytest.mark.parametrize(
  ("script", "arguments", "said"),
  [
    ("embed", ("--output=a.npz",), "which input? --input=photos"),
    ("embed", ("--input=/none", "--output=a.txt"), "choose .npz or .parquet"),
    ("search", ("--gallery=/none",), "which output file? --output=hits.csv"),
    ("verify", ("--first=a.png",), "--pairs=pairs.csv"),
    ("identify", ("--gallery=a", "--probes=b"), "--output=names.csv"),
  ],
)
def test_what_is_missing_is_said_before_anything_is_read(
  run, script, arguments, said
):
  done = run("--run=/no/such/run", *arguments, script=script)
  assert done.returncode == 2
  assert said in done.stderr and done.stderr.count("\n") == 1
