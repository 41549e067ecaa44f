"""Embeds images or features by a finished run.

python -m experiments.embed --run=runs/birds --input=PHOTOS --output=points.npz

PHOTOS is a folder of images (labels are its class folders, if all are in some),
an image, an npz file with `images` or `features`, or a table (.csv, .tsv,
.parquet) with a column `path` of images or with the columns of features that
the run was trained on. The output is an .npz file with `embeddings`, `paths`
and, where they are known, `labels`; or a .parquet table. The other commands
take the npz file in place of the images.
"""

from absl import flags

from experiments import cli, using
from metric_learning import inference

_INPUT = cli.define_path("input", None, "What is embedded; see above.")
_OUTPUT = cli.define_path("output", None, "An .npz or .parquet file.")
flags.adopt_module_key_flags(using)


def main() -> None:
  """Embeds what --input names."""
  source = using.needed(_INPUT, "embed what?", "photos")
  output = using.needed(_OUTPUT, "where to?", "points.npz")
  inference.check_output(output, (".npz", ".parquet"))
  run = using.loaded()
  items = using.embedded(run, source)
  inference.write_items(output, items, run)
  print(f"Points: {output}")


if __name__ == "__main__":
  cli.run(main, __doc__)
