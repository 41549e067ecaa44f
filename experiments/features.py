"""Embeds a data set once with a pretrained trunk, to train heads on it.

python -m experiments.features --config=configs/cub100.py \
  --config.data.data_dir=FOLDER --config.data.image_size="(224, 224)" \
  --config.model.name=efficientnet_lite0 --config.model.weights=FILE \
  --out=features.npz
python -m experiments.train --config=configs/features.py \
  --config.data.data_dir=features.npz --config.data.split=official \
  --workdir=runs/head

The output holds the features before the head, for all parts of the set.
--views=2 adds two augmented views of each training item, with the augmentation
in the section `augment` of the config. With --config.data.stream=True, images
are read from disk as they are needed. If the split has folds, --folds=8 writes
the parts of the first eight folds, among which config.data.fold of a head
chooses. If the command is killed, the same command continues from the blocks
beside the output file.
"""

from absl import flags

from experiments import cli
from metric_learning.errors import InputError
from metric_learning.inference.features import write_features

_CONFIG = cli.define_config()
_OUT = cli.define_path("out", None, "The .npz file to write.")
_VIEWS = flags.DEFINE_integer(
  "views", 0, "Augmented views of each training item, beside the item itself."
)
_FOLDS = flags.DEFINE_integer(
  "folds", 1, "The number of folds of the split whose parts are written."
)
_BATCH_SIZE = flags.DEFINE_integer(
  "batch_size", 32, "Items that pass through the network together."
)


def main() -> None:
  """Writes the features, and prints their provenance."""
  config = cli.config_value(_CONFIG)
  if not _OUT.value:
    raise InputError("which output file? --out=features.npz, for example.")
  cli.start_device()
  made_by = write_features(
    config,
    _OUT.value,
    views=_VIEWS.value,
    folds=_FOLDS.value,
    batch_size=_BATCH_SIZE.value,
    progress=True,
  )
  print(f"{_OUT.value}: {made_by}.")


if __name__ == "__main__":
  cli.run(main, __doc__)
