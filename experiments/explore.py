"""Writes a page to explore the embedding space of a run.

python -m experiments.explore --run=runs/one
python -m experiments.explore --run=runs/one --run=runs/other --output=both.html

The page is one HTML file that opens without a network. Each point is an image:
pointing shows its picture and class, and a click shows its nearest neighbors
under the trained metric. Two runs are shown side by side. --projections=umap
needs the extra umap. Test classes that you have looked at are no longer unseen:
--part=validation shows validation classes.
"""

from pathlib import Path

from absl import flags

from experiments import cli
from metric_learning import inference
from metric_learning.errors import InputError

_RUNS = cli.define_paths("run", "The folder of a finished run; twice for two.")
_PART = flags.DEFINE_enum(
  "part", "test", ["validation", "test"], "The part to show."
)
_PROJECTIONS = flags.DEFINE_list(
  "projections", ["as is", "pca", "tsne"], "Any of as is, pca, tsne, umap."
)
_IMAGES = flags.DEFINE_bool("images", True, "Whether to show pictures.")
_OUTPUT = cli.define_path(
  "output", None, "An .html file; default: explorer.html in the first run."
)


def main() -> None:
  """Writes the page of the runs that --run names."""
  if not _RUNS.value:
    raise InputError("which run? --run=runs/one, for example.")
  output = _OUTPUT.value or Path(_RUNS.value[0]) / "explorer.html"
  if _OUTPUT.value:
    inference.check_output(output, (".html",))
  cli.start_device()
  # Plotting is slow to import.
  from metric_learning.report import write_explorer

  page = write_explorer(
    output,
    _RUNS.value,
    part=_PART.value,
    projections=_PROJECTIONS.value,
    images=_IMAGES.value,
  )
  print(f"Page: {page} ({page.stat().st_size / 1e6:.1f} MB)")


if __name__ == "__main__":
  cli.run(main, __doc__)
