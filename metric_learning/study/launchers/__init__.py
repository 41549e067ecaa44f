"""Where the runs of a study train: a new place is its file and one entry."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from metric_learning.errors import check_choice
from metric_learning.study.launchers import local, ray


class Option(NamedTuple):
  """A keyword of a launcher, and a flag of its name."""

  type: type[float] | type[int] | type[str]
  usage: str
  least: float | None = None


class Launcher(NamedTuple):
  """A place where runs train.

  launch: takes groups of runs, one run or several that train as one population,
    the folder of the study, what is told of those that are done, and its
    options. It does those that no other process has, and returns.
  usage: what --help says of it.
  start: what is done before JAX has threads, such as a fork.
  """

  launch: Callable[..., None]
  usage: str = ""
  start: Callable[[], None] = lambda: None
  options: Mapping[str, Option] = {}


LAUNCHERS = {
  "local": Launcher(
    local.launch, "on the devices of this process, one run on each at a time"
  ),
  "ray": Launcher(
    ray.launch,
    "as tasks of a Ray cluster (extra ray)",
    ray.start,
    {
      "gpus_per_run": Option(
        float, "Of a Ray task; 1 if the cluster has any.", least=0
      )
    },
  ),
}


def start_launcher(name: str) -> None:
  """Starts what a launcher needs. To be called before JAX has threads.

  Raises:
    InputError: for a launcher that there is not, or that lacks its extra.
  """
  check_choice("launcher", name, LAUNCHERS)
  LAUNCHERS[name].start()
