"""Compares the value and gradient of each loss on many devices and on one.

python -m experiments.benchmarks.devices

Writes results/devices.md: the largest relative difference of value and gradient
on 2, 4 and 8 devices, for every loss, and for each miner, metric, reduction,
relation, regularizer, memory and kind of input with a loss that allows it. The
page also shows the memory of one of eight devices for a batch of 8,192. On a
CPU the devices are simulated. `--only=triplet` measures the lines whose name
contains this text, and `--kinds=miner,memory` those of these kinds.
"""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from jax.sharding import Mesh

import metric_learning as ml
from experiments import cli
from metric_learning import devices
from metric_learning.losses.regularizers import REGULARIZERS
from metric_learning.miners import MINERS
from metric_learning.objectives.combination import combine, regularize
from metric_learning.objectives.memory import with_memory
from metric_learning.study.formats import as_markdown
from metric_learning.training import run_files

_OUTPUT = cli.define_path("output", "results/devices.md", "The page.")
_ONLY = flags.DEFINE_string("only", "", "Lines whose name has this text.")
_KINDS = flags.DEFINE_list("kinds", [], "Lines of these kinds; empty for all.")

COUNTS = (2, 4, 8)
# Eight devices do not divide the items, of which the last two only pad.
N, DIM, CLASSES, PADDING = 20, 6, 5, 2
LARGE, LARGE_DIM, LARGE_CLASSES = 8192, 64, 64
TOLERANCE = 1e-5

Make = Callable[[Mesh | None], Any]


class Case(NamedTuple):
  """A line of the table: an objective on a mesh, and the batch it meets."""

  kind: str
  name: str
  make: Make
  labels: np.ndarray
  given: dict[str, Any]


# --- The lines of the table -------------------------------------------------


def _labels(loss: str, n: int = N, classes: int = CLASSES) -> np.ndarray:
  """Classes of items; of a loss of two views, each class twice."""
  return np.arange(n) % (n // 2 if ml.LOSSES[loss].two_views else classes)


def _objective(loss: str, **options: Any) -> Make:
  # In blocks inside of each device.
  options = {"block_size": 2, **options}
  if loss == "contrastive_2005":
    options["upper_bound"] = 20.0
  return lambda mesh: ml.make_objective(loss, mesh=mesh, **options)


def _case(kind: str, name: str, loss: str, make: Make, **given: Any) -> Case:
  # The views of an item are padding together.
  real = np.arange(N) % (N // 2) < N // 2 - PADDING // 2
  return Case(kind, name, make, _labels(loss), {"where": real, **given})


def cases() -> Iterator[Case]:
  """All lines of the table."""
  for loss in ml.LOSSES:
    yield _case("loss", loss, loss, _objective(loss))
  yield from _parts()
  yield from _sums()
  yield from _inputs()


def _parts() -> Iterator[Case]:
  """A metric, miner or reduction each, with a loss that it suits."""
  for metric in ml.METRICS:
    named = ("lp", {"p": 3}) if metric == "lp" else metric
    make = _objective("supcon", metric=named)
    yield _case("metric", f"supcon, {metric}", "supcon", make)
  for miner, entry in MINERS.items():
    space: dict[str, Any] = {}
    if entry.metrics:
      space = {"metric": entry.metrics[0], "normalize": entry.normalize}
    make = _objective("triplet", miner=miner, **space)
    yield _case("miner", f"triplet, {miner}", "triplet", make)
  weights = tuple(1.0 + 0.5 * i for i in range(CLASSES))
  reductions: list[Any] = ["mean", "mean_active", "per_anchor_mean", "sum"]
  reductions += ["none", ("mean", {"low": 0.1, "high": 2.0})]
  reductions += [("per_anchor_mean", {"count_empty": True})]
  reductions += [("mean", {"class_weights": weights})]
  for reduction in reductions:
    plain = isinstance(reduction, str)
    name, options = (reduction, {}) if plain else reduction
    shown = " ".join([name, *options])
    make = _objective("contrastive", reduction=reduction)
    yield _case("reduction", f"contrastive, {shown}", "contrastive", make)


def _regularized(make: Make, name: str) -> Make:
  return lambda mesh: regularize(make(mesh), name, 0.3)


def _remembering(make: Make, options: dict[str, Any]) -> Make:
  return lambda mesh: with_memory(make(mesh), size=32, **options)


def _sums() -> Iterator[Case]:
  """Regularizers, memories and sums of objectives."""
  owners = {"sparse_centers": "soft_triple"}
  owners |= dict.fromkeys(("center_invariant", "regular_face"), "arcface")
  for name in REGULARIZERS:
    loss = owners.get(name, "contrastive")
    make = _regularized(_objective(loss), name)
    yield _case("regularizer", f"{loss}, {name}", loss, make)
  for loss, options in (
    ("contrastive", {}),
    ("triplet", {"enqueue_first": False}),
    ("supcon", {"warmup": 3}),
  ):
    make = _remembering(_objective(loss), options)
    name = " ".join([f"{loss}, memory", *options])
    yield _case("memory", name, loss, make)
  first, second = _objective("arcface"), _objective("triplet", metric="l1")
  yield _case(
    "sum",
    "arcface and triplet",
    "arcface",
    lambda mesh: combine([(1.0, first(mesh)), (0.5, second(mesh))]),
  )


def _inputs() -> Iterator[Case]:
  """What else an objective can be called with."""
  random = np.random.default_rng(1)
  gallery = random.normal(size=(7, DIM)).astype(np.float32)
  others: dict[str, Any] = {
    "references": gallery,
    "reference_labels": np.arange(7) % CLASSES,
  }
  affinity = random.uniform(size=(N, N)).astype(np.float32)
  weights = random.uniform(size=N).astype(np.float32)
  several = (random.uniform(size=(N, 4)) < 0.5).astype(np.int32)
  several[:, 0] |= several.sum(axis=1) == 0
  levels = np.stack([np.arange(N) % 2, np.arange(N) % 4], axis=1)
  for loss, name, given in (
    ("contrastive", "weights", {"weights": weights}),
    ("contrastive", "references", others),
    ("contrastive", "affinity", {"affinity": affinity}),
    ("lifted", "affinity to references", {"affinity": affinity[:, :7]}),
  ):
    more = others if loss == "lifted" else {}
    make = _objective(loss)
    yield _case("input", f"{loss}, {name}", loss, make, **given, **more)
  for relation, labels in (
    ("any_label", several),
    ("jaccard", several),
    (("levels", {"weights": (0.3, 1.0)}), levels),
  ):
    make = _objective("supcon", relation=relation)
    name = relation if isinstance(relation, str) else relation[0]
    case = _case("relation", f"supcon, {name}", "supcon", make)
    yield case._replace(labels=labels)


# --- One device and several -------------------------------------------------


def program_of(
  case: Case, mesh: Mesh | None, n: int = N, dim: int = DIM
) -> tuple[Callable[..., Any], tuple[Any, ...]]:
  """Value and gradient of a case, to be compiled, and its arguments."""
  objective = case.make(mesh)
  sizes = {"num_classes": int(case.labels.max()) + 1, "embedding_dim": dim}
  key = jax.random.key(0)
  params = objective.init(key, **sizes)
  state = objective.init_state(**sizes)
  random = np.random.default_rng(0)
  x = random.normal(size=(n, dim)).astype(np.float32)

  def value_of(
    params: Any, x: Any, labels: Any, given: Mapping[str, Any]
  ) -> tuple[jax.Array, Any]:
    before = state or None
    if case.kind == "memory":  # Of an earlier batch.
      earlier = objective(params, 2 * x[::-1], labels, state=state, **given)
      before = earlier[1].state
    value, aux = objective(params, x, labels, state=before, key=key, **given)
    return jnp.sum(jnp.sin(value)), (value, aux)

  def both(
    params: Any, x: Any, labels: Any, given: Mapping[str, Any]
  ) -> tuple[Any, Any]:
    (_, seen), slopes = jax.value_and_grad(value_of, (0, 1), has_aux=True)(
      params, x, labels, given
    )
    return seen, slopes

  return both, (params, x, case.labels, case.given)


def found_of(case: Case, count: int) -> tuple[Any, Any]:
  """What is said of a case (value, log, state), and its gradient."""
  mesh = None if count == 1 else devices.mesh_of(count)
  program, arguments = program_of(case, mesh)
  # Compiling is nearly all of the time.
  name = "jax_disable_most_optimizations"
  jax.config.update(name, True)
  try:
    return jax.device_get(jax.jit(program)(*arguments))
  finally:
    jax.config.update(name, False)


def difference(one: Any, other: Any) -> float:
  """The largest between two trees, as a share of the largest of each array."""
  largest = 0.0
  for pair in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
    a, b = (np.asarray(x, np.float64) for x in pair)
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
      return float("nan")
    apart = float(np.max(np.abs(a - b), initial=0.0))
    scale = float(np.max(np.abs(a), initial=0.0))
    largest = max(largest, apart / scale if scale else apart)
  return largest


def differences(case: Case) -> list[tuple[float, float]]:
  """Of what is said, and of the gradient, for each number of devices."""
  one = found_of(case, 1)
  pairs = []
  for count in COUNTS:
    many = found_of(case, count)
    pairs.append((difference(one[0], many[0]), difference(one[1], many[1])))
  return pairs


def held(loss: str, count: int = COUNTS[-1]) -> int:
  """Bytes that a device of `count` holds, at most, of a large batch.

  What the compiler plans beside arguments and results, of value and gradient.
  """
  make = _objective(loss, block_size="auto")
  labels = _labels(loss, LARGE, LARGE_CLASSES)
  case = Case("loss", loss, make, labels, {})
  mesh = devices.mesh_of(count)
  program, arguments = program_of(case, mesh, LARGE, LARGE_DIM)
  arguments = devices.put(jax.tree.map(jnp.asarray, arguments), mesh)
  planned: Any = jax.jit(program).lower(*arguments).compile()
  return planned.memory_analysis().temp_size_in_bytes


# --- The page ---------------------------------------------------------------


def main() -> None:
  """Computes the table and writes the page."""
  if len(jax.devices()) < COUNTS[-1]:
    raise ml.InputError(
      f"this takes {COUNTS[-1]} devices, and there are {len(jax.devices())}: on"
      f" a CPU, set JAX_NUM_CPU_DEVICES={COUNTS[-1]}."
    )
  lines, worst = [], 0.0
  commit = run_files.commit()  # Before the page is another than its commit's.
  for case in cases():
    if _ONLY.value not in case.name or not _is_asked(case.kind):
      continue
    found = differences(case)
    worst = max(worst, *np.ravel(found))
    memory = ""
    if case.kind == "loss":
      memory = f"{held(case.name) / 2**20:.0f} MiB"
    cells = [f"{x:.0e}" for pair in zip(*found, strict=True) for x in pair]
    lines.append([case.kind, case.name, *cells, memory])
    print(*lines[-1], flush=True)
    # It takes long: what is there is kept.
    text = page(lines, worst, commit).encode()
    run_files.write_atomically(
      Path(_OUTPUT.value), lambda file, text=text: file.write(text)
    )
  print(f"The largest difference is {worst:.1e}.")
  if not worst < TOLERANCE:
    raise ml.InputError(f"{TOLERANCE:g} is allowed: see {_OUTPUT.value}.")


def _is_asked(kind: str) -> bool:
  return not _KINDS.value or kind in _KINDS.value


def page(lines: list[list[str]], worst: float, commit: str) -> str:
  """The page of Markdown."""
  heads = ["", "with"]
  heads += [f"value, {count}" for count in COUNTS]
  heads += [f"gradient, {count}" for count in COUNTS]
  heads += [f"one of {COUNTS[-1]} holds"]
  matrix = 4 * LARGE * LARGE // 2**20
  kind = f"{len(jax.devices())} {jax.devices()[0].device_kind} devices"
  return (
    "# Losses on several devices\n\nWritten by"
    f" `{run_files.environment()['command']}` at commit {commit}, jax"
    f" {jax.__version__}, on {kind}. {N} items, of which {PADDING} are padding,"
    " so that the number of items is not divisible by 8; each device computes"
    " its rows in blocks of 2. *value* is the largest difference from one"
    " device in the value of the loss, in its logged numbers and in its state"
    " for the next batch. *gradient* is that of the gradients with respect to"
    " embeddings and learned parameters. Both are over 2, 4 and 8 devices, as"
    " a share of the largest number of each array. The last column is the"
    " memory that the compiler plans on each of 8 devices, beside arguments and"
    f" results, for the value and gradient of {LARGE} items in {LARGE_DIM}"
    f" dimensions; the matrix of all their distances has {matrix} MiB. The"
    f" largest difference in this table is {worst:.1e}; {TOLERANCE:g} is"
    " allowed.\n\n"
    f"{as_markdown(heads, lines)}\n"
  )


if __name__ == "__main__":
  cli.run(main, __doc__)
