"""Fixtures of the tests of scripts."""

import subprocess

import pytest

from tests.forks import FORKS, fork


@pytest.fixture
def run(tmp_path_factory):
  """A function that runs a script in a process that calls `prepare` first."""

  def done(*arguments, script="train", prepare=None):
    folder = tmp_path_factory.mktemp("said")
    arguments = [str(argument) for argument in arguments]
    process = FORKS.Process(
      target=fork, args=(script, arguments, folder, prepare)
    )
    process.start()
    process.join()
    return subprocess.CompletedProcess(
      arguments,
      process.exitcode,
      (folder / "out").read_text(),
      (folder / "err").read_text(),
    )

  return done
