"""Cross-batch memory: embeddings of earlier batches as candidates.

The memory is part of the state: a tree of arrays that each call takes and
returns, saved and restored with the run.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from metric_learning.distances import comparable, widen
from metric_learning.errors import InputError
from metric_learning.inputs import as_labels, as_weights, points_of
from metric_learning.objectives.objective import Aux, Objective
from metric_learning.rows import Points


class Memory(NamedTuple):
  """A ring buffer of M slots; `pointer` is the next slot to be written."""

  embeddings: Float[Array, "m d"]
  labels: Int[Array, " m"]
  valid: Bool[Array, " m"]
  pointer: Int[Array, ""]
  step: Int[Array, ""]


def empty_memory(size: int, embedding_dim: int) -> Memory:
  """A memory whose slots all have weight 0.

  >>> empty_memory(4, 2).valid
  Array([False, False, False, False], dtype=bool)
  """
  return Memory(
    embeddings=jnp.zeros((size, embedding_dim)),
    labels=jnp.zeros(size, int),
    valid=jnp.zeros(size, bool),
    pointer=jnp.zeros((), jnp.int32),
    step=jnp.zeros((), jnp.int32),
  )


def slots(memory: Memory, keep: Bool[Array, " n"]) -> Int[Array, " n"]:
  """The slot of each of n items; M, which is no slot, for items not written."""
  size = memory.labels.shape[0]
  rank = jnp.cumsum(keep) - 1
  return jnp.where(keep, (memory.pointer + rank) % size, size)


def enqueue(
  memory: Memory,
  embeddings: Float[Array, "n d"],
  labels: Int[Array, " n"],
  keep: Bool[Array, " n"] | None = None,
) -> Memory:
  """Writes a batch over the oldest slots, without its gradient.

  `keep` chooses the items of the batch to write.

  Raises:
    InputError: for a batch that is larger than the memory or has another
      dimension, and outside jit for labels beyond 32 bits. (Labels must mean
      the same class in all batches, so they cannot be renumbered here.)

  >>> memory = enqueue(empty_memory(3, 1), jnp.ones((2, 1)), jnp.array([5, 6]))
  >>> memory.labels, memory.pointer
  (Array([5, 6, 0], dtype=int32), Array(2, dtype=int32))
  """
  labels = as_labels(labels)
  comparable(embeddings, memory.embeddings, rank=2)
  n, size = labels.shape[0], memory.labels.shape[0]
  if n > size:
    raise InputError(
      f"a batch of {n} does not fit a memory of {size}: enlarge the memory."
    )
  keep = jnp.ones(n, bool) if keep is None else keep
  at = slots(memory, keep)
  put = lambda old, new: old.at[at].set(
    jax.lax.stop_gradient(new).astype(old.dtype), mode="drop"
  )
  return Memory(
    embeddings=put(memory.embeddings, embeddings),
    labels=put(memory.labels, labels),
    valid=memory.valid.at[at].set(True, mode="drop"),
    pointer=(memory.pointer + jnp.sum(keep, dtype=jnp.int32)) % size,
    step=memory.step + 1,
  )


_NO_STATE = (
  "a memory is state: begin with state = objective.init_state(embedding_dim=…),"
  " call with state=state, and take aux.state for the next batch."
)


@dataclasses.dataclass(frozen=True, eq=False)
class WithMemory:
  """An objective that takes its candidates from a memory; see `with_memory`."""

  objective: Objective
  size: int
  enqueue_first: bool
  warmup: int

  def init(self, key: Array, **sizes: Any) -> dict[str, Any]:
    """The initial parameters of the objective."""
    return self.objective.init(key, **sizes)

  def init_state(
    self, *, embedding_dim: int | None = None, num_classes: int | None = None
  ) -> dict[str, Any]:
    """An empty memory, and the state of the objective."""
    if embedding_dim is None:
      raise InputError("a memory needs init_state(embedding_dim=…).")
    own = self.objective.init_state(
      embedding_dim=embedding_dim, num_classes=num_classes
    )
    return {"memory": empty_memory(self.size, embedding_dim), "objective": own}

  def embed(
    self, params: dict[str, Any], embeddings: Float[Array, "n d"]
  ) -> Float[Array, "n k"]:
    """The points that the metric compares."""
    return self.objective.embed(params, embeddings)

  @property
  def eval_metric(self) -> Any:
    """The metric under which `embed`ded points are compared."""
    return self.objective.eval_metric

  def __call__(
    self,
    params: dict[str, Any],
    embeddings: Float[Array, "n d"],
    labels: Int[Array, " n"],
    *,
    where: Bool[Array, " n"] | None = None,
    weights: Float[Array, " n"] | None = None,
    keys: Bool[Array, " n"] | None = None,
    state: dict[str, Any] | None = None,
    key: Array | None = None,
  ) -> tuple[Float[Array, "*n"], Aux]:
    """The value of the batch against the memory, and the memory after it.

    Args:
      params: from `init`.
      embeddings: those of the batch.
      labels: their classes.
      where: False for padding, which is neither an anchor nor remembered.
      weights: the weight of each item as an anchor; its slot has weight 1.
      keys: True for items that are remembered but are not anchors, as in MoCo;
        the other items are anchors and are not remembered.
      state: from `init_state`, or `aux.state` of the previous step.
      key: a random key, for random miners.

    Raises:
      InputError: without a state, or if shapes or labels do not fit.
    """
    if not state:
      raise InputError(_NO_STATE)
    state = jax.tree.map(jnp.asarray, state)  # may be NumPy arrays
    memory = state["memory"]
    anchors = points_of(embeddings, labels, where, "labels")
    labels = anchors.labels
    if weights is not None:
      weights = as_weights("weights", weights, labels.shape[0])
    kept = anchors.weight > 0
    if keys is not None:
      kept &= keys
      anchors = anchors._replace(weight=jnp.where(keys, 0, anchors.weight))
    filled = enqueue(memory, jnp.asarray(embeddings), labels, kept)
    seen = filled if self.enqueue_first else memory
    candidates = self._candidates(seen, slots(memory, kept))
    own = state["objective"]
    value, aux = self.objective.on_points(
      params, anchors, candidates, weights=weights, state=own, key=key
    )
    if self.warmup:
      alone = self.objective.on_points(
        params, anchors, None, weights=weights, state=own, key=key
      )
      early = memory.step < self.warmup
      value, aux = jax.tree.map(
        lambda a, b: jnp.where(early, a, b), alone, (value, aux)
      )
    filled_share = jnp.mean(jnp.where(seen.valid, 1.0, 0.0))
    diagnostics = {**aux.diagnostics, "memory_filled": filled_share}
    return value, Aux(diagnostics, {"memory": filled, "objective": aux.state})

  def _candidates(self, seen: Memory, written: Int[Array, " n"]) -> Points:
    """The memory as candidates; `written` are the slots of the batch.

    A slot that was just written has the group of its item, so that no item is
    compared with its own copy. Other slots have distinct negative groups.
    """
    group = -1 - jnp.arange(self.size)
    if self.enqueue_first:
      items = jnp.arange(written.shape[0])
      group = group.at[written].set(items, mode="drop")
    return Points(widen(seen.embeddings), seen.labels, seen.valid * 1.0, group)


def with_memory(
  objective: Objective,
  size: int = 1024,
  *,
  enqueue_first: bool = True,
  warmup: int = 0,
) -> WithMemory:
  """An objective whose candidates are the last `size` embeddings.

  Args:
    objective: one that accepts references.
    size: the number of slots, at least one batch.
    enqueue_first: whether a batch is written before it is compared. It is then
      also compared with copies of itself, except each item with its own.
    warmup: the number of steps before the memory is used.

  Source: Wang, Zhang, Huang, Scott, CVPR 2020, arXiv 1912.06798.

  Raises:
    InputError: for a size or a warm-up out of range, or another relation than
      `same_label`.
  """
  if size < 1 or warmup < 0:
    raise InputError(
      f"a memory needs size >= 1 and warmup >= 0, got {size} and {warmup}."
    )
  if objective.relation != "same_label":
    raise InputError(
      "a memory holds one label for each item: it needs the relation"
      f" same_label, and that of the objective is {objective.relation}."
    )
  return WithMemory(objective, size, enqueue_first, warmup)
