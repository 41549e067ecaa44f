"""Embeds images or features with a finished run.

python -m experiments.embed --run=runs/birds --input=PHOTOS --output=points.npz

PHOTOS is an image, a folder of images (whose class folders are the labels), an
npz file with `images` or `features`, or a table (.csv, .tsv, .parquet) with a
column `path` of images or the feature columns of the training data. The output
is an .npz file with `embeddings`, `paths` and, if known, `labels`; or a
.parquet table. The other commands accept the npz file instead of the images.
"""

from absl import flags

from experiments import cli, using
from metric_learning import inference

_INPUT = cli.define_path("input", None, "The input to embed; see above.")
_OUTPUT = cli.define_path("output", None, "An .npz or .parquet file.")
flags.adopt_module_key_flags(using)


def main() -> None:
  """Embeds the input that --input names."""
  source = using.needed(_INPUT, "which input?", "photos")
  output = using.needed(_OUTPUT, "which output file?", "points.npz")
  inference.check_output(output, (".npz", ".parquet"))
  run = using.loaded()
  items = using.embedded(run, source)
  inference.write_items(output, items, run)
  print(f"Points: {output}")


if __name__ == "__main__":
  cli.run(main, __doc__)
