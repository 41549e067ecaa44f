"""The parts of the accelerator run that train networks.

`population`: members as one program. `conv4`: one run beside the same network
in PyTorch. `repeat`: two equal runs, and one that is killed and resumed.
"""

import functools
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmarks import training
from experiments.benchmarks.clock import (
  Clock,
  Line,
  attempt,
  call_line,
  torch_and_device,
  torch_line,
)
from experiments.benchmarks.training import Network
from metric_learning import models
from metric_learning.specs import InputSpec
from metric_learning.training import base_config, run_files

_ROOT = Path(__file__).parents[2]

# --- population -------------------------------------------------------------

# A head on features of a frozen network: one dense layer on 1,280 numbers.
_HEAD = Network("mlp", (1, 1, 1280), {"model.hidden": ()})
_TINY_BATCH = {"batch.classes_per_batch": 2, "batch.images_per_class": 2}


def _tiny(network: Network, shape: tuple[int, int, int]) -> Network:
  overrides = {**network.overrides, **_TINY_BATCH}
  return network._replace(image_shape=shape, overrides=overrides, steps=1)


def population(clock: Clock) -> Iterator[Line]:
  """Steps of members that train as one program; one run alone first."""
  networks = {"conv4 at 28×28": Network("conv4"), "head on 1,280": _HEAD}
  members: tuple[int, ...] = (1, 8, 32, 128)
  if clock.tiny:
    networks = {
      "conv4 at 28×28": _tiny(Network("conv4"), (16, 16, 1)),
      "head on 1,280": _tiny(_HEAD, (1, 1, 32)),
    }
    members = (1,)
  cases = [
    (name, network, n, form)
    for n in members
    for name, network in networks.items()
    for form in _forms(network, n)
  ]
  for name, network, n, form in cases:
    if clock.left() < 0:
      return
    build = functools.partial(_FORMS[form], network, n)
    line = attempt(functools.partial(call_line, clock, build))
    line |= {"name": name, "form": form, "n": n, "steps": network.steps}
    if "seconds" in line:
      per_step = line["seconds"] / network.steps
      steps = base_config().train.steps
      line |= {
        "run_steps": steps,
        "runs_per_hour": 3600 * n / (per_step * steps),
      }
    yield line


_FORMS: dict[str, Callable[[Network, int], Callable[[], float]]] = {
  "alone": training.in_turn,
  "products": training.population,
  "grouped": functools.partial(training.population, products=False),
}


def _forms(network: Network, n: int) -> Iterator[str]:
  """One run is also measured alone; a head has no convolution to choose."""
  if n == 1:
    yield "alone"
  yield "products"
  if network.name == "conv4":
    yield "grouped"


# --- conv4 ------------------------------------------------------------------


def conv4(clock: Clock) -> Iterator[Line]:
  """Images per second of one run, and of the same network in PyTorch."""
  networks = [Network("conv4", shape) for shape in ((28, 28, 1), (84, 84, 3))]
  if clock.tiny:
    networks = [_tiny(Network("conv4"), (16, 16, 3))]
  for network in networks:
    overrides = dict(network.overrides)
    batch = overrides.get("batch.classes_per_batch", 32)
    batch *= overrides.get("batch.images_per_class", 4)
    line: Line = {"name": "conv4", "shape": list(network.image_shape)}
    line |= {"batch": batch, "steps": network.steps}
    ours = functools.partial(training.in_turn, network, 1)
    line["ours"] = attempt(functools.partial(call_line, clock, ours))
    line["theirs"] = attempt(functools.partial(_in_torch, clock, network))
    for side in ("ours", "theirs"):
      if "seconds" in line[side]:
        images = batch * network.steps
        line[side]["images_per_s"] = images / line[side]["seconds"]
    yield line


def _in_torch(clock: Clock, network: Network) -> Line:
  """The steps of `training.in_turn` in PyTorch, without compilation."""
  torch, where = torch_and_device()
  # As JAX multiplies and convolves float32 by default on such a device.
  torch.backends.cudnn.allow_tf32 = True
  torch.backends.cuda.matmul.allow_tf32 = where == "cuda"
  try:
    _, _, (images, labels), batches, *_ = training.members_of(network)
    images = torch.tensor(np.asarray(images).transpose(0, 3, 1, 2).copy())
    images = images.to(where)
    labels = torch.tensor(np.asarray(labels)).to(where)
    net = _torch_conv4(torch, network.image_shape, where)
    apart = _apart(torch, net, network.image_shape, where)
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)

    def call() -> None:
      for number in range(network.steps):
        indices = torch.from_numpy(np.asarray(batches(number).indices))
        indices = indices.to(where)
        optimizer.zero_grad(set_to_none=True)
        embeddings = net(images[indices].float() / 255)
        _per_pair(torch, embeddings, labels[indices]).backward()
        optimizer.step()

    return {**torch_line(clock, torch, call), "embeddings_apart": apart}
  finally:
    torch.backends.cuda.matmul.allow_tf32 = False


def _torch_conv4(torch: Any, shape: tuple[int, int, int], where: str) -> Any:
  """`metric_learning.models.conv.Conv4`, with the parameters of seed 0."""
  nn = torch.nn
  height, width, channels = shape
  features = 64 * (height // 16) * (width // 16)
  blocks = []
  for cin in (channels, 64, 64, 64):
    blocks += [
      nn.Conv2d(cin, 64, 3, padding=1),
      nn.GroupNorm(8, 64, eps=1e-6),
      nn.ReLU(),
      nn.MaxPool2d(2),
    ]
  net = nn.Sequential(*blocks, nn.Flatten(), nn.Linear(features, 64))
  params, _ = _conv4(shape).init(jax.random.key(0))
  fill = lambda to, array: to.data.copy_(torch.tensor(np.array(array)))
  for i in range(4):
    ours = params[f"block{i + 1}"]
    conv, norm = net[4 * i], net[4 * i + 1]
    fill(conv.weight, np.transpose(ours["conv"]["kernel"], (3, 2, 0, 1)))
    fill(conv.bias, ours["conv"]["bias"])
    fill(norm.weight, ours["norm"]["scale"])
    fill(norm.bias, ours["norm"]["bias"])
  # Ours flattens [h, w, c], theirs [c, h, w].
  kernel = np.reshape(
    params["head"]["kernel"], (height // 16, width // 16, 64, 64)
  )
  kernel = kernel.transpose(2, 0, 1, 3).reshape(features, 64)
  fill(net[-1].weight, kernel.T)
  fill(net[-1].bias, params["head"]["bias"])
  return net.to(where)


def _conv4(shape: tuple[int, int, int]) -> models.Model:
  spec = InputSpec(shape, "image")
  return models.create("conv4", input_spec=spec, embedding_dim=64)


def _apart(torch: Any, net: Any, shape: tuple[int, int, int], where: str):
  """How far the embeddings of both networks are apart, relative to ours."""
  images = np.random.default_rng(1).random((8, *shape), np.float32)
  model = _conv4(shape)
  params, stats = model.init(jax.random.key(0))
  ours, _ = model.apply(params, stats, jnp.asarray(images), train=False)
  with torch.no_grad():
    theirs = net(torch.tensor(images.transpose(0, 3, 1, 2).copy()).to(where))
  difference = np.asarray(ours) - theirs.cpu().numpy()
  return float(np.linalg.norm(difference) / np.linalg.norm(ours))


def _per_pair(torch: Any, embeddings: Any, labels: Any) -> Any:
  """`infonce_per_pair` with its defaults: each positive against negatives."""
  unit = torch.nn.functional.normalize(embeddings)
  similar = unit @ unit.T / base_config().loss.temperature
  same = labels[:, None] == labels
  others = torch.logsumexp(similar.masked_fill(same, -torch.inf), dim=1)
  terms = torch.nn.functional.softplus(others[:, None] - similar)
  positive = same & ~torch.eye(len(labels), dtype=bool, device=same.device)
  return (terms * positive).sum() / positive.sum()


# --- repeat -----------------------------------------------------------------

_FLAGS = (
  "",
  "--xla_gpu_deterministic_ops=true",
  "--xla_gpu_exclude_nondeterministic_ops=true",
)


def repeat(clock: Clock) -> Iterator[Line]:
  """Whether a run repeats itself and resumes exactly, under which flags."""
  # XLA reads its flags once, so that each set of them has its own processes.
  for flags in _FLAGS[:1] if clock.tiny else _FLAGS:
    if clock.left() < 0:
      return
    line = attempt(functools.partial(_repeated, clock, flags))
    yield {"name": flags or "no flags", **line}


def _repeated(clock: Clock, flags: str) -> Line:
  with tempfile.TemporaryDirectory() as folder:
    stages = ["twice"], ["resume"]
    # A rehearsal does both in one process, which compiles once.
    for words in (["twice", "resume", "tiny"],) if clock.tiny else stages:
      command = [sys.executable, "-m", "experiments.benchmarks.repeat"]
      command += [folder, *words]
      done = subprocess.run(
        command,
        cwd=_ROOT,
        env=os.environ
        | {"XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} {flags}".strip()},
        capture_output=True,
        text=True,
        timeout=max(clock.left(), 0) + 30,
        check=False,
      )
      if done.returncode:
        lines = done.stderr.strip().splitlines() or ["no message"]
        raise RuntimeError(f"{words[0]}: {lines[-1]}")
    return run_files.read_json(Path(folder) / "line.json")
