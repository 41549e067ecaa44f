"""Compares the verdicts of a study and of its replication.

python -m experiments.replicate --study=runs/glyphs --again=runs/glyphs_again

The replication is made by the command of the first study with another
--config.seed, 1000 or more away, and another --study; it may have fewer cells.
Prints the share of verdicts that agree (decided the same way, or unresolved in
one or both), the flips between better and worse, and every comparison of both.
Trains nothing.
"""

from pathlib import Path

from experiments import cli
from metric_learning.errors import InputError

_STUDY = cli.define_path("study", None, "The folder of the first study.")
_AGAIN = cli.define_path("again", None, "That of the second.")
_OUTPUT = cli.define_path("output", None, "A file for what is printed.")
_PAIR = cli.define_pair()


def main() -> None:
  """Reads both studies, and prints what agrees."""
  from metric_learning.study.replication import replicated, replication_page

  if not (_STUDY.value and _AGAIN.value):
    raise InputError("which two? --study=runs/glyphs --again=runs/glyphs_again")
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
