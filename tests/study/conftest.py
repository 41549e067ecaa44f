"""Fixtures of the tests of studies."""

import shutil

import pytest


@pytest.fixture
def study(real_study, tmp_path):
  """A copy of the trained and reported study that a test may change."""
  return shutil.copytree(real_study.reported, tmp_path / "study")
