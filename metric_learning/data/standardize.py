"""Scales features to mean 0 and deviation 1 in the training part."""

import dataclasses
import warnings
from typing import Any

import numpy as np
from jaxtyping import Float, Float32

from metric_learning.data.base import Dataset, Splits
from metric_learning.errors import InputError


def standardized(splits: Splits) -> Splits:
  """Subtracts the training mean of each feature; divides by its deviation.

  A feature that is constant in training becomes 0 everywhere, with a warning.

  Raises `InputError` for images: networks scale them.
  """
  spec = splits.train.input_spec
  if spec.kind != "features":
    raise InputError(
      f"config.data.standardize is for features, but {splits.train.name} holds"
      f" {spec}: set it to False."
    )
  train = np.asarray(splits.train.inputs, np.float64)
  mean, deviation = train.mean(axis=0), train.std(axis=0)
  # Rounding can make the mean of equal numbers differ from them.
  constant = (train == train[:1]).all(axis=0)
  if constant.any():
    first = np.flatnonzero(constant)[:5].tolist()
    warnings.warn(
      f"{splits.train.name}: {constant.sum()} of {len(mean)} features are the"
      f" same for all of training (the first: {first}), so they become 0.",
      stacklevel=2,
    )
  factor = np.where(constant, 0.0, 1 / np.where(constant, 1.0, deviation))

  def changed(part: Dataset) -> Dataset:
    return dataclasses.replace(part, inputs=scaled(part.inputs, mean, factor))

  parts: dict[str, Any] = {
    name: changed(getattr(splits, name))
    for name in ("train", "validation", "test")
  }
  if splits.gallery is not None:
    parts["gallery"] = changed(splits.gallery)
  return dataclasses.replace(splits, **parts, scale=(mean, factor))


def scaled(
  features: Any, mean: Float[np.ndarray, " d"], factor: Float[np.ndarray, " d"]
) -> Float32[np.ndarray, "n d"]:
  """Features less the mean, times the factor.

  >>> scaled(np.array([[3.0, 5.0]]), np.array([1.0, 5.0]), np.array([2.0, 0.0]))
  array([[4., 0.]], dtype=float32)
  """
  numbers = (np.asarray(features, np.float64) - mean) * factor
  return numbers.astype(np.float32)
