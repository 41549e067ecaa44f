"""Cutting faces out of photographs: the files written, and the refusals."""

import importlib.machinery
import sys
import types

import numpy as np
import pytest
from PIL import Image

SIDE = 150


def with_dlib():
  """A stand-in for a detector that finds no face in a black image."""
  dlib = types.ModuleType("dlib")
  dlib.get_frontal_face_detector = lambda: (
    lambda pixels, _: [(0, 0)] if pixels.any() else []
  )
  dlib.shape_predictor = lambda _: lambda pixels, place: place
  dlib.rectangle = lambda *sides: sides
  dlib.get_face_chip = lambda pixels, found, side, margin: np.full(
    (side, side, 3), len(found), np.uint8
  )
  models = types.ModuleType("face_recognition_models")
  name = models.__name__
  models.__spec__ = importlib.machinery.ModuleSpec(name, None, origin="x/y.py")
  sys.modules |= {"dlib": dlib, name: models}


def without_dlib():
  sys.modules["dlib"] = None


@pytest.fixture
def photos(tmp_path):
  for path, value, mode in (
    ("ada/1.png", 90, "L"),
    ("ada/2.jpg", 90, "RGB"),
    ("bob/1.png", 0, "L"),
  ):
    (tmp_path / path).parent.mkdir(exist_ok=True)
    Image.new(mode, (20, 30), 3 * (value,) if mode == "RGB" else value).save(
      tmp_path / path
    )
  return tmp_path


def test_each_face_keeps_its_place_and_its_colors(
  run, photos, tmp_path_factory
):
  places = f"--input={photos}", f"--output={tmp_path_factory.mktemp('faces')}"
  done = run(*places, "--skip_bad", script="align", prepare=with_dlib)
  assert done.returncode == 0, done.stderr
  assert "2 faces" in done.stdout and "bob/1.png: 0 faces" in done.stdout
  faces = tmp_path_factory.getbasetemp() / places[1].partition("=")[2]
  written = {str(p.relative_to(faces)) for p in faces.rglob("*.*")}
  assert written == {"ada/1.png", "ada/2.jpg"}
  for name, mode in (("ada/1.png", "L"), ("ada/2.jpg", "RGB")):
    with Image.open(faces / name) as face:
      assert (face.size, face.mode) == ((SIDE, SIDE), mode)
  done = run(*places, "--whole", script="align", prepare=with_dlib)
  assert "3 faces" in done.stdout
  with Image.open(faces / "bob/1.png") as face:
    # A rectangle has four sides; what was detected here has two numbers.
    assert face.getextrema() == (4, 4)


@pytest.mark.parametrize(
  ("prepare", "words"),
  [
    (with_dlib, "1 of 3 images do not show one face: bob/1.png: 0 faces"),
    (
      without_dlib,
      "pip install 'metric-learning[faces]'",
    ),
  ],
)
def test_what_cannot_be_aligned_is_said(run, photos, prepare, words):
  output = photos / "faces"
  done = run(
    *(f"--input={photos}", f"--output={output}"),
    script="align",
    prepare=prepare,
  )
  assert done.returncode == 2
  assert words in done.stderr and not output.exists()
