"""Compares learned Mahalanobis distances with metric-learn's on three tables.

python -m experiments.benchmarks.classical

Writes results/features.md (extra `bench`). The tables are those of
scikit-learn: wine, breast_cancer and digits. Ours is a run of the one training
loop on the data set `features`: the network `identity`, the metric
`mahalanobis`, and a loss at its default numbers. Theirs are NCA, LMNN and ITML
at their defaults. Both see the same standardized training rows, and no test
row. The same command resumes a killed one from the runs in --runs.
"""

import functools
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
_SPLITS = flags.DEFINE_integer("splits", 5, "Draws of who is tested.", 2)

TABLES: dict[str, Callable[..., Any]] = {
  "wine": datasets.load_wine,
  "breast_cancer": datasets.load_breast_cancer,
  "digits": datasets.load_digits,
}
LOSSES = ("nca", "supcon", "contrastive", "triplet", "lifted")
NEIGHBORS = (1, 5)
EUCLID = "Euclidean distance"
# Times are shares of that of this one.
CLOCK = "metric-learn NCA"

Rows = Float[np.ndarray, "n d"]
Labels = Int[np.ndarray, " n"]
# Training rows, test rows, and the labels of both.
Parts = tuple[Rows, Rows, Labels, Labels]
# How training and test rows are mapped before Euclid compares them.
Mapped = tuple[Rows, Rows]


def main() -> None:
  """Runs what is missing, and writes the page."""
  sections = [_section(name, load) for name, load in TABLES.items()]
  splits = "" if _SPLITS.value == 5 else f" --splits={_SPLITS.value}"
  text = (
    "# Classical metric learning on tables\n\nWritten by `python -m"
    f" experiments.benchmarks.classical{splits}` at commit"
    f" {run_files.commit()}. The tables show the accuracy, in percent, of a"
    " vote of the nearest 1 or 5 training rows: its mean and 95 % t-interval"
    f" over {_SPLITS.value} stratified draws of 30 % test rows, which are the"
    " same for all methods. The draws share rows, so the intervals are somewhat"
    " too short. The column *against Euclid* is the difference of the"
    " accuracies of 5 neighbors, paired by draw, with its interval. Features"
    " are standardized by the training rows.\n\n"
    "Ours: `identity` with the metric `mahalanobis`, 300 steps of Adam at rate"
    " 0.01 on batches of about 64 rows, each loss with its default"
    " hyperparameters. Theirs: metric-learn with its defaults, ITML from"
    " labels. Nothing was tuned or chosen. This compares defaults, and says"
    " little about what tuning would reach.\n\n"
    f"The column *time* is the training time as a share of that of {CLOCK} on"
    " the same draw, the median over draws. All methods were measured in turn,"
    " in one process. Ours are whole runs of the training loop, with its files;"
    " they compile in the first draw only. Theirs are calls of `fit`.\n\n"
  )
  text += "\n\n".join(sections) + "\n"
  run_files.write_atomically(
    Path(_OUTPUT.value), lambda file: file.write(text.encode())
  )
  print(text)


def _section(name: str, load: Callable[..., Any]) -> str:
  """The table of one data set."""
  x, labels = load(return_X_y=True)
  found: dict[str, list[dict[str, float]]] = {}
  for split in range(_SPLITS.value):
    parts = train_test_split(
      x, labels, test_size=0.3, random_state=split, stratify=labels
    )
    train_x, test_x, train_y, test_y = parts
    scaler = StandardScaler().fit(train_x)
    rows = scaler.transform(train_x), scaler.transform(test_x)
    for method, learn in _methods(name, split).items():
      file = Path(_RUNS.value) / name / f"{method.replace(' ', '_')}_{split}"
      score = _once(file, learn, (*rows, train_y, test_y))
      found.setdefault(method, []).append(score)
  lines = [_line(method, each, found) for method, each in found.items()]
  heads = ["", *(f"{k} nearest" for k in NEIGHBORS), "against Euclid", "time"]
  about = f"{x.shape[0]} rows of {x.shape[1]} numbers, {labels.max() + 1}"
  return f"## {name}: {about} classes\n\n{as_markdown(heads, lines)}"


def _line(
  method: str,
  each: list[dict[str, float]],
  found: dict[str, list[dict[str, float]]],
) -> list[str]:
  """One method: accuracies, the paired difference from Euclid, and time."""
  last = str(NEIGHBORS[-1])
  gains = [
    100 * (one[last] - other[last])
    for one, other in zip(each, found[EUCLID], strict=True)
  ]
  shares = [
    one["seconds"] / other["seconds"]
    for one, other in zip(each, found[CLOCK], strict=True)
  ]
  euclid = method == EUCLID
  return [
    method,
    *(_interval([100 * one[str(k)] for one in each]) for k in NEIGHBORS),
    "–" if euclid else _interval(gains, sign="+"),
    "–" if euclid else f"{np.median(shares):.2g}",
  ]


def _interval(values: list[float], sign: str = "") -> str:
  interval = t_interval(values)
  return f"{interval.mean:{sign}.1f} ± {interval.half_width:.1f}"


def _once(
  file: Path, learn: Callable[[Parts], Mapped], parts: Parts
) -> dict[str, float]:
  """Accuracy by the number of neighbors, and seconds; kept in a file."""
  file = file.with_suffix(".json")
  if not file.exists():
    run_files.make_folder(file.parent)
    start = time.perf_counter()
    train_x, test_x = learn(parts)
    score = {"seconds": time.perf_counter() - start}
    for k in NEIGHBORS:
      nearest = KNeighborsClassifier(k).fit(train_x, parts[2])
      score[str(k)] = float(nearest.score(test_x, parts[3]))
    run_files.write_json(file, score)
  return run_files.read_json(file)


def _methods(name: str, split: int) -> dict[str, Callable[[Parts], Mapped]]:
  """Each method: from rows and labels to training and test rows, mapped."""
  import metric_learn

  theirs = {
    CLOCK: metric_learn.NCA(random_state=split),
    "metric-learn LMNN": metric_learn.LMNN(random_state=split),
    "metric-learn ITML": metric_learn.ITML_Supervised(random_state=split),
  }
  folder = Path(_RUNS.value) / name
  ours = {
    f"{loss}, mahalanobis": functools.partial(
      _ours, folder / f"{loss}_{split}", loss, split
    )
    for loss in LOSSES
  }
  return {
    EUCLID: lambda parts: parts[:2],
    **ours,
    **{
      method: functools.partial(_theirs, learner)
      for method, learner in theirs.items()
    },
  }


def _theirs(learner: Any, parts: Parts) -> Mapped:
  train_x, test_x, train_y, _ = parts
  learner.fit(train_x, train_y)
  return learner.transform(train_x), learner.transform(test_x)


def _ours(workdir: Path, loss: str, split: int, parts: Parts) -> Mapped:
  """A run: its test rows look among those of training."""
  train_x, test_x, train_y, test_y = parts
  file = workdir.with_suffix(".npz")
  # Nothing is chosen: the last step counts, and what validates is unused.
  names = {
    "train": (train_x, train_y),
    "gallery": (train_x, train_y),
    "validation": (train_x, train_y),
    "query": (test_x, test_y),
  }
  if not file.exists():
    run_files.write_arrays(file, _arrays(names))
  classes = len(np.unique(train_y))
  config = _config(file, loss, split, train_x.shape[1], classes)
  train(config, workdir, progress=False)
  arrays = run_files.read_arrays(workdir / run_files.EMBEDDINGS)
  return arrays["gallery_embeddings"], arrays["test_embeddings"]


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
