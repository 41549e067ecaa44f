"""What any trained network must beat: pixels, PCA, the untrained network."""

import functools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from ml_collections import ConfigDict
from sklearn.decomposition import PCA

from metric_learning import data, evaluation
from metric_learning.study.thresholds import accuracy_scores
from metric_learning.training import records
from metric_learning.training.config import (
  as_dict,
  override,
  traced_numbers,
)
from metric_learning.training.programs import (
  embed_images,
  num_classes,
  program_of,
)
from metric_learning.training.recorder import arrays_of, scores_of

BASELINES = "baselines.json"
# The network as it is, compared under L2: what cross-entropy would start from.
_UNTRAINED = {"loss.name": "contrastive", "metric": "l2", "normalize": "none"}


def write_baselines(
  folder: Path, runs: Sequence[tuple[ConfigDict, data.Splits]]
) -> None:
  """Scores the baselines of every data split, network and seed of a study.

  Their own metric is L2. They have nothing to choose, so their test scores
  choose nothing. Does nothing if the file is there.
  """
  path = folder / BASELINES
  if path.exists():
    return
  sizes = {splits.test.images.shape[1:3] for _, splits in runs}
  found: dict[str, dict[str, Any]] = {}
  for config, splits in runs:
    height, width = splits.test.images.shape[1:3]
    pixels_of = f"pixels {height}×{width}" if len(sizes) > 1 else "pixels"
    fold = config.data.fold
    fields = as_dict(config)
    where = json.dumps(fields["data"], sort_keys=True)
    dim, columns = config.model.embedding_dim, config.eval.columns
    name = f"raw pixels {where}"
    if name not in found:
      label = f"raw {pixels_of}"
      found[name] = _record(label, fold, None, _flat, splits, columns)
    name = f"PCA {dim} {where}"
    if name not in found:
      pca = PCA(min(dim, *_flat(splits.train.images).shape), random_state=0)
      pca.fit(_flat(splits.train.images))
      label = f"PCA-{pca.n_components_} of {pixels_of}"
      project = lambda images, pca=pca: pca.transform(_flat(images)).astype(
        np.float32
      )
      found[name] = _record(label, fold, None, project, splits, columns)
    network = json.dumps(fields["model"], sort_keys=True)
    name = f"untrained {network} {config.seed} {where}"
    if name not in found:
      plain = override(config, _UNTRAINED)
      program = program_of(plain, splits)
      classes = num_classes(plain, splits.train)
      state = program.init(config.seed, classes, traced_numbers(plain))
      embed = functools.partial(embed_images, program, state)
      label = f"untrained {config.model.name}"
      found[name] = _record(label, fold, config.seed, embed, splits, columns)
  records.write_json(path, list(found.values()))


def _flat(images: np.ndarray | data.ImageFiles) -> Float[np.ndarray, "n d"]:
  images = np.asarray(images)
  return images.reshape(len(images), -1).astype(np.float32) / 255


def _record(
  name, fold, seed, embed, splits: data.Splits, columns
) -> dict[str, Any]:
  """The scores of one baseline; without a seed, with class intervals."""
  test, gallery = splits.test, splits.gallery
  points = embed(test.images)
  references: dict[str, Any] = {}
  if gallery is not None:
    references["references"] = embed(gallery.images)
    references["reference_labels"] = gallery.labels
  scores = scores_of(
    points, test, "l2", asked=["own/eer", *columns], **references
  )
  if "own/accuracy" in columns and "own/eer" in scores:
    known = splits.validation
    arrays = arrays_of("validation", known, embed(known.images))
    scores |= accuracy_scores(arrays | arrays_of("test", test, points), "l2")
  record = {"name": name, "fold": fold, "seed": seed, "test": scores}
  record["commit"] = records.environment()["commit"]
  if seed is None and test.pairs is None:
    record["class_interval"] = {}
    for prefix, metric in (("own", "l2"), ("cosine", "cosine")):
      queries = evaluation.retrieval_per_query(
        points, test.labels, metric=metric, **references
      )
      for column in ("recall_at_1", "map_at_r"):
        record["class_interval"][f"{prefix}/{column}"] = (
          evaluation.class_bootstrap(queries[column], test.labels)
        )
  return record
