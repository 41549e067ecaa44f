"""`signatures`: 93 writers with 40 genuine signatures each, 224×224, binary.

Luo et al. 2023, doi 10.1002/aisy.202300439. All writers write the same ten
names, once on each medium: two signatures of one writer on one medium are two
names, and a signature of another writer is an unskilled forgery of a name.
"""

import dataclasses
from typing import Any

import numpy as np
from jaxtyping import Int, Int32

from metric_learning.data import base, cuts
from metric_learning.data.sets import zipped
from metric_learning.errors import InputError

WRITERS, SIGNATURES = 93, 40
# The numbers of writers for training and validation; the last 25 are tested.
TRAIN, VALIDATION = 53, 15
SPLITS = {"writers": 1, "across_media": 1, "media_pairs": 1}
# The medium of signatures 10 t + 1 to 10 t + 10, for t from 0 to 3. The phone
# is in the hand, then on the table.
PAPER, TABLET, PHONE = range(3)
_MEDIA = np.repeat(np.array([PAPER, TABLET, PHONE, PHONE], np.int32), 10)
# The name that is written: ten names, in the same order on each medium.
_NAMES = np.tile(np.arange(10, dtype=np.int32), 4)


def load(config: Any) -> base.Splits:
  """Loads the signatures by "writers", "across_media" or "media_pairs".

  In each, the same 53 writers are for training, 15 for validation and 25 for
  test, in the alphabetical order of their folders.

  "writers": signatures on all media search each other.

  "across_media": enrollment on paper, verification on a phone. Test signatures
  on a phone are queries that search those on paper. Validation asks the same
  question: signatures on the same medium do not answer each other.

  "media_pairs": the same for verification scores, which use pairs and no
  gallery. The pairs of validation and test are all pairs of a signature on
  paper and one on a phone.
  """
  cuts.check_split(config, SPLITS)
  whole = read(config)
  if config.split == "across_media":
    media = np.tile(_MEDIA, WRITERS)
    whole = dataclasses.replace(whole, groups=media)
  parts = np.split(np.arange(WRITERS), [TRAIN, TRAIN + VALIDATION])
  splits = cuts.split_by_class(whole, parts)
  if config.split == "across_media":
    query, gallery = (_on(medium, splits.test) for medium in (PHONE, PAPER))
    return dataclasses.replace(splits, test=query, gallery=gallery)
  if config.split == "media_pairs":
    return dataclasses.replace(
      splits,
      validation=_with_pairs(splits.validation),
      test=_with_pairs(splits.test),
    )
  return splits


def read(config: Any) -> base.Dataset:
  """Reads `<writer 1 to 93>/<signature 1 to 40>.png`."""
  root = zipped.root_of(config, "signatures.zip", "1/1.png")
  writers = sorted(str(number) for number in range(1, WRITERS + 1))
  names = [
    f"{writer}/{number}.png"
    for writer in writers
    for number in range(1, SIGNATURES + 1)
  ]
  return zipped.read(config, root, names, writers)


def media_of(labels: Int[np.ndarray, " n"]) -> Int32[np.ndarray, " n"]:
  """The medium of each signature: `PAPER`, `TABLET` or `PHONE`.

  `labels` are those of whole writers, one after another, as in each part.

  Raises:
    InputError: if they are not.
  """
  return _of_writers(_MEDIA, labels)


def names_of(labels: Int[np.ndarray, " n"]) -> Int32[np.ndarray, " n"]:
  """The number of the name that each signature writes, 0 to 9.

  Labels and errors are those of `media_of`.
  """
  return _of_writers(_NAMES, labels)


def _of_writers(
  each: Int32[np.ndarray, " 40"], labels: Int[np.ndarray, " n"]
) -> Int32[np.ndarray, " n"]:
  """The values of the signatures of one writer, for each writer."""
  writers = np.asarray(labels)
  if len(writers) % SIGNATURES or np.any(
    writers.reshape(-1, SIGNATURES) != writers[::SIGNATURES, None]
  ):
    raise InputError(
      f"labels: the media are known if each writer has {SIGNATURES} signatures,"
      " one after another, as in the set signatures; these are not."
    )
  return np.tile(each, len(writers) // SIGNATURES)


def _on(medium: int, part: base.Dataset) -> base.Dataset:
  return base.select(part, np.flatnonzero(media_of(part.labels) == medium))


def _with_pairs(part: base.Dataset) -> base.Dataset:
  """The part with all pairs of a signature on paper and one on a phone."""
  media = media_of(part.labels)
  paper, phone = (np.flatnonzero(media == m) for m in (PAPER, PHONE))
  first, second = (
    side.ravel().astype(np.int32)
    for side in np.meshgrid(paper, phone, indexing="ij")
  )
  same = part.labels[first] == part.labels[second]
  return dataclasses.replace(part, pairs=base.Pairs(first, second, same, None))
