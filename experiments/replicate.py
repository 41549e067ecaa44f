"""Compares the verdicts of a study and of its replication.

python -m experiments.replicate --study=runs/glyphs --again=runs/glyphs_again

Make the replication with the command of the first study, another --study, and
another --config.seed, which must differ by 1000 or more. It may have fewer
cells. This command prints the share of verdicts that agree (decided in the same
direction, or unresolved in one or both), the flips between better and worse,
and every comparison of both studies. It trains nothing.
"""

from pathlib import Path

from experiments import cli
from metric_learning.errors import InputError

_STUDY = cli.define_path("study", None, "The folder of the first study.")
_AGAIN = cli.define_path("again", None, "The folder of the replication.")
_OUTPUT = cli.define_path("output", None, "A file to write the output to.")
_PAIR = cli.define_pair()


def main() -> None:
  """Reads both studies, and prints how far they agree."""
  from metric_learning.study.replication import replicated, replication_page

  if not (_STUDY.value and _AGAIN.value):
    raise InputError(
      "which studies? --study=runs/glyphs --again=runs/glyphs_again."
    )
  cli.start_device()
  first, second = (
    cli.scored(Path(flag.value), _PAIR.value) for flag in (_STUDY, _AGAIN)
  )
  page = replication_page(replicated(first, second), (first, second))
  print(page)
  if _OUTPUT.value:
    Path(_OUTPUT.value).write_text(page)


if __name__ == "__main__":
  cli.run(main, __doc__)
