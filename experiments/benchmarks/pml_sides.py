"""Makes what `pml` names: batches, our side of each line, and theirs.

Only what makes theirs needs torch.
"""

import functools
import importlib
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import metric_learning as ml
from experiments.benchmarks.pml import CENTERS, KINDS, Choice, Made, Pair
from metric_learning.inputs import points_of
from metric_learning.rows import Context, Row, over_rows
from metric_learning.signatures import call_with

# Where theirs holds what it learns, and whether transposed.
LEARNED = {
  "NormalizedSoftmaxLoss": ("W", True),
  "ProxyNCALoss": ("proxies", False),
  "ProxyAnchorLoss": ("proxies", False),
  "SoftTripleLoss": ("fc", True),
  "LargeMarginSoftmaxLoss": ("W", True),
  "SphereFaceLoss": ("W", True),
  "CosFaceLoss": ("W", True),
  "ArcFaceLoss": ("W", True),
  "SubCenterArcFaceLoss": ("W", True),
  "P2SGradLoss": ("weight", True),
  "ManifoldLoss": ("proxies", False),
}


class Batch(NamedTuple):
  """Embeddings, their classes, and what stands for each class."""

  x: np.ndarray
  labels: np.ndarray
  table: np.ndarray  # [classes, centers, dim]


def make_batch(kind: str, n: int, dim: int, seed: int) -> Batch:
  """A random batch of one of KINDS; of at most 9 classes."""
  # The only generator of NumPy whose numbers never change.
  random = np.random.RandomState(len(KINDS) * seed + KINDS.index(kind))
  items = np.arange(n)
  labels = items % (n // 4)
  if kind == "unbalanced":
    labels = np.repeat(np.arange(3), [n // 2, n // 3, n - n // 2 - n // 3])
  elif kind == "singletons":
    rest = (n - 4) // 4
    labels = np.concatenate([items[: n - 4] % rest, rest + np.arange(4)])
  x = random.normal(size=(n, dim))
  if kind == "duplicates":
    # Two of one class, two of two classes, and three.
    x[n // 4], x[2], x[n // 2] = x[0], x[1], x[0]
  else:
    labels = random.permutation(labels)
  return Batch(x, labels, random.normal(size=(9, CENTERS, dim)))


def inputs(pair: Pair, batch: Batch) -> tuple[np.ndarray, np.ndarray]:
  """The embeddings and labels that a loss takes of a batch."""
  items = np.arange(len(batch.x))
  if pair.labels in ("pairs", "views"):
    return batch.x, items % (len(items) // 2)
  if pair.labels == "square":
    side = math.isqrt(len(items))
    return batch.x[: side**2], items[: side**2] // side
  return batch.x, batch.labels


# --- Our side ---------------------------------------------------------------


def our_side(
  pair: Pair, batch: Batch, **more: Any
) -> tuple[Callable[..., jax.Array], dict[str, Any]]:
  """Our value of (params, embeddings, labels), and the parameters.

  What stands for a class is that of the batch; all else is initial.
  """
  classes, _, dim = batch.table.shape
  if pair.loss == "manifold":
    more["num_proxies"] = classes
  objective = pair.objective(**more)
  sizes = {"num_classes": classes, "embedding_dim": dim}
  init = lambda key: objective.init(key, **sizes)
  weights = (
    jax.eval_shape(init, jax.random.key(0)).get("loss", {}).get("weights")
  )
  if weights is None:
    params = init(jax.random.key(0))
  else:
    table = batch.table[:, 0] if weights.ndim == 2 else batch.table
    params = {"loss": {"weights": table}}
  params = jax.tree.map(lambda x: jnp.asarray(x, batch.x.dtype), params)

  def value(params: Any, x: Any, labels: Any) -> jax.Array:
    if pair.labels != "views":
      return objective(params, x, labels)[0]
    half = x.shape[0] // 2
    return objective(
      params,
      x[:half],
      labels[:half],
      references=x[half:],
      reference_labels=labels[half:],
    )[0]

  return value, params


# --- Their side -------------------------------------------------------------


def made(module: str, spec: Made) -> Any:
  """An object of pytorch_metric_learning, from the name of its class."""
  import torch

  package = importlib.import_module(f"pytorch_metric_learning.{module}")
  modules = {"distance": "distances", "reducer": "reducers"}
  name, arguments = spec
  built = {
    key: made(modules[key], value) if key in modules else value
    for key, value in arguments.items()
  }
  if "weights" in built:
    built["weights"] = torch.tensor(built["weights"])
  return getattr(package, name)(**built)


def _their_loss(pair: Pair, batch: Batch) -> tuple[Any, Any]:
  """Their loss, and the parameter that it learns, or None."""
  import torch

  arguments = dict(pair.arguments)
  classes, _, dim = batch.table.shape
  dtype = torch.tensor(batch.x).dtype
  attribute, transposed = LEARNED.get(pair.theirs, (None, False))
  if pair.theirs == "ManifoldLoss":
    arguments |= {"l": dim, "K": classes}
  elif attribute is not None:
    size = (
      "descriptors_dim" if pair.theirs == "P2SGradLoss" else "embedding_size"
    )
    arguments |= {size: dim, "num_classes": classes}
  elif "num_classes" in arguments:
    arguments["num_classes"] = classes
  loss = made("losses", (pair.theirs, arguments)).to(dtype)
  if attribute is None:
    return loss, loss.beta if arguments.get("learn_beta") else None
  centers = arguments.get("centers_per_class", arguments.get("sub_centers", 1))
  rows = batch.table[:, :centers].reshape(-1, dim)
  table = torch.tensor(rows.T if transposed else rows, dtype=dtype)
  setattr(loss, attribute, torch.nn.Parameter(table))
  return loss, getattr(loss, attribute)


def their_side(pair: Pair, batch: Batch) -> tuple[Callable[..., Any], Any]:
  """Their value of (embeddings, labels), and the parameter, or None."""
  import torch

  loss, learned = _their_loss(pair, batch)
  miner = None if pair.miner is None else made("miners", pair.miner)
  classes = batch.table.shape[0]

  def value(x: Any, labels: Any) -> Any:
    half = len(x) // 2
    if pair.theirs == "AngularLoss":
      return loss(torch.nn.functional.normalize(x), labels)
    if pair.theirs == "ManifoldLoss":
      return loss(x, indices_tuple=labels % classes)
    if pair.theirs == "VICRegLoss":
      return loss(x[:half], ref_emb=x[half:])
    if pair.labels == "views":
      first, second = labels[:half], labels[half:].clone()
      return loss(x[:half], first, ref_emb=x[half:], ref_labels=second)
    return loss(x, labels, None if miner is None else miner(x, labels))

  return value, learned


def their_gradient(pair: Pair, learned: Any) -> np.ndarray:
  """The gradient of what theirs learns, in the order of ours."""
  gradient = learned.grad.numpy()
  _, transposed = LEARNED.get(pair.theirs, (None, False))
  return np.ravel(gradient.T if transposed else gradient)


# --- Miners -----------------------------------------------------------------


def our_choice(
  choice: Choice, x: jax.Array, labels: jax.Array, key: jax.Array | None = None
) -> Row:
  """What our miner leaves of the rows of a batch of points of norm 1."""
  name, options = (
    (choice.ours, {}) if isinstance(choice.ours, str) else choice.ours
  )
  miner = ml.MINERS[name]
  points = points_of(x, labels)
  over = over_rows(
    points, points, functools.partial(ml.pairwise, choice.metric)
  )
  context = Context()
  if miner.context is not None:
    context = call_with(options, miner.context, over, over, points, points, key)

  def mine(row: Row, own: Any) -> Row:
    more = (Context(own, context.shared),) if miner.context else ()
    return call_with(options, miner.mine, row, *more)

  return over(mine, context.own)


def our_triplets(rows: Row) -> jax.Array:
  """How often each (anchor, positive, negative) was chosen, `[n, n, n]`."""
  if rows.triplets is None:
    return rows.positives[:, :, None] * rows.negatives[:, None, :]

  def of_row(row: Row) -> jax.Array:
    each = jnp.arange(row.distances.shape[0])
    met = jax.vmap(lambda p: row.triplets.of(p, row.distances))(each)
    return row.triplets.positives[:, None] * met

  return jax.vmap(of_row)(rows)


def unit(x: np.ndarray) -> np.ndarray:
  """Rows of norm 1."""
  return x / np.linalg.norm(x, axis=1, keepdims=True)


def their_choice(choice: Choice, x: np.ndarray, labels: np.ndarray) -> tuple:
  """Their indices, of triplets or of pairs."""
  import torch

  miner = made("miners", (choice.theirs, choice.arguments))
  return miner(torch.tensor(x), torch.tensor(labels))
