"""Fixtures of the tests of training."""

import os

import pytest

from metric_learning import data
from metric_learning.training import recorder, stopping
from tests.tiny import tiny_config


@pytest.fixture(scope="module")
def splits():
  return data.load(tiny_config().data)


@pytest.fixture
def signal_at(monkeypatch):
  """A function that sends a signal to this process while a step is logged."""

  def send(step, number):
    log_steps = recorder.Recorder.log_steps

    def logged(self, done, steps):
      if done == step and not stopping.asked():
        os.kill(os.getpid(), number)
      return log_steps(self, done, steps)

    monkeypatch.setattr(recorder.Recorder, "log_steps", logged)

  return send
