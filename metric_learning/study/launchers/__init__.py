"""Launchers train the runs of a study; each is a file and an entry here."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from metric_learning.errors import check_choice
from metric_learning.study.launchers import local, ray


class Option(NamedTuple):
  """A keyword of a launcher, which is also a flag of that name."""

  type: type[float] | type[int] | type[str]
  usage: str
  least: float | None = None


class Launcher(NamedTuple):
  """A way to launch runs.

  launch: takes groups of runs (single runs or populations), the folder of the
    study, a function to report finished runs, and its options. It trains the
    runs that no other process has, and returns.
  usage: the text for --help.
  start: called before JAX has threads, for example to fork.
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
        float, "GPUs of each Ray task; 1 if the cluster has any.", least=0
      )
    },
  ),
}


def start_launcher(name: str) -> None:
  """Starts what a launcher needs. Call it before JAX has threads.

  Raises:
    InputError: for an unknown launcher, or one whose extra is not installed.
  """
  check_choice("launcher", name, LAUNCHERS)
  LAUNCHERS[name].start()
