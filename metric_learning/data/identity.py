"""Digests that identify a data set; they are stored with every run.

They depend neither on the location of the files nor on their times, so that
machines with copies of one folder can share a study.
"""

import hashlib
from collections.abc import Iterable
from typing import Any

import numpy as np
from jaxtyping import Shaped

# Bytes read at the beginning, the middle and the end of a large file.
_SAMPLE = 16 * 2**10


def digest(values: Iterable[str | Shaped[np.ndarray, "..."]]) -> str:
  """Twelve hexadecimal digits from strings or arrays, one after another.

  >>> digest(["ab", "c"]) == digest(["a", "bc"])
  False
  """
  # The fastest digest of the standard library if the processor has instructions
  # for it: 0.1 s for the 145 MB of Omniglot (measured).
  whole = hashlib.sha256()
  for value in values:
    if isinstance(value, str):
      value = np.frombuffer(value.encode(), np.uint8)
    whole.update(f"{value.dtype.str} {value.shape} ".encode())
    whole.update(np.ascontiguousarray(value).data)
  return whole.hexdigest()[:12]


def file_stamp(file: Any) -> int:
  """A digest of the size of an open file, and of all or some of its bytes.

  Of a file over 48 KiB, only the first, the middle and the last 16 KiB are
  read: if a pixel of a compressed image changes, so do the bytes at its end.

  >>> import io
  >>> file_stamp(io.BytesIO(b"abc")) == file_stamp(io.BytesIO(b"abd"))
  False
  """
  size = file.seek(0, 2)
  whole = hashlib.blake2b(str(size).encode(), digest_size=8)
  if size <= 3 * _SAMPLE:
    places, count = [0], size
  else:
    places, count = [0, (size - _SAMPLE) // 2, size - _SAMPLE], _SAMPLE
  for place in places:
    file.seek(place)
    whole.update(file.read(count))
  file.seek(0)
  return int.from_bytes(whole.digest())
