"""From a config to its objectives."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from jax.sharding import Mesh
from ml_collections import ConfigDict

from metric_learning.objectives import Objective, make_objective
from metric_learning.objectives.combination import combine, regularize
from metric_learning.objectives.memory import with_memory
from metric_learning.training.sections import given, named
from metric_learning.training.units import with_numbers


class Objectives(NamedTuple):
  """The parts of the value that a config minimizes.

  main: the objective of `config.loss`; its metric compares the points.
  further: the objectives of `config.also`, each with its weight.
  memory: the options of the cross-batch memory; None without one.
  regularizer: a name, or a name with options; None without one.
  """

  main: Objective
  further: Mapping[str, tuple[float, Objective]]
  memory: Mapping[str, Any] | None
  regularizer: tuple[Any, float] | None

  def each(self) -> dict[str, Objective]:
    """Each objective, by the prefix of the names of its numbers."""
    others = {f"also.{k}.": other for k, (_, other) in self.further.items()}
    return {"": self.main, **others}

  def with_numbers(self, numbers: Mapping[str, Any]) -> Any:
    """The sum of the objectives, with new values for the given numbers.

    Numbers are given by flat name: "loss.margin", "miner.epsilon",
      "also.center.loss.weight".
    """
    objective: Any = with_numbers(self.main, numbers)
    if self.memory is not None:
      objective = with_memory(objective, **self.memory)
    if self.further:
      others = [
        (weight, with_numbers(other, _without(f"also.{label}.", numbers)))
        for label, (weight, other) in self.further.items()
      ]
      objective = combine([(1.0, objective), *others])
    if self.regularizer is not None:
      objective = regularize(objective, *self.regularizer)
    return objective


def objectives_of(config: ConfigDict, mesh: Mesh | None = None) -> Objectives:
  """The objectives of a config; on a mesh, each device folds its own anchors.

  >>> from metric_learning.training.config import base_config, override
  >>> config = override(base_config(), {"also.triplet.weight": 0.5})
  >>> list(objectives_of(config).each())
  ['', 'also.triplet.']

  Raises:
    InputError: for names or numbers that do not fit together.
  """
  regularizer = None
  if config.regularizer.name is not None:
    options = given(config.regularizer, "weight")
    regularizer = (config.regularizer.name, options), config.regularizer.weight
  return Objectives(
    _objective(config, config, mesh),
    {
      label: (float(section.weight), _objective(section, config, mesh))
      for label, section in config.also.items()
    },
    dict(config.memory) if config.memory.size else None,
    regularizer,
  )


def _objective(
  section: ConfigDict, config: ConfigDict, mesh: Mesh | None
) -> Objective:
  """The objective of a config, or of one of its further losses."""
  return make_objective(
    section.loss.name,
    named(section.metric),
    section.normalize,
    named(section.reduction),
    named(section.miner),
    config.block_size,
    named(config.relation),
    mesh,
    **{k: v for k, v in section.loss.items() if k != "name"},
  )


def _without(prefix: str, numbers: Mapping[str, Any]) -> dict[str, Any]:
  """The numbers whose names have the prefix, which is removed."""
  return {
    name.removeprefix(prefix): value
    for name, value in numbers.items()
    if name.startswith(prefix)
  }
