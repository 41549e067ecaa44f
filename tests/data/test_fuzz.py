"""Readers of outside files: whatever a file holds, only `InputError` is raised.

Each test starts from a valid file. Hypothesis changes bytes, cuts the file, and
inserts bytes: a bounded number of times, and the same each time.
"""

import gzip
import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from metric_learning.data import files, imaging, provenance
from metric_learning.data.sets import npz, pairs_csv, table
from metric_learning.errors import InputError
from metric_learning.models import weights
from metric_learning.training import run_files
from tests.data.test_data_files import idx_bytes
from tests.models import torch_files as tf

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 5, 3), np.uint8)
VALUES = np.arange(6, dtype=np.float32).reshape(2, 3)


def image(form, mode="RGB"):
  buffer = io.BytesIO()
  Image.fromarray(PIXELS).convert(mode).save(buffer, form)
  return buffer.getvalue()


def saved(save, **arrays):
  buffer = io.BytesIO()
  save(buffer, **arrays)
  return buffer.getvalue()


def zipped():
  buffer = io.BytesIO()
  with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
    archive.writestr("a/1.txt", "one" * 20)
  return buffer.getvalue()


def read_zip(path):
  for folder in files.open_zip(path).iterdir():
    for member in folder.iterdir() if folder.is_dir() else ():
      with files.reading(str(path)):
        member.read_bytes()


def read_metrics(path):
  path.rename(path.with_name(run_files.METRICS))
  run_files.read_metrics(path.parent)


def read_record(name):
  return lambda path: run_files.read_json(path.rename(path.with_name(name)))


def read_provenance(path):
  text = path.read_bytes().decode("latin-1")
  provenance.read_provenance(path, np.array(text))


IDX = idx_bytes(PIXELS)
LINES = b'{"step": 1, "train/loss": 0.5}\n{"step": 2, "train/loss": null}\n'
RESULT = json.dumps({"diverged": "at step 3"}).encode()
# By name: the reader, a file that is whole, and how it is called.
READERS = {
  "IDX": (files.read_idx, IDX, "images"),
  "IDX, gzipped": (files.read_idx, gzip.compress(IDX), "images.gz"),
  "PNG": (lambda p: imaging.read_images([p]), image("PNG"), "a.png"),
  "PGM": (lambda p: imaging.read_images([p]), image("PPM", "L"), "a.pgm"),
  "JPEG": (lambda p: imaging.read_images([p]), image("JPEG"), "a.jpg"),
  "zip": (read_zip, zipped(), "a.zip"),
  "pairs": (
    pairs_csv.read_rows,
    b"first,second,same\na.png,b.png,1\nc.png,d.png,0\n",
    "pairs.csv",
  ),
  "table": (table.read_columns, b"label,x,y\n0,1.5,2\n1,3,4\n", "a.csv"),
  "npz": (npz.read_arrays, saved(np.savez, x=VALUES), "a.npz"),
  "npz, compressed": (
    npz.read_arrays,
    saved(np.savez_compressed, x=VALUES),
    "a.npz",
  ),
  "weights, npz": (weights.read, saved(np.savez, x=VALUES), "w.npz"),
  "weights, safetensors": (
    weights.read,
    safetensors.numpy.save({"x": VALUES}),
    "w.safetensors",
  ),
  "weights, torch zip": (weights.read, tf.saved({"x": VALUES}), "w.pth"),
  "weights, torch": (
    weights.read,
    tf.saved({"x": VALUES}, legacy=True),
    "w.pth",
  ),
  "metrics": (read_metrics, LINES, "lines"),
  "result": (read_record("result.json"), RESULT, "some"),
  "embeddings": (
    run_files.read_arrays,
    saved(np.savez, validation_embeddings=VALUES, validation_labels=VALUES),
    "embeddings.npz",
  ),
  "provenance": (read_provenance, b'{"network": "resnet18"}', "p"),
}

# (place, byte) to set, (place, bytes) to put in, and where it is cut.
PLACES = st.floats(0, 1, exclude_max=True)
EDITS = st.tuples(
  st.lists(st.tuples(PLACES, st.integers(0, 255)), max_size=4),
  st.lists(st.tuples(PLACES, st.binary(max_size=8)), max_size=2),
  st.one_of(st.none(), PLACES),
)


def edited(content, edits):
  changes, additions, cut = edits
  content = bytearray(content)
  for place, byte in changes:
    content[int(place * len(content))] = byte
  for place, more in additions:
    at = int(place * len(content))
    content[at:at] = more
  return bytes(content if cut is None else content[: int(cut * len(content))])


@pytest.mark.parametrize("reader", READERS)
def test_only_our_own_errors_come_out(reader, tmp_path_factory):
  read, content, name = READERS[reader]
  folder = tmp_path_factory.mktemp("fuzz")
  number = iter(range(10**9))

  def once(data):
    place = folder / f"{next(number)}"
    place.mkdir()
    path = Path(place, name)
    path.write_bytes(data)
    read(path)

  if reader not in ("embeddings", "provenance"):  # They lack what they need.
    once(content)

  @settings(max_examples=60, deadline=None, derandomize=True, database=None)
  @given(EDITS)
  def fuzz(edits):
    try:
      once(edited(content, edits))
    except InputError as error:
      assert str(error)

  fuzz()
