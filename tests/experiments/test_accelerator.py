"""The accelerator run, rehearsed on a CPU: each part, its page, resuming."""

import functools
import json
import re
import time
from pathlib import Path

import jax
import pytest

from experiments.benchmarks import matrices, networks, page, pml, training
from experiments.benchmarks.clock import Clock, Unavailable, attempt
from metric_learning import models
from metric_learning.errors import InputError
from metric_learning.models.resnet import ResNet18

PARTS = (
  "device",
  "losses",
  "l1",
  "population",
  "conv4",
  "retrieval",
  "repeat",
  "resnet50",
  "export",
)
# What no accelerator has measured so far.
UNSEEN = {"export"}


LINE = {
  "name": "one",
  "n": 1,
  "metric": "l2",
  "ours": {"seconds": 1.0, "planned": None, "peak": None},
  "theirs": {"failed": "none"},
  "flops": 1.0,
}


def measure_a_line():
  """A part that takes no time."""
  matrices.losses = lambda clock: iter([LINE])


def interrupt():
  """Ctrl-C after the first line of the second part."""

  def measure(clock):
    yield LINE
    raise KeyboardInterrupt

  matrices.losses = measure


def break_a_part():
  """One part fails completely, and in another, one line fails."""

  def measure(clock):
    raise RuntimeError("no such kernel")
    yield {}

  matrices.losses = measure


def use_up_the_budget():
  """The first part takes all the time there is."""
  device = matrices.device

  def measure(clock):
    yield from device(clock)
    while clock.left() >= 0:
      time.sleep(0.1)

  matrices.device = measure


def assert_refused(done, *words):
  assert done.returncode == 2, done.stderr
  assert done.stderr.startswith("error: ")
  for word in words:
    assert word in done.stderr


def numbers(path):
  return json.loads((path / "accelerator.json").read_text())


def test_an_interrupted_run_resumes_at_the_part(run, tmp_path):
  command = "--tiny", "--parts=device,losses", f"--out={tmp_path}"
  go = functools.partial(run, *command, script="benchmarks.accelerator")
  cut = go(prepare=interrupt)
  assert cut.returncode == 130, cut.stderr
  before = numbers(tmp_path)["parts"]
  assert list(before) == ["device"]
  done = go(prepare=measure_a_line)
  assert done.returncode == 0, done.stderr
  assert "device: measured before" in done.stdout
  after = numbers(tmp_path)["parts"]
  # Its times are those of the first call.
  assert after["device"] == before["device"]
  assert after["losses"]["lines"] == [LINE]
  third = go(prepare=interrupt)
  assert third.returncode == 0 and "losses: measured before" in third.stdout


def test_a_rehearsal_measures_each_part(run, tmp_path):
  # That part compiles for long, and in a test below.
  named = [name for name in PARTS if name != "resnet50"]
  command = "--tiny", "--budget_s=3600", f"--parts={','.join(named)}"
  done = run(*command, f"--out={tmp_path}", script="benchmarks.accelerator")
  assert done.returncode == 0, done.stderr
  parts = numbers(tmp_path)["parts"]
  assert set(parts) == set(named)
  for name, part in parts.items():
    assert part["commit"] and "--tiny" in part["command"]
    assert part["lines"] and not part["cut"]
    # A line has times of its own, or of our side.
    sides = [line.get("ours", line) for line in part["lines"]]
    key = "second_run" if name == "repeat" else "seconds"
    failed = [side for side in sides if key not in side]
    # multi_similarity has no L1 distance; see below.
    assert len(failed) == (name == "losses"), failed
  (line,) = parts["repeat"]["lines"]
  assert line["second"]["equal"] and line["killed"]["equal"]
  page = (tmp_path / "accelerator.md").read_text()
  assert page.count("Not measured") == 1
  for words in (
    "its numbers mean nothing",
    "| contrastive_linear | l1 | 32 |",
    "| forward and backward | 64 |",
    "| conv4 at 28×28 | 1 | grouped |",
    "| conv4 | 16×16×3 | 4 |",
    "| 10 neighbors | l1 | 600 |",
    "| `no flags` | equal, bit for bit | equal, bit for bit |",
    "| mlp | 8×8×1 | 600 |",
    "| yes | 0e+00 | 0e+00 |",
  ):
    assert words in page


def test_a_trunk_is_measured(monkeypatch):
  form = {"model.remat": True}, (False, True)
  monkeypatch.setattr(networks, "_PRECISIONS", {"remat": form})
  # Fewer blocks, which compile in less time.
  monkeypatch.setattr(ResNet18, "repeats", (1, 1, 1, 1))
  models._model.cache_clear()
  (line,) = networks.resnet50(Clock(600, tiny=True))
  models._model.cache_clear()
  assert line["form"] == "remat" and line["shape"] == [32, 32, 3]
  assert line["ours"]["images_per_s"] > 0 and line["ours"]["planned"] > 0


def test_the_page_in_results_is_that_of_its_numbers():
  results = Path(__file__).parents[2] / "results"
  found = json.loads((results / "accelerator.json").read_text())
  assert set(found["parts"]) == set(PARTS) - UNSEEN
  written = (results / "accelerator.md").read_text()
  titles = dict(zip(PARTS, re.findall("^## (.*)$", written, re.M), strict=True))
  assert page.page(found, titles) == written
  assert "| resnet50 | 224×224×3 | 128 | bfloat16, remat |" in written


def test_both_sides_of_each_loss_can_be_made():
  """(A rehearsal measures only some of them.)"""
  known = {pair.name: pair for pair in pml.LOSSES}
  assert set(matrices._TINY_LOSSES) < set(matrices._LOSSES) < set(known)
  made = []
  for family, pair in matrices._pairs(matrices._LOSSES):
    if (pair.loss, family) == ("multi_similarity", "l1"):
      with pytest.raises(InputError, match="multi_similarity"):
        pair.objective()
    else:
      made.append((pair.objective().metric == "l1", family == "l1"))
  assert all(one == other for one, other in made) and len(made) == 11


def test_a_part_that_does_not_fit_is_left_out(run, tmp_path):
  command = "--tiny", "--parts=device,losses", f"--out={tmp_path}"
  script = "benchmarks.accelerator"
  done = run(*command, "--budget_s=1", script=script, prepare=use_up_the_budget)
  assert done.returncode == 0, done.stderr
  assert "losses: left out" in done.stdout
  assert "it takes 150 s." in (tmp_path / "accelerator.md").read_text()


def test_a_part_that_fails_is_named(run, tmp_path):
  command = "--tiny", "--parts=device,losses", f"--out={tmp_path}"
  script = "benchmarks.accelerator"
  done = run(*command, script=script, prepare=break_a_part)
  assert done.returncode == 2
  assert "error: these parts failed, see above: losses." in done.stderr
  assert list(numbers(tmp_path)["parts"]) == ["device"]
  page = (tmp_path / "accelerator.md").read_text()
  assert "Not measured: RuntimeError: no such kernel." in page
  assert "Not measured: not asked." in page


def test_arguments_that_cannot_be(run, tmp_path):
  script = "benchmarks.accelerator"
  out = f"--out={tmp_path}"
  done = run("--tiny", "--parts=l2", out, script=script)
  assert_refused(done, "'l2'", "device")
  assert_refused(run(out, script=script), "only a CPU", "--tiny")
  (tmp_path / "accelerator.json").write_text(
    '{"machine": {"device": "another"}, "tiny": true}'
  )
  assert_refused(run("--tiny", out, script=script), "another", "--out")


def test_help_says_how_long_and_how_to_go_on(run):
  text = run("--help", script="benchmarks.accelerator").stdout
  for words in (*PARTS, "8 minutes", "--budget_s", "resumes", "--no-index"):
    assert words in text


@pytest.mark.parametrize(
  ("lines", "n", "why"),
  [
    ([], 16384, ""),
    ([(1024, {"seconds": 0.01})], 16384, ""),
    # (131,072 / 16,384)² = 64 times 0.5 s.
    ([(16384, {"seconds": 0.5})], 131072, "about 32 s, by n = 16,384"),
    ([(131072, {"seconds": 50.0})], 4096, ""),
    (
      [(4096, {"failed": "out of memory"})],
      16384,
      "out of memory at n = 4,096",
    ),
    ([(4096, {"failed": "out of memory"})], 1024, ""),
    ([(1024, {"failed": "torch is not installed"})], 16384, "torch is not"),
    # The nearest size decides: latency at 1,024 says nothing.
    ([(1024, {"seconds": 2e-3}), (16384, {"seconds": 0.02})], 131072, ""),
    # What was not tried says nothing of a size between.
    ([(4096, {"failed": "about 40 s, by n = 1,024"})], 16384, ""),
    # Latency.
    ([(1024, {"seconds": 9e-4})], 131072, ""),
  ],
)
def test_batches_that_are_not_tried(lines, n, why):
  said = matrices._too_large(n, lines, left=100)
  assert said.startswith(why) and bool(said) == bool(why)


def test_a_batch_is_not_tried_where_less_time_is_left():
  lines = [(1024, {"seconds": 0.01})]
  assert matrices._too_large(16384, lines, left=2) == "about 3 s, by n = 1,024"


@pytest.mark.parametrize(
  ("error", "said"),
  [
    (RuntimeError("RESOURCE_EXHAUSTED: Out of memory while"), "out of memory"),
    (MemoryError(), "out of memory"),
    (Unavailable("torch is not installed"), "torch is not installed"),
    (ValueError("of\n two lines"), "ValueError: of two lines"),
  ],
)
def test_a_line_that_fails_is_its_result(error, said):
  def measure():
    raise error

  assert attempt(measure) == {"failed": said}


def test_the_network_in_torch_is_conv4():
  torch = pytest.importorskip("torch")
  network = training.Network("conv4", (32, 48, 3))
  model = networks._model_of(network)
  own = model.init(jax.random.key(0))
  net = networks._torch_conv4(torch, network.image_shape, own[0])
  assert networks._apart(torch, net, (model, own), network, "cpu") < 1e-5


def test_the_network_of_torchvision_is_ours():
  torch = pytest.importorskip("torch")
  torchvision = pytest.importorskip("torchvision")
  network = training.Network("resnet18", (32, 48, 3))
  net = torchvision.models.resnet18(num_classes=64)
  own = networks._copied(torch, net, network)
  assert networks._apart(torch, net, own, network, "cpu") < 1e-5
