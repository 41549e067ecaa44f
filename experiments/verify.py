"""Decides whether pairs of images are of the same class.

python -m experiments.verify --run=runs/faces --first=a.png --second=b.png \
  --far=0.01
python -m experiments.verify --run=runs/faces --pairs=pairs.csv --far=0.01 \
  --output=decided.csv

pairs.csv has the columns `first` and `second`, with paths relative to its
folder. With a column `same` (1 or 0), scores are printed too. The threshold
accepts at most a share --far of the impostor pairs of the validation classes of
the run. A share too small for this validation part is refused.
"""

from pathlib import Path
from typing import Any

import numpy as np
from absl import flags

from experiments import cli, using
from metric_learning import evaluation, inference
from metric_learning.errors import InputError

_FIRST = cli.define_path("first", None, "An image.")
_SECOND = cli.define_path("second", None, "Another image.")
_PAIRS = cli.define_path(
  "pairs", None, "A CSV file of pairs, instead of --first and --second."
)
_FAR = flags.DEFINE_float("far", 0.01, "The false-accept rate.")
_OUTPUT = cli.define_path("output", None, "A .csv file of all decisions.")
flags.adopt_module_key_flags(using)


def main() -> None:
  """Decides the pair or pairs that flags name."""
  if bool(_PAIRS.value) == bool(_FIRST.value and _SECOND.value):
    raise InputError(
      "which pairs? --first=a.png --second=b.png, or --pairs=pairs.csv."
    )
  if _OUTPUT.value:
    inference.check_output(_OUTPUT.value, (".csv",))
  pairs, same = [(Path(_FIRST.value or ""), Path(_SECOND.value or ""))], None
  if _PAIRS.value:
    pairs, same = inference.read_pairs(_PAIRS.value)
  run = using.loaded()
  rows, first, second = _embedded(run, pairs)
  verdict = run.verify(first, second, far=_FAR.value)
  print(verdict.threshold)
  _write([pairs[i] for i in rows], verdict, same and [same[i] for i in rows])
  if same is not None:
    _print_scores(verdict, np.array(same)[rows])


def _embedded(
  run: inference.FinishedRun, pairs: list[tuple[Path, Path]]
) -> tuple[list[int], np.ndarray, np.ndarray]:
  """The indices of usable pairs, and the points of their two sides."""
  images = list(dict.fromkeys(image for pair in pairs for image in pair))
  embedded = run.embed_files(images, **using.options())
  using.say_skipped(embedded.bad)
  place = {path: i for i, path in enumerate(embedded.paths)}
  usable = [i for i, pair in enumerate(pairs) if {*pair} <= place.keys()]
  if len(usable) < len(pairs):
    print(f"{len(pairs) - len(usable)} of {len(pairs)} pairs are left out.")
  if not usable:
    raise InputError("no pair has two usable images.")
  first, second = (
    embedded.points[[place[pairs[i][side]] for i in usable]] for side in (0, 1)
  )
  return usable, first, second


def _write(
  pairs: list[tuple[Path, Path]],
  verdict: inference.Verdict,
  same: list[bool] | None,
) -> None:
  """Writes the decisions to --output, or prints them."""
  decisions = zip(
    pairs, verdict.distances.tolist(), verdict.same.tolist(), strict=True
  )
  rows: list[tuple[Any, ...]] = [
    (*pair, distance, int(accepted)) for pair, distance, accepted in decisions
  ]
  names = ["first", "second", "distance", "accepted"]
  if not _OUTPUT.value:
    for one, other, distance, accepted in rows:
      word = "same" if accepted else "different"
      print(f"{one} {other}: {word}, distance {distance:.6g}")
    return
  if same is not None:
    names += ["same"]
    rows = [(*row, int(x)) for row, x in zip(rows, same, strict=True)]
  inference.write_csv(_OUTPUT.value, names, rows)
  print(f"Decisions: {_OUTPUT.value}")


def _print_scores(verdict: inference.Verdict, same: np.ndarray) -> None:
  """Prints the scores of the pairs, and their error rates at the threshold."""
  scores = evaluation.verification(
    verdict.distances, same, threshold=verdict.threshold.distance
  )
  for name, wrong in (
    ("far_at_threshold", verdict.same[~same]),
    ("frr_at_threshold", ~verdict.same[same]),
  ):
    scores[name] = float(wrong.mean()) if len(wrong) else float("nan")
  for name, value in scores.items():
    print(f"{name} {value:.6g}")


if __name__ == "__main__":
  cli.run(main, __doc__)
