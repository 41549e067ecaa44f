"""The parts of the accelerator run that train networks.

`population`: members as one program. `conv4`, `resnet50`: one run beside the
same network in PyTorch. `repeat`: two equal runs, and one that is killed and
resumed.
"""

import functools
import importlib.util
import os
import subprocess
import sys
import tempfile
import time
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
  Unavailable,
  attempt,
  call_line,
  planned,
  timed,
  torch_and_device,
  torch_line,
)
from experiments.benchmarks.training import Network
from metric_learning import models
from metric_learning.data.feeds import gather_resident
from metric_learning.specs import InputSpec
from metric_learning.training import base_config, run_files
from metric_learning.training.step import compiled

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
    ours = functools.partial(training.in_turn, network, 1)
    yield _sides(
      network,
      functools.partial(call_line, clock, ours),
      functools.partial(_conv4_in_torch, clock, network),
    )


def _sides(
  network: Network, ours: Callable[[], Line], theirs: Callable[[], Line]
) -> Line:
  """Both sides, with the images that each trains on in a second."""
  overrides = dict(network.overrides)
  batch = overrides.get("batch.classes_per_batch", 32)
  batch *= overrides.get("batch.images_per_class", 4)
  line: Line = {"name": network.name, "shape": list(network.image_shape)}
  line |= {"batch": batch, "steps": network.steps}
  line |= {"ours": attempt(ours), "theirs": attempt(theirs)}
  for side in ("ours", "theirs"):
    if "seconds" in line[side]:
      images = batch * network.steps
      line[side]["images_per_s"] = images / line[side]["seconds"]
  return line


def _conv4_in_torch(clock: Clock, network: Network) -> Line:
  torch, where = torch_and_device()
  model = _model_of(network)
  params, stats = model.init(jax.random.key(0))
  net = _torch_conv4(torch, network.image_shape, params).to(where)
  apart = _apart(torch, net, (model, (params, stats)), network, where)
  line = _steps_in_torch(clock, network, net)
  return {**line, "embeddings_apart": apart}


def _steps_in_torch(
  clock: Clock, network: Network, net: Any, bfloat16: bool = False
) -> Line:
  """The steps of `training.in_turn` in PyTorch, without torch.compile."""
  torch, where = torch_and_device()
  # Its convolutions like channels last; conv4 is written as most would.
  last = network.name != "conv4"
  layout = torch.channels_last if last else torch.contiguous_format
  # As JAX multiplies and convolves float32 by default on such a device.
  torch.backends.cudnn.allow_tf32 = True
  torch.backends.cuda.matmul.allow_tf32 = where == "cuda"
  try:
    _, _, (images, labels), batches, *_ = training.members_of(network)
    images = torch.tensor(np.asarray(images).transpose(0, 3, 1, 2).copy())
    images = images.to(where)
    labels = torch.tensor(np.asarray(labels)).to(where)
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    cast = torch.autocast(where, torch.bfloat16, enabled=bfloat16)

    def call() -> None:
      for number in range(network.steps):
        indices = torch.from_numpy(np.asarray(batches(number).indices))
        indices = indices.to(where)
        optimizer.zero_grad(set_to_none=True)
        with cast:
          x = images[indices].float() / 255
          embeddings = net(x.to(memory_format=layout))
        loss = _per_pair(torch, embeddings.float(), labels[indices])
        loss.backward()
        optimizer.step()

    return torch_line(clock, torch, call)
  finally:
    torch.backends.cuda.matmul.allow_tf32 = False


def _torch_conv4(torch: Any, shape: tuple[int, int, int], params: Any) -> Any:
  """`metric_learning.models.conv.Conv4` with its parameters."""
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
  return net


def _model_of(network: Network, **more: Any) -> models.Model:
  spec = InputSpec(network.image_shape, "image")
  return models.create(network.name, input_spec=spec, embedding_dim=64, **more)


def _apart(
  torch: Any,
  net: Any,
  own: tuple[models.Model, Any],
  network: Network,
  where: str,
) -> float:
  """How far the embeddings of both networks are apart, relative to ours."""
  shape = 8, *network.image_shape
  images = np.random.default_rng(1).random(shape, np.float32)
  model, (params, stats) = own
  ours, _ = model.apply(params, stats, jnp.asarray(images), train=False)
  net.eval()
  with torch.no_grad():
    theirs = net(torch.tensor(images.transpose(0, 3, 1, 2).copy()).to(where))
  net.train()
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


# --- resnet50 ---------------------------------------------------------------

# Fields of the config, and the same in PyTorch: (bfloat16, remat).
_PRECISIONS: dict[str, tuple[dict[str, Any], tuple[bool, bool]]] = {
  "float32": ({}, (False, False)),
  "bfloat16": ({"model.dtype": "bfloat16"}, (True, False)),
  "bfloat16, remat": (
    {"model.dtype": "bfloat16", "model.remat": True},
    (True, True),
  ),
}


def resnet50(clock: Clock) -> Iterator[Line]:
  """Images per second and memory of a trunk at full size, beside PyTorch."""
  network, forms = Network("resnet50", (224, 224, 3)), [*_PRECISIONS]
  if clock.tiny:
    network, forms = _tiny(Network("resnet18"), (32, 32, 3)), forms[-1:]
  for name in forms:
    fields, form = _PRECISIONS[name]
    if clock.left() < 0:
      return
    own = network._replace(overrides={**network.overrides, **fields})
    ours = functools.partial(_planned_steps, clock, own)
    theirs = functools.partial(_torchvision, clock, network, *form)
    yield {**_sides(own, ours, theirs), "form": name}


def _planned_steps(clock: Clock, network: Network) -> Line:
  """The steps of `training.in_turn`, and the memory that the compiler plans."""
  program, state, whole, batches, key, numbers = training.members_of(network)
  own = lambda number: (batches(number).indices, None)
  start = time.perf_counter()
  jitted: Any = compiled(program.step, gather_resident)
  step = jitted.lower(state, 0, whole, own(0), key, numbers).compile()
  line: Line = {"compile": time.perf_counter() - start}
  line["planned"] = planned(step)

  def call() -> None:
    nonlocal state
    for number in range(network.steps):
      state, values = step(state, number, whole, own(number), key, numbers)
    jax.block_until_ready(values)

  return {**line, **timed(clock, call), "peak": None}


def _torchvision(
  clock: Clock, network: Network, bfloat16: bool, remat: bool
) -> Line:
  """The steps of `training.in_turn`, with the network of torchvision."""
  torch, where = torch_and_device()
  if importlib.util.find_spec("torchvision") is None:
    raise Unavailable("torchvision is not installed")
  import torchvision

  torch.manual_seed(0)
  make = getattr(torchvision.models, network.name)
  net = make(num_classes=64).to(where, memory_format=torch.channels_last)
  apart = _apart(torch, net, _copied(torch, net, network), network, where)
  if remat:
    for block in net.modules():
      if type(block).__name__ in ("BasicBlock", "Bottleneck"):
        block.forward = functools.partial(
          torch.utils.checkpoint.checkpoint, block.forward, use_reentrant=False
        )
  line = _steps_in_torch(clock, network, net, bfloat16)
  return {**line, "embeddings_apart": apart}


def _copied(torch: Any, net: Any, network: Network) -> tuple[models.Model, Any]:
  """Our network with the parameters of torchvision's."""
  with tempfile.TemporaryDirectory() as folder:
    path = os.path.join(folder, "net.pth")
    torch.save(net.state_dict(), path)
    model = _model_of(network, weights=path)
    params, stats = model.init(jax.random.key(0))
  weight, bias = (x.detach().cpu().numpy() for x in net.fc.parameters())
  params["head"] = {"kernel": jnp.array(weight.T), "bias": jnp.array(bias)}
  return model, (params, stats)


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
