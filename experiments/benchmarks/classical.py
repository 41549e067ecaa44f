"""A learned Mahalanobis distance on three tables, beside metric-learn's.

python -m experiments.benchmarks.classical

Writes results/features.md (extra `bench`). The tables are those of
scikit-learn: digits, wine and breast_cancer. Ours is a run of the one training
loop on the data set `features`: the network `identity`, the metric
`mahalanobis`, and a loss at its default numbers. Theirs are NCA, LMNN and ITML
at their defaults. Both see the same standardized training rows, and no test
row; accuracy is that of the nearest training row. Killed, it goes on.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags
from jaxtyping import Float, Int, Shaped
from sklearn import datasets
from sklearn.model_selection import train_test_split
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler

from experiments import cli
from metric_learning.study.formats import as_markdown
from metric_learning.study.statistics import t_interval
from metric_learning.training import base_config, override, run_files, train
from metric_learning.training.config import with_loss, with_model

_RUNS = cli.define_path("runs", "runs/classical", "The folder of the runs.")
_OUTPUT = cli.define_path("output", "results/features.md", "The page.")
_SPLITS = flags.DEFINE_integer("splits", 5, "Draws of who is tested.", 1)

TABLES: dict[str, Callable[..., Any]] = {
  "digits": datasets.load_digits,
  "wine": datasets.load_wine,
  "breast_cancer": datasets.load_breast_cancer,
}
LOSSES = ("nca", "supcon", "contrastive", "triplet", "lifted")
Rows = Float[np.ndarray, "n d"]
Labels = Int[np.ndarray, " n"]


def main() -> None:
  """Runs what is missing, and writes the page."""
  sections = [_section(name, load) for name, load in TABLES.items()]
  text = (
    "# Classical metric learning on tables\n\nWritten by `python -m"
    f" experiments.benchmarks.classical` at commit {run_files.commit()}."
    " Accuracy of the nearest training row, in percent, and seconds to train,"
    " each with a 95 % t-interval over"
    f" {_SPLITS.value} stratified draws of 30 % test rows. Features are"
    " standardized by the training rows. Ours: `identity` with the metric"
    " `mahalanobis`, 300 steps of Adam at rate 0.01 on batches of 64, no number"
    " tuned; seconds are those of the whole run, with what it compiles and"
    " writes. Theirs: metric-learn at its defaults, ITML from labels. Nothing"
    " was chosen by test rows. These are small, easy tables: a difference"
    " within the intervals says nothing.\n\n"
  )
  text += "\n\n".join(sections) + "\n"
  run_files.write_atomically(
    _OUTPUT.value, lambda file: file.write(text.encode())
  )
  print(text)


def _section(name: str, load: Callable[..., Any]) -> str:
  """The table of one data set."""
  x, labels = load(return_X_y=True)
  found: dict[str, list[tuple[float, float]]] = {}
  for split in range(_SPLITS.value):
    parts = train_test_split(
      x, labels, test_size=0.3, random_state=split, stratify=labels
    )
    train_x, test_x, train_y, test_y = parts
    scaler = StandardScaler().fit(train_x)
    rows = scaler.transform(train_x), scaler.transform(test_x)
    for method, score in _methods(name, split).items():
      found.setdefault(method, []).append(score(*rows, train_y, test_y))
  heads = ["", "accuracy", "seconds"]
  lines = [
    [method, _interval([100 * a for a, _ in each]), _interval(_seconds(each))]
    for method, each in found.items()
  ]
  about = f"{x.shape[0]} rows of {x.shape[1]} numbers, {labels.max() + 1}"
  return f"## {name}: {about} classes\n\n{as_markdown(heads, lines)}"


def _seconds(each: list[tuple[float, float]]) -> list[float]:
  return [seconds for _, seconds in each]


def _interval(values: list[float]) -> str:
  interval = t_interval(values)
  return f"{interval.mean:.1f} ± {interval.half_width:.1f}"


def _methods(name: str, split: int) -> dict[str, Callable[..., Any]]:
  """Each method: (train, test, labels, labels) to accuracy and seconds."""
  import metric_learn

  theirs = {
    "metric-learn NCA": lambda: metric_learn.NCA(random_state=split),
    "metric-learn LMNN": lambda: metric_learn.LMNN(random_state=split),
    "metric-learn ITML": lambda: metric_learn.ITML_Supervised(
      random_state=split
    ),
  }
  ours = {
    f"{loss}, mahalanobis": lambda *rows, loss=loss: _ours(
      Path(_RUNS.value) / name / f"{loss}_{split}", loss, split, *rows
    )
    for loss in LOSSES
  }
  return {
    "Euclidean distance": _euclidean,
    **ours,
    **{
      method: lambda *rows, make=make: _theirs(make(), *rows)
      for method, make in theirs.items()
    },
  }


def _euclidean(
  train_x: Rows, test_x: Rows, train_y: Labels, test_y: Labels
) -> tuple[float, float]:
  """Accuracy of the nearest neighbor."""
  nearest = KNeighborsClassifier(1).fit(train_x, train_y)
  return nearest.score(test_x, test_y), 0.0


def _theirs(
  learner: Any, train_x: Rows, test_x: Rows, train_y: Labels, test_y: Labels
) -> tuple[float, float]:
  """Accuracy and seconds of one of metric-learn."""
  start = time.perf_counter()
  learner.fit(train_x, train_y)
  seconds = time.perf_counter() - start
  rows = learner.transform(train_x), learner.transform(test_x)
  return _euclidean(*rows, train_y, test_y)[0], seconds


def _ours(
  workdir: Path,
  loss: str,
  split: int,
  train_x: Rows,
  test_x: Rows,
  train_y: Labels,
  test_y: Labels,
) -> tuple[float, float]:
  """Accuracy and seconds of a run: its test rows look among the training's."""
  file = workdir.with_suffix(".npz")
  file.parent.mkdir(parents=True, exist_ok=True)
  parts = {"train": (train_x, train_y), "gallery": (train_x, train_y)}
  # Nothing is chosen: the last step counts, and what validates is unused.
  parts |= {"validation": (train_x, train_y), "query": (test_x, test_y)}
  if not file.exists():
    run_files.write_arrays(file, _arrays(parts))
  start = time.perf_counter()
  result = train(
    _config(file, loss, split, train_x.shape[1], len(np.unique(train_y))),
    workdir,
    progress=False,
  )
  seconds = time.perf_counter() - start
  arrays = run_files.read_arrays(workdir / run_files.EMBEDDINGS)
  accuracy, _ = _euclidean(
    arrays["gallery_embeddings"],
    arrays["test_embeddings"],
    arrays["gallery_labels"],
    arrays["test_labels"],
  )
  return accuracy, max(seconds, result["seconds"])


def _arrays(
  parts: dict[str, tuple[Rows, Labels]],
) -> dict[str, Shaped[np.ndarray, "..."]]:
  """The arrays of an npz file with these parts."""
  return {
    "features": np.concatenate([x for x, _ in parts.values()]).astype("f4"),
    "labels": np.concatenate([y for _, y in parts.values()]),
    "split": np.repeat(
      list(parts), [len(labels) for _, labels in parts.values()]
    ),
  }


def _config(file: Path, loss: str, split: int, dim: int, classes: int) -> Any:
  """A whole config: batches of about 64 rows, all classes in each."""
  config = base_config()
  with_model(config, "identity", embedding_dim=dim)
  with_loss(config, loss)
  return override(
    config.lock(),
    {
      "seed": split,
      "data.name": "features",
      "data.data_dir": str(file),
      "data.split": "official",
      "data.protocol": "closed-set",
      "batch.classes_per_batch": classes,
      "batch.images_per_class": max(2, 64 // classes),
      "metric.name": "mahalanobis",
      "normalize": "none",
      "margin_unit": "initial_mean",
      "optimizer.learning_rate": 0.01,
      "train.steps": 300,
      "train.log_every": 300,
      "train.eval_every": 300,
      "train.save_every": 300,
    },
  )


if __name__ == "__main__":
  cli.run(main, __doc__)
