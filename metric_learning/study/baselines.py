"""Baselines that a trained network must beat: pixels, PCA, no training."""

import functools
import logging
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from ml_collections import ConfigDict
from sklearn.decomposition import PCA

from metric_learning import data, evaluation
from metric_learning.specs import as_numbers
from metric_learning.study.compared_with import said
from metric_learning.study.verification_accuracy import accuracy_scores
from metric_learning.training import run_files
from metric_learning.training.config import (
  as_dict,
  open_set_of,
  override,
  traced_numbers,
)
from metric_learning.training.embedding import arrays_of, embed_all
from metric_learning.training.plan import num_classes
from metric_learning.training.recorder import scores_of
from metric_learning.training.step import program_of

log = logging.getLogger(__name__)

BASELINES = "baselines.json"
# The untrained network, compared under L2.
_UNTRAINED = {
  "loss.name": "contrastive",
  "metric.name": "l2",
  "normalize": "none",
}
# Fields of the data that do not tell baselines apart: each fold has its own
# record, and images are already resized.
_UNSEEN = ("stream", "fold", "image_size")

Embed = Callable[[Any], np.ndarray]


def write_baselines(
  folder: Path, runs: Sequence[tuple[ConfigDict, data.Splits]]
) -> None:
  """Scores the baselines of every data split, network and seed of a study.

  There is one record for each fold and seed; its name contains what differs
  within the study. Baselines are compared under L2. Nothing about them is
  chosen, by test scores or otherwise. Does nothing if the file exists.
  """
  path = folder / BASELINES
  if path.exists():
    return
  records: dict[tuple[str, int, int | None], dict[str, Any]] = {}
  for (config, splits), (images, network) in zip(
    runs, _names(runs), strict=True
  ):
    fold = config.data.fold
    count, *shape = splits.train.inputs.shape
    dim = min(config.model.embedding_dim, count, math.prod(shape))
    for name, seed, make in (
      (f"raw {images}", None, lambda *_: _flat),
      (f"PCA-{dim} of {images}", None, functools.partial(_pca, dim)),
      (f"untrained {network}", config.seed, _untrained),
    ):
      if (name, fold, seed) not in records:
        log.info(
          "baseline: %s%s", name, "" if seed is None else f", seed {seed}"
        )
        embed = make(config, splits)
        record = _record(name, fold, seed, embed, splits, config)
        records[name, fold, seed] = record
  run_files.write_json(path, list(records.values()))


def _names(
  runs: Sequence[tuple[ConfigDict, data.Splits]],
) -> list[tuple[str, str]]:
  """The names of the inputs and the network of each run.

  Equal names mean equal embeddings for one fold and seed.
  """
  sections = [as_dict(config) for config, _ in runs]
  models = [fields["model"] for fields in sections]
  sources = [
    {
      "": splits.test.inputs.shape[1:3],
      **{k: v for k, v in fields["data"].items() if k not in _UNSEEN},
    }
    for fields, (_, splits) in zip(sections, runs, strict=True)
  ]
  varied = _varied(sources)
  # Networks have different options.
  varied_in = {
    name: _varied([model for model in models if model["name"] == name])
    for name in {model["name"] for model in models}
  }
  names = []
  for source, model, (_, splits) in zip(sources, models, runs, strict=True):
    where, name = _words(source, varied), model["name"]
    network = [name, *_words(model, varied_in[name]), *where]
    kind = "pixels" if splits.train.input_spec.kind == "image" else "features"
    names.append((f"{kind} {', '.join(where)}".strip(), ", ".join(network)))
  return names


def _varied(sections: Sequence[Mapping[str, Any]]) -> set[str]:
  """The fields that do not have the same value everywhere."""
  return {
    k for fields in sections for k, v in fields.items() if v != sections[0][k]
  }


def _words(fields: Mapping[str, Any], names: Collection[str]) -> list[str]:
  return [f"{k} {said(v)}".strip() for k, v in fields.items() if k in names]


def _pca(dim: int, _: ConfigDict, splits: data.Splits) -> Embed:
  pca = PCA(dim, random_state=0).fit(_flat(splits.train.inputs))
  return lambda images: pca.transform(_flat(images)).astype(np.float32)


def _untrained(config: ConfigDict, splits: data.Splits) -> Embed:
  plain = override(config, _UNTRAINED)
  program = program_of(plain, splits.train.input_spec)
  classes = num_classes(plain, splits.train)
  state = program.init(config.seed, classes, traced_numbers(plain))
  return functools.partial(embed_all, program, state)


def _flat(inputs: np.ndarray | data.ImageFiles) -> Float[np.ndarray, "n d"]:
  inputs = np.asarray(inputs)
  return np.asarray(as_numbers(inputs)).reshape(len(inputs), -1)


def _record(
  name: str,
  fold: int,
  seed: int | None,
  embed: Embed,
  splits: data.Splits,
  config: ConfigDict,
) -> dict[str, Any]:
  """The scores of a baseline; without a seed, with intervals over classes."""
  test, gallery, columns = splits.test, splits.gallery, config.eval.columns
  points = embed(test.inputs)
  references: dict[str, Any] = {"groups": test.groups}
  if gallery is not None:
    references["reference_groups"] = gallery.groups
    references["references"] = embed(gallery.inputs)
    references["reference_labels"] = gallery.labels
  scores = scores_of(
    points,
    test,
    "l2",
    asked=["own/eer", *columns],
    open_set=open_set_of(config),
    **references,
  )
  if any(map(evaluation.is_at_threshold, columns)):
    known = splits.validation
    arrays = arrays_of("validation", known, embed(known.inputs))
    scores |= accuracy_scores(arrays | arrays_of("test", test, points), "l2")
  record = {"name": name, "fold": fold, "seed": seed, "test": scores}
  record["commit"] = run_files.environment()["commit"]
  # Intervals resample classes, and an item with several labels has no single
  # class.
  if seed is None and test.pairs is None and not test.has_several_labels:
    queries = evaluation.per_query(
      columns,
      evaluation.Points(points, test.labels, "l2", gallery=references),
    )
    record["class_interval"] = {
      column: evaluation.class_bootstrap(values, test.labels)
      for column, values in queries.items()
    }
  return record
