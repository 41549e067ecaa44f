"""Runs that differ only in numbers and seeds, trained as one program.

Their states are stacked along a new axis, and the step is mapped over it. The
members are divided among the devices, or among groups of `config.mesh.batch`
devices. Each member has the folder of a single run and resumes from its
checkpoints.
"""

import contextlib
import functools
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec
from ml_collections import ConfigDict

from metric_learning import data, devices
from metric_learning.data.feeds import Batch
from metric_learning.data.samplers import Draw, Draws
from metric_learning.errors import InputError
from metric_learning.models.layers import as_products
from metric_learning.training import holding, run_files, stopping
from metric_learning.training.checkpoints import DamagedError
from metric_learning.training.config import (
  as_dict,
  batch_devices,
  traced_numbers,
)
from metric_learning.training.loop import is_evaluated, is_logged
from metric_learning.training.plan import feed_of, identity_of, make_plan
from metric_learning.training.recorder import NotFiniteError, Recorder
from metric_learning.training.step import (
  CompiledStep,
  Step,
  Values,
  on_fed,
)

_MEMBERS, _SHARED = PartitionSpec(devices.MEMBERS), PartitionSpec()


def common_of(config: ConfigDict) -> str:
  """The config that the members of a population share: no numbers, no seed.

  >>> from metric_learning.training import base_config, override
  >>> one = base_config().lock()
  >>> other = override(one, {"loss.temperature": 0.5, "seed": 3})
  >>> common_of(one) == common_of(other)
  True
  >>> common_of(one) == common_of(override(one, {"metric.name": "l1"}))
  False
  """
  own = {"seed", *traced_numbers(config)}
  fields = run_files.flatten(as_dict(config))
  return json.dumps({k: v for k, v in fields.items() if k not in own})


def train_population(
  configs: Sequence[ConfigDict],
  workdirs: Sequence[Path],
  splits: data.Splits,
  *,
  embeddings: bool = True,
) -> list[dict[str, Any]]:
  """Trains unfinished runs together, and returns their results.

  A member whose loss stops being finite has the result {"diverged": reason};
  the other members go on. The `seconds` of a member are its share of the total
  time. For `embeddings`, see `train`.

  Raises:
    InputError: for configs or data that cannot be used, members that differ in
      more than numbers and seeds, or a workdir that belongs to another config
      or other data.
  """
  plans = [make_plan(config, splits, population=True) for config in configs]
  if len({(common_of(c), batch_devices(c)) for c in configs}) != 1:
    raise InputError(
      "members of a population may differ only in traced numbers and seeds."
    )
  if configs[0].data.stream:
    raise InputError(
      "members of a population share the images on the device: set"
      " config.data.stream=False."
    )
  with contextlib.ExitStack() as opened:
    for config, workdir in zip(configs, workdirs, strict=True):
      run_files.make_folder(workdir)
      opened.enter_context(holding.held(workdir))
      run_files.claim(workdir, as_dict(config), identity_of(config, splits))
    opened.enter_context(stopping.heeded())
    runs = [
      opened.enter_context(
        contextlib.closing(Recorder(p, w, embeddings=embeddings))
      )
      for p, w in zip(plans, workdirs, strict=True)
    ]
    return _train(runs)


def _train(runs: list[Recorder]) -> list[Any]:
  plan, config = runs[0].plan, runs[0].plan.config
  mesh = devices.mesh_of(batch_devices(config), population=True)
  # Pads with repeated members so that they divide evenly among devices.
  places = mesh.shape[devices.MEMBERS]
  seats = np.arange(-(-len(runs) // places) * places) % len(runs)

  def stack(trees: Sequence[Any]) -> Any:
    return _stacked([trees[i] for i in seats], mesh)

  put = functools.partial(devices.put, mesh=mesh)
  first, states = _restore(runs)
  together = _together([runs[i].plan.draws for i in seats])
  feed = feed_of(plan._replace(draws=together), first, put)
  step = step_of(plan.program.step, feed.gather, mesh=mesh)
  state = stack(states)
  key, traced = stack([r.key for r in runs]), stack([r.traced for r in runs])
  for run in runs:
    run.start(first, members=len(runs))
  results: list[Any] = [None] * len(runs)
  waiting: list[Values] = []

  def alone(there: Any, i: int) -> Any:
    """The state of a member, on the devices of its program."""
    own = jax.tree.map(jnp.asarray, _member(there, i))
    return own if plan.program.mesh is None else devices.put(own, mesh)

  def going() -> Iterator[tuple[int, Recorder]]:
    """The indices of the members that still train."""
    return ((i, run) for i, run in enumerate(runs) if results[i] is None)

  noted = functools.partial(_noted, runs, results)
  for done, own in enumerate(feed.own, first + 1):
    state, values = step(state, done - 1, feed.shared, own, key, traced)
    waiting.append(values)
    if is_logged(config, done):
      steps = jax.device_get(waiting)
      waiting = []
      for i, run in going():
        with noted(i):
          run.log_steps(done, [_member(v, i).named() for v in steps])
    if is_evaluated(config, done):
      there = jax.device_get(state)
      for i, run in going():
        with noted(i):
          run.evaluate(done, alone(there, i))
    if None not in results:
      return results
    if stopping.asked() and done < config.train.steps:
      there = jax.device_get(state)
      state_of = functools.partial(alone, there)
      raise _stopped(dict(going()), done, waiting, state_of)
  there = jax.device_get(state)
  for i, run in going():
    results[i] = run.finish(alone(there, i))
  return results


def _stacked(trees: Sequence[Any], mesh: Mesh) -> Any:
  """Members along the first axis of each leaf, on the devices of a mesh."""
  stack = lambda *leaves: jnp.stack(leaves)
  return on_devices(jax.tree.map(stack, *trees), mesh)


@contextlib.contextmanager
def _noted(
  runs: Sequence[Recorder], results: list[Any], i: int
) -> Iterator[None]:
  """Records members whose values are no longer finite as diverged."""
  try:
    yield
  except NotFiniteError as error:
    results[i] = {"diverged": str(error)}
    run_files.write_json(runs[i].workdir / run_files.RESULT, results[i])


def _stopped(
  going: dict[int, Recorder],
  done: int,
  waiting: list[Any],
  state_of: Callable[[int], Any],
) -> stopping.Stopped:
  """Saves the state of each unfinished member after a signal."""
  steps = jax.device_get(waiting)
  stopped = stopping.Stopped()
  for i, run in going.items():
    own = [_member(values, i).named() for values in steps]
    with contextlib.suppress(NotFiniteError):  # A resumed run raises it again.
      stopped = run.stop(done, state_of(i), own)
  return stopped


def on_devices(stacked: Any, mesh: Mesh | None = None) -> Any:
  """Places stacked members on the devices that train them.

  With arguments on other devices, the second call of the step would compile
  again.
  """
  mesh = mesh or devices.mesh_of(1, population=True)
  return devices.put(stacked, mesh, devices.MEMBERS)


@functools.cache
def step_of(
  step: Step,
  gather: Callable[[Any, Any], Batch],
  products: bool = True,
  mesh: Mesh | None = None,
) -> CompiledStep:
  """The compiled step of all members: `compiled`, mapped over the members.

  With `products`, convolutions are computed as matrix products, as always on a
  CPU. On an accelerator, this can be compared with grouped convolutions.
  """
  mesh = mesh or devices.mesh_of(1, population=True)
  shared = mesh if devices.sharers(mesh) > 1 else None

  def one(*arguments: Any) -> Any:
    with as_products() if products else contextlib.nullcontext():
      return on_fed(step, gather, shared, *arguments)

  # The axis name keeps the members apart if devices also share each batch.
  of_all = jax.vmap(
    one,
    in_axes=(0, None, None, 0, 0, 0),
    spmd_axis_name=devices.MEMBERS if shared else None,
  )
  jit = functools.partial(
    jax.jit, donate_argnums=0, compiler_options=devices.wide_vectors()
  )
  if shared:
    return jit(of_all)
  specs = (_MEMBERS, _SHARED, _SHARED, *[_MEMBERS] * 3)
  return jit(
    jax.shard_map(
      of_all,
      mesh=mesh,
      in_specs=specs,
      out_specs=_MEMBERS,
      # Members are independent, so there is no replication to check.
      check_vma=False,
    )
  )


def _restore(runs: list[Recorder]) -> tuple[int, list[dict[str, Any]]]:
  """The newest step of which all members have an undamaged checkpoint.

  Raises:
    InputError: if all members have checkpoints but no step is undamaged in all,
      or if one cannot be read. Nothing is deleted in either case.
  """
  states = [run.first_state() for run in runs]
  saved = [set(run.checkpoints.reached()) for run in runs]
  first, damages = 0, []
  for step in sorted(set.intersection(*saved), reverse=True):
    try:
      states = [
        run.checkpoints.restore_step(step, state)
        for run, state in zip(runs, states, strict=True)
      ]
    except DamagedError as error:
      damages.append(str(error))
      continue
    first = step
    break
  if not first and all(saved):
    raise runs[0].checkpoints.none_whole(damages or ["no step is in all."])
  for run in runs:
    run.checkpoints.delete_after(first)
  return first, states


def _together(draws: list[Draws]) -> Draws:
  """The batches of all members, stacked."""

  def batch(step: int) -> Draw:
    indices, affinities = zip(*(one(step) for one in draws), strict=True)
    has_affinity = affinities[0] is not None
    return Draw(
      np.stack(indices), np.stack(affinities) if has_affinity else None
    )

  return batch


def _member(tree: Any, i: int) -> Any:
  return jax.tree.map(lambda leaf: leaf[i], tree)
