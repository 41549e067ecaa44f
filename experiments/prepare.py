"""Prepares a data set that comes as archives.

python -m experiments.prepare --dataset=omniglot --manual_dir=FOLDER

FOLDER holds the archives; without --manual_dir they are downloaded. If a file
is missing, the message says which one and where to get it. A set that is
already prepared is not changed; an interrupted preparation can be repeated. Use
the same data_dir in configs.
"""

from absl import flags

from experiments import cli
from metric_learning.data import prepared
from metric_learning.data.archives import ARCHIVES
from metric_learning.errors import InputError

_DATASET = flags.DEFINE_string(
  "dataset", None, f"One of {', '.join(sorted(ARCHIVES))}."
)
_DATA_DIR = cli.define_path(
  "data_dir", "", "The folder of prepared sets; default: the cache folder."
)
_MANUAL_DIR = cli.define_path(
  "manual_dir", "", "A folder with the archives; default: download them."
)


def main() -> None:
  """Prepares the set that --dataset names."""
  if not _DATASET.value:
    raise InputError(f"which set? --dataset={'|'.join(sorted(ARCHIVES))}.")
  place = prepared.prepare(_DATASET.value, _DATA_DIR.value, _MANUAL_DIR.value)
  print(f"{_DATASET.value} is in {place}.")


if __name__ == "__main__":
  cli.run(main, __doc__)
