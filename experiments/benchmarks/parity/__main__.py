"""Compares every loss, miner and reducer with pytorch-metric-learning.

python -m experiments.benchmarks.parity --output=results/parity.md \
  --golden=tests/golden/pml.json

Values and gradients in float64, over random batches: balanced, unbalanced, with
classes of one item, with equal embeddings. The page says how far apart the two
are, or why they differ on purpose; --golden also freezes their values, against
which the tests hold ours without torch. Needs the extra: pip install -e
'.[bench]'.
"""

import importlib.metadata
import importlib.util
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

import metric_learning as ml
from experiments import cli
from experiments.benchmarks import pml
from experiments.benchmarks.pml import Batch, Choice, Pair
from metric_learning.errors import InputError
from metric_learning.training.records import to_json

_OUTPUT = cli.define_path("output", "results/parity.md", "The page.")
_GOLDEN = cli.define_path("golden", None, "A JSON file of their values.")
_SEEDS = flags.DEFINE_integer("seeds", 3, "Batches of each kind.", 1)

# torch.cdist takes differences up to 25 points, and loses digits beyond.
_ITEMS, _DIM = 24, 8
# Where points coincide, our product form of a distance is exact to √ε.
_NEAR = 1e-6


def main() -> None:
  """Writes the page and the golden file."""
  if importlib.util.find_spec("pytorch_metric_learning") is None:
    raise InputError("no pytorch_metric_learning: pip install -e '.[bench]'.")
  jax.config.update("jax_enable_x64", True)
  tables = [
    ("Losses", _LOSS_HEAD, [loss_row(pair) for pair in pml.LOSSES]),
    (
      "Reducers",
      _LOSS_HEAD,
      [*map(loss_row, pml.REDUCERS), *more_reducers()],
    ),
    ("Miners", _MINER_HEAD, [*map(miner_row, pml.MINERS), *random_miners()]),
    ("Regularisers", _PLAIN_HEAD, list(regularizer_rows())),
    ("Distances", _PLAIN_HEAD, list(distance_rows())),
    ("Wrappers", _PLAIN_HEAD, list(wrapper_rows())),
  ]
  output = Path(_OUTPUT.value)
  output.parent.mkdir(parents=True, exist_ok=True)
  output.write_text(page(tables))
  print(f"The page is {output}.")
  if _GOLDEN.value:
    golden = Path(_GOLDEN.value)
    golden.parent.mkdir(parents=True, exist_ok=True)
    golden.write_text(_compact(frozen()))
    print(f"The golden values are in {golden}.")
  bad = [row[0] for _, _, rows in tables for row in rows if "≠" in row]
  if bad:
    print("They disagree: " + "; ".join(bad))
    sys.exit(1)


# --- Losses -----------------------------------------------------------------

_LOSS_HEAD = (
  "ours",
  "our settings",
  "theirs",
  "their settings",
  "value",
  "gradient",
  "equal points",
  "agree",
  "note",
)


def batches(kinds: Sequence[str]) -> Iterator[tuple[str, Batch]]:
  """Random batches of the kinds."""
  for kind in kinds:
    for seed in range(_SEEDS.value):
      yield kind, pml.make_batch(kind, _ITEMS, _DIM, seed)


def apart(ours: Any, theirs: Any) -> float:
  """The largest difference, relative to the largest of theirs; NaN is inf."""
  ours, theirs = np.ravel(np.asarray(ours)), np.ravel(np.asarray(theirs))
  difference = np.max(np.abs(ours - theirs), initial=0)
  if np.isnan(difference):
    return np.inf
  size = max(np.max(np.abs(theirs), initial=0), 1e-12)
  return float(difference / size)


def their_slopes(pair: Pair, batch: Batch):
  """Their value, and its gradients by embeddings and by what is learned."""
  import torch

  value, learned = pml.their_side(pair, batch)
  points, labels = pml.inputs(pair, batch)
  x: Any = torch.tensor(points, requires_grad=True)
  found = value(x, torch.tensor(labels))
  found.backward()
  slopes = [x.grad.numpy()]
  if learned is not None and pair.theirs != "P2SGradLoss":
    slopes.append(pml.their_gradient(pair, learned))
  return float(found.detach().sum()), slopes


def differences(pair: Pair) -> dict[str, tuple[float, float]]:
  """For each kind of batch, how far apart values and gradients are at most."""
  worst: dict[str, tuple[float, float]] = {}
  both = None
  for kind, batch in batches(pair.kinds):
    value, params = pml.our_side(pair, batch)
    both = both or jax.jit(jax.value_and_grad(value, argnums=(1, 0)))
    ours, (by_x, by_params) = both(params, *pml.inputs(pair, batch))
    theirs, slopes = their_slopes(pair, batch)
    our_slopes = [by_x, *jax.tree.leaves(by_params)]
    gradient = max(map(apart, our_slopes, slopes))
    before = worst.get(kind, (0.0, 0.0))
    worst[kind] = (
      max(before[0], apart(ours, theirs)),
      max(before[1], gradient),
    )
  return worst


def loss_row(pair: Pair) -> tuple[str, ...]:
  """A line of the page."""
  worst = differences(pair)
  near = worst.pop("duplicates", None)
  values, gradients = zip(*worst.values(), strict=True)
  agree = max(*values, *gradients) <= pair.tolerance
  agree &= near is None or max(near) <= max(_NEAR, pair.tolerance)
  missing = [kind for kind in pml.KINDS if kind not in pair.kinds]
  skipped = f"not compared: {', '.join(missing)}" if missing else ""
  return (
    pair.name,
    _settings(pair.ours),
    pair.theirs + (f" after {pair.miner[0]}" if pair.miner else ""),
    _settings(pair.arguments),
    _number(max(values)),
    _number(max(gradients)),
    "–" if near is None else _number(max(near)),
    "=" if agree else "≠",
    "; ".join(filter(None, (pair.note, skipped))),
  )


def more_reducers() -> Iterator[tuple[str, ...]]:
  """The reducers that are no plain reduction."""
  own = "the divisor of a loss is part of its terms: see margin, proxy_anchor"
  one = (
    "one reduction serves all parts of a loss; weights and reductions of"
    " several losses: combine"
  )
  pair = Pair("nca", "NCALoss", {"normalize": "l2", "reduction": "none"})
  worst = 0.0
  for _, batch in batches(pml.KINDS):
    value, params = pml.our_side(pair, batch)
    theirs = _unreduced(batch)
    worst = max(worst, apart(value(params, batch.x, batch.labels), theirs))
  agree = "=" if worst < _NEAR else "≠"
  ours = "`none`"
  yield (
    *("nca, DoNothingReducer", ours, "NCALoss", "", _number(worst)),
    *("–", "–", agree, "one value for each anchor, 0 without a term"),
  )
  yield ("DivisorReducer", "", "", "", "–", "–", "–", "by design", own)
  yield ("MultipleReducers", "", "", "", "–", "–", "–", "by design", one)


def _unreduced(batch: Batch) -> np.ndarray:
  import torch

  loss = pml.made("losses", ("NCALoss", {"reducer": ("DoNothingReducer", {})}))
  found = loss(torch.tensor(batch.x), torch.tensor(batch.labels))["loss"]
  values = np.zeros(len(batch.x))
  values[found["indices"].numpy()] = found["losses"].numpy()
  return values


# --- Miners -----------------------------------------------------------------

_MINER_HEAD = (
  "ours",
  "theirs",
  "their settings",
  "compared",
  "chosen",
  "differ",
  "agree",
  "note",
)


def their_triplets(choice: Choice, x: np.ndarray, labels: np.ndarray):
  """Their choice as triplets: every pair of pairs of an anchor."""
  import torch
  from pytorch_metric_learning.utils import loss_and_miner_utils

  found = pml.their_choice(choice, x, labels)
  found = loss_and_miner_utils.convert_to_triplets(found, torch.tensor(labels))
  return set(zip(*(index.tolist() for index in found), strict=True))


def chosen(choice: Choice, batch: Batch) -> tuple[set, set]:
  """What our miner and theirs choose of a batch, as sets."""
  x, labels = pml.unit(batch.x), batch.labels
  rows = pml.our_choice(choice, jnp.asarray(x), jnp.asarray(labels))
  if choice.compared == "triplets":
    triplets = np.argwhere(np.asarray(pml.our_triplets(rows)) > 0)
    return set(map(tuple, triplets.tolist())), their_triplets(choice, x, labels)
  found = pml.their_choice(choice, x, labels)
  distances = np.asarray(rows.distances)
  sides = []
  for weights, (a, b) in zip(
    (rows.positives, rows.negatives), (found[:2], found[2:]), strict=True
  ):
    pairs = (
      np.argwhere(np.asarray(weights) > 0),
      np.stack([a.numpy(), b.numpy()], axis=1),
    )
    sides.append([_set(each, distances, choice) for each in pairs])
  ours, theirs = (
    {(side, *entry) for side, sets in enumerate(sides) for entry in sets[i]}
    for i in (0, 1)
  )
  return ours, theirs


def _set(pairs: np.ndarray, distances: np.ndarray, choice: Choice) -> set:
  """Pairs; or their distances with a running number for equal ones."""
  if choice.compared == "pairs":
    return set(map(tuple, pairs.tolist()))
  values = np.sort(np.round(distances[tuple(pairs.T)], 6))
  return set(enumerate(values.tolist()))


def miner_row(choice: Choice) -> tuple[str, ...]:
  """A line of the page."""
  number = differ = 0
  for _, batch in batches(pml.DISTINCT):
    ours, theirs = chosen(choice, batch)
    number += len(theirs)
    differ += len(ours ^ theirs)
  return (
    choice.name,
    choice.theirs,
    _settings(choice.arguments),
    choice.compared,
    str(number),
    str(differ),
    "≠" if differ else "=",
    choice.note,
  )


_DRAWS = 400


def random_miners() -> Iterator[tuple[str, ...]]:
  """The miners that draw: what they may draw, and how often they do."""
  batch = pml.make_batch("unbalanced", _ITEMS, _DIM, 0)
  x, labels = pml.unit(batch.x), batch.labels
  weighted = Choice("distance_weighted", "DistanceWeightedMiner")
  law = _law(x, labels)
  ours, theirs = _draws_of_both(weighted, x, labels)
  outside = int(np.sum((ours + theirs)[law == 0]))
  off = [_variation(counts, law) for counts in (ours, theirs)]
  yield (
    *(weighted.name, weighted.theirs, "", "law of the negatives"),
    f"{int(np.sum(ours))} and {int(np.sum(theirs))}",
    f"{outside} outside; total variation from the law {off[0]:.3f} (ours),"
    f" {off[1]:.3f} (theirs)",
    "=" if not outside and max(off) < 0.08 else "≠",
    "ours draws one negative for each positive, theirs for as many random"
    " positives as the class has items; theirs subtracts one maximum for the"
    " whole matrix, and loses anchors by underflow at d = 128",
  )
  options = {"positives_per_bin": 4, "negatives_per_bin": 6, "num_bins": 10}
  uniform = Choice(
    ("uniform_histogram", options),
    "UniformHistogramMiner",
    {"num_bins": 10, "pos_per_bin": 4, "neg_per_bin": 6},
  )
  differ, number = _bins_apart(uniform, x, labels)
  yield (
    *(uniform.name, uniform.theirs, _settings(uniform.arguments)),
    *("draws in each bin", str(number), str(differ)),
    "≠" if differ else "=",
    "pairs are drawn with replacement in both",
  )


def _law(x: np.ndarray, labels: np.ndarray) -> np.ndarray:
  """The law of the negatives of each anchor, from its formula."""
  d = x.shape[1]
  distances = np.linalg.norm(x[:, None] - x[None], axis=2)
  cut = np.maximum(distances, 0.5)
  allowed = (labels[:, None] != labels) & (distances < 1.4)
  room = np.where(allowed, 1 - cut**2 / 4, 1)
  weight = np.where(allowed, cut ** (2 - d) * room ** ((3 - d) / 2), 0)
  return weight / np.maximum(weight.sum(axis=1, keepdims=True), 1e-300)


def _variation(counts: np.ndarray, law: np.ndarray) -> float:
  some = counts.sum(axis=1) > 0
  shares = counts[some] / counts[some].sum(axis=1, keepdims=True)
  return float(np.mean(np.abs(shares - law[some]).sum(axis=1) / 2))


def _draws_of_both(choice, x, labels) -> tuple[np.ndarray, np.ndarray]:
  """How often each (anchor, negative) was drawn."""
  import torch

  torch.manual_seed(0)
  arrays = jnp.asarray(x), jnp.asarray(labels)
  count = lambda key: jnp.sum(
    pml.our_triplets(pml.our_choice(choice, *arrays, key)), axis=1
  )
  keys = jax.random.split(jax.random.key(0), _DRAWS)
  ours = np.asarray(jnp.sum(jax.jit(jax.vmap(count))(keys), axis=0))
  theirs = np.zeros_like(ours)
  for _ in range(_DRAWS):
    found = pml.their_choice(choice, x, labels)
    np.add.at(theirs, (found[0].numpy(), found[2].numpy()), 1)
  return ours, theirs


def _bins_apart(choice, x, labels) -> tuple[int, int]:
  """Draws of both that are in other bins, and draws."""
  key = jax.random.key(0)
  rows = pml.our_choice(choice, jnp.asarray(x), jnp.asarray(labels), key)
  found = pml.their_choice(choice, x, labels)
  same = (labels[:, None] == labels) & ~np.eye(len(x), dtype=bool)
  distances = np.asarray(rows.distances)
  differ = number = 0
  for weights, exists, (a, b) in (
    (rows.positives, same, found[:2]),
    (rows.negatives, labels[:, None] != labels, found[2:]),
  ):
    values = distances[exists]
    edges = np.linspace(values.min(), values.max(), 11)
    edges[[0, -1]] += (-1e-9, 1e-9)
    ours, _ = np.histogram(distances, edges, weights=np.asarray(weights))
    theirs, _ = np.histogram(distances[a.numpy(), b.numpy()], edges)
    differ += int(np.sum(np.abs(ours - theirs)))
    number += int(np.sum(theirs))
  return differ, number


# --- What is no loss --------------------------------------------------------

_PLAIN_HEAD = (
  "ours",
  "theirs",
  "their settings",
  "value",
  "gradient",
  "agree",
  "note",
)


def both_slopes(
  ours: Callable, theirs: Callable, x: np.ndarray
) -> tuple[float, float]:
  """How far apart two functions of an array are, and their gradients."""
  import torch

  value, slope = jax.value_and_grad(ours)(jnp.asarray(x))
  y = torch.tensor(x, requires_grad=True)
  found = theirs(y)
  found.backward()
  return apart(value, found.detach()), apart(slope, y.grad)


def _plain_row(name, theirs, found, note="", tolerance=1e-9):
  values, gradients = zip(*found, strict=True)
  agree = max(*values, *gradients) <= tolerance
  return (
    name,
    theirs[0],
    _settings(theirs[1]),
    _number(max(values)),
    _number(max(gradients)),
    "=" if agree else "≠",
    note,
  )


def regularizer_rows() -> Iterator[tuple[str, ...]]:
  """Each regulariser of embeddings, of class weights, of centres."""
  for name, options, theirs, of in pml.REGULARIZERS:
    function = ml.REGULARIZERS[name]
    loss = pml.made("regularizers", theirs)
    found = []
    for _, batch in batches(pml.DISTINCT):
      x = {"embeddings": batch.x, "weights": batch.table[:, 0]}.get(
        of, batch.table
      )
      shape = (-1, x.shape[-1])
      found.append(
        both_slopes(
          lambda x, f=function, o=options: f(x, **o),
          lambda x, f=loss, shape=shape: f(x.reshape(shape)),
          x,
        )
      )
    yield _plain_row(f"{name}{_brackets(options)}", theirs, found)


def distance_rows() -> Iterator[tuple[str, ...]]:
  """Each distance as a matrix, multiplied by random numbers."""
  for metric, normalize, theirs in pml.DISTANCES:
    distance = pml.made("distances", theirs)
    # Their similarities rise where our distances fall; a cosine is 1 - D.
    sign = -1 if distance.is_inverted else 1
    shift = 1 if metric == "cosine" else 0
    found = []
    for seed, (_, batch) in enumerate(batches(pml.DISTINCT)):
      weights = np.random.RandomState(seed).normal(size=(_ITEMS, _ITEMS))
      # At distance 0 to itself the slope of a root is a matter of choice.
      np.fill_diagonal(weights, 0)

      def ours(x, weights=weights, metric=metric, normalize=normalize):
        x = ml.NORMALIZATIONS[normalize](x)
        return jnp.sum(weights * ml.pairwise(metric, x, x))

      def value(x, weights=weights, distance=distance, sign=sign, shift=shift):
        import torch

        return torch.sum(torch.tensor(weights) * (shift + sign * distance(x)))

      found.append(both_slopes(ours, value, batch.x))
    name, options = (metric, {}) if isinstance(metric, str) else metric
    label = f"{name}{_brackets(options)}, normalize {normalize}"
    yield _plain_row(label, theirs, found)


def wrapper_rows() -> Iterator[tuple[str, ...]]:
  """Sums, two views, and the cross-batch memory."""
  yield _sum_row()
  for symmetric in (True, False):
    yield _views_row(symmetric)
  yield _memory_row()
  yield _dynamic_row()
  why = (
    "theirs takes class labels for places in the batch and compares an item"
    " with itself; ours is cross-entropy against the other view"
  )
  yield ("instance", "InstanceLoss", "", "–", "–", "by design", why)
  why = (
    "theirs multiplies the items of a classification loss by how often a miner"
    " chose them; ours mines the row of classes of each item"
  )
  yield ("miners of classifiers", "", "", "–", "–", "by design", why)


def _sum_row():
  losses = ("ContrastiveLoss", "MultiSimilarityLoss")
  names = ("contrastive_linear", "multi_similarity")
  weights = (0.5, 2.0)
  objective = ml.combine(
    [(w, ml.make_objective(n)) for w, n in zip(weights, names, strict=True)]
  )
  params: dict[str, Any] = {"0": {}, "1": {}}
  built = [pml.made("losses", (name, {})) for name in losses]
  theirs = pml.made("losses", ("MultipleLosses", {"losses": built}))
  theirs.weights = weights
  found = []
  for _, batch in batches(pml.DISTINCT):
    labels = batch.labels
    found.append(
      both_slopes(
        lambda x, labels=labels: objective(params, x, labels)[0],
        lambda x, labels=labels: theirs(x, _tensor(labels)),
        batch.x,
      )
    )
  note = "contrastive_linear and multi_similarity"
  return _plain_row("combine", ("MultipleLosses", {}), found, note)


def _views_row(symmetric: bool):
  objective = ml.make_objective("infonce_per_pair")
  inner = pml.made("losses", ("NTXentLoss", {}))
  arguments = {"loss": inner, "symmetric": symmetric}
  theirs = pml.made("losses", ("SelfSupervisedLoss", arguments))
  half = _ITEMS // 2
  labels = np.arange(half)

  def ours(x):
    if symmetric:
      return objective({}, x, np.tile(labels, 2))[0]
    views = {"references": x[half:], "reference_labels": labels}
    return objective({}, x[:half], labels, **views)[0]

  found = [
    both_slopes(ours, lambda x: theirs(x[:half], x[half:]), batch.x)
    for _, batch in batches(("balanced",))
  ]
  name = "labels twice" if symmetric else "references"
  row = ("SelfSupervisedLoss", {"symmetric": symmetric})
  return _plain_row(name, row, found, "infonce_per_pair")


def _memory_row():
  """Steps with a memory that fills and then wraps around."""
  size = 2 * _ITEMS + _ITEMS // 2
  ours = ml.with_memory(ml.make_objective("contrastive_linear"), size)
  state = ours.init_state(embedding_dim=_DIM)
  state = jax.tree.map(
    lambda x: x.astype(float) if x.dtype == jnp.float32 else x, state
  )
  inner = pml.made("losses", ("ContrastiveLoss", {}))
  arguments = {"loss": inner, "embedding_size": _DIM, "memory_size": size}
  theirs = pml.made("losses", ("CrossBatchMemory", arguments))
  found = []
  for _, batch in batches(pml.DISTINCT):
    value = lambda x, labels=batch.labels, state=state: ours(
      {}, x, labels, state=state
    )
    found.append(
      both_slopes(
        lambda x, value=value: value(x)[0],
        lambda x, labels=batch.labels: theirs(x, _tensor(labels)),
        batch.x,
      )
    )
    state = value(batch.x)[1].state
  note = f"contrastive_linear, {len(found)} steps; enqueue_first"
  arguments = {"memory_size": size}
  return _plain_row(
    "with_memory", ("CrossBatchMemory", arguments), found, note, _NEAR
  )


def _dynamic_row():
  """The first batch of the dynamic margin, and how far the next is apart."""
  objective = ml.make_objective("triplet_dynamic_soft")
  theirs = pml.made("losses", ("DynamicSoftMarginLoss", {}))
  state = jax.tree.map(lambda x: x.astype(float), objective.init_state())
  off = []
  for seed in (0, 1):
    batch = pml.make_batch("balanced", _ITEMS, _DIM, seed)
    x, labels = pml.unit(batch.x), batch.labels
    value, aux = objective({}, x, labels, state=state)
    state = aux.state
    off.append(apart(value, theirs(_tensor(x), _tensor(labels))))
  note = (
    f"value of the first batch {_number(off[0])}, of a second"
    + f" {_number(off[1])}: theirs adds counts to a histogram of sum 1, so that"
    " a batch of T triplets weighs T times the momentum; theirs has a gradient"
    " through the histogram, does not save it, and fails beyond 1.6"
  )
  return (
    "triplet_dynamic_soft",
    *("DynamicSoftMarginLoss", "", _number(off[0]), "–"),
    "by design" if off[0] < 1e-9 else "≠",
    note,
  )


def _tensor(x):
  import torch

  return torch.tensor(x)


# --- Golden values ----------------------------------------------------------

_GOLDEN_ITEMS, _GOLDEN_DIM = 12, 4


def frozen() -> dict[str, Any]:
  """Their values and counts on one small batch of each kind."""
  small = {
    kind: pml.make_batch(kind, _GOLDEN_ITEMS, _GOLDEN_DIM, 0)
    for kind in pml.KINDS
  }
  small = {
    kind: Batch(np.round(b.x, 4), b.labels, np.round(b.table, 4))
    for kind, b in small.items()
  }
  command = (
    "python -m experiments.benchmarks.parity --golden=tests/golden/pml.json"
  )
  losses = {
    pair.name: {
      kind: _digits(_their_number(pair, small[kind])) for kind in pair.kinds
    }
    for pair in pml.FROZEN
  }
  miners = {
    choice.name: {
      kind: len(chosen(choice, small[kind])[1]) for kind in pml.DISTINCT
    }
    for choice in pml.MINERS
  }
  return {
    "command": command,
    "versions": versions(),
    "batches": {
      kind: {name: array.tolist() for name, array in b._asdict().items()}
      for kind, b in small.items()
    },
    "losses": losses,
    "miners": miners,
  }


def _their_number(pair: Pair, batch: Batch) -> float:
  value, _ = pml.their_side(pair, batch)
  found = value(*map(_tensor, pml.inputs(pair, batch)))
  return float(found.detach().sum())


def _digits(value: float) -> float:
  return float(f"{value:.12g}")


def _compact(tree: dict[str, Any]) -> str:
  """JSON with a line for each entry of the second level."""
  parts = []
  for key, value in tree.items():
    if isinstance(value, dict):
      lines = ",\n".join(
        f"    {to_json(k, ensure_ascii=False)}: {to_json(v)}"
        for k, v in value.items()
      )
      parts.append(f"  {to_json(key)}: {{\n{lines}\n  }}")
    else:
      parts.append(f"  {to_json(key)}: {to_json(value)}")
  return "{\n" + ",\n".join(parts) + "\n}\n"


# --- The page ---------------------------------------------------------------


def versions() -> dict[str, str]:
  """The versions of what was compared."""
  names = ("jax", "torch", "pytorch-metric-learning")
  return {name: importlib.metadata.version(name) for name in names}


def page(tables) -> str:
  """The whole page as Markdown."""
  said = ", ".join(f"{k} {v}" for k, v in versions().items())
  text = [
    "# Parity with pytorch-metric-learning",
    "",
    f"Written by `python -m experiments.benchmarks.parity`: {said}; float64 on"
    f" both sides; batches of {_ITEMS} items in {_DIM} dimensions, {_SEEDS.value} of each"
    " kind: balanced, unbalanced, with classes of one item, and with equal"
    " points.",
    "",
    "Numbers are the largest difference, relative to the largest number of"
    " theirs; gradients are those by embeddings and by all that is learned. "
    "Settings are those that are not the default. Where points coincide"
    " (`equal points`), our matrix-product form of a distance is exact to √ε.",
    "",
  ]
  for title, head, rows in tables:
    text += [f"## {title}", "", _line(head), _line(["---"] * len(head))]
    text += [*map(_line, rows), ""]
  return "\n".join(text)


def _line(cells: Sequence[str]) -> str:
  return "| " + " | ".join(cells) + " |"


def _settings(settings: Any) -> str:
  """Settings in a few words."""
  said = []
  for name, value in settings.items():
    if value is None:
      continue
    if isinstance(value, float):
      value = f"{value:.6g}"
    elif isinstance(value, tuple) and value and isinstance(value[0], str):
      value = value[0] + _brackets(value[1])
    said.append(f"{name} {value}")
  return ", ".join(said)


def _brackets(options: Any) -> str:
  return f" ({_settings(options)})" if options else ""


def _number(value: float) -> str:
  return "0" if value == 0 else f"{value:.0e}"


if __name__ == "__main__":
  cli.run(main, __doc__)
