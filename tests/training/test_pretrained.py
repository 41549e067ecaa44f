"""Runs that start from a weights file: its checks, and the run's identity."""

import math

import jax
import numpy as np
import pytest
from flax import nnx

from metric_learning import data, inference, models
from metric_learning.errors import InputError
from metric_learning.models.weights import Layout, digest_of
from metric_learning.training import run_files, train
from metric_learning.training.config import base_config, override, with_model
from metric_learning.training.plan import make_plan
from tests.tiny import tiny_config


class Small(nnx.Module):
  """A dense layer with batch normalization, with weights files in the table."""

  sees = ("image",)
  layout = Layout({"first": "fc1", "norm": "bn"}, (r"classes\..*",))

  def __init__(self, item_shape, embedding_dim, *, rngs):
    self.first = nnx.Linear(math.prod(item_shape), 6, rngs=rngs)
    self.norm = nnx.BatchNorm(6, rngs=rngs)
    self.head = nnx.Linear(6, embedding_dim, rngs=rngs)

  def __call__(self, inputs, *, train):
    x = self.first(inputs.reshape(len(inputs), -1))
    return self.head(nnx.relu(self.norm(x, use_running_average=not train)))


def tensors():
  rng = np.random.default_rng(0)
  draw = lambda *shape: rng.uniform(0.5, 1, shape).astype(np.float32)
  return {
    "fc1.weight": draw(6, 64),
    "fc1.bias": draw(6),
    "bn.weight": draw(6),
    "bn.bias": draw(6),
    "bn.running_mean": draw(6),
    "bn.running_var": draw(6),
    "classes.weight": draw(9, 6),
  }


@pytest.fixture
def path(tmp_path, monkeypatch):
  monkeypatch.setitem(models.MODELS, "small", Small)
  np.savez(tmp_path / "file.npz", **tensors())
  return tmp_path / "file.npz"


def config_of(path, **more):
  names = {"model__name": "small", "model__weights": str(path)}
  return tiny_config(**names, **more)


def test_trunk_and_statistics_begin_as_the_file_and_the_head_as_drawn(path):
  plans = [
    make_plan(override(config_of(path), more))
    for more in ({}, {"model.weights": None})
  ]
  state, plain = (p.program.init(3, p.num_classes, p.numbers) for p in plans)
  given = tensors()
  found, stats = state["params"]["model"], state["stats"]
  np.testing.assert_array_equal(found["first"]["kernel"], given["fc1.weight"].T)
  np.testing.assert_array_equal(found["norm"]["scale"], given["bn.weight"])
  np.testing.assert_array_equal(stats["norm"]["mean"], given["bn.running_mean"])
  np.testing.assert_array_equal(stats["norm"]["var"], given["bn.running_var"])
  # The file has no head: the seed draws the same one as without a file.
  head, drawn = found["head"], plain["params"]["model"]["head"]
  np.testing.assert_allclose(head["kernel"], drawn["kernel"], rtol=1e-6)
  assert jax.tree.structure(state) == jax.tree.structure(plain)


@pytest.mark.slow
def test_a_run_is_of_its_file_and_a_frozen_trunk_stays_that(path, tmp_path):
  config = config_of(path, optimizer__trunk__freeze=True)
  result = train(config, tmp_path / "run", progress=False)
  assert result["weights"] == digest_of(path)
  kept = run_files.read_json(tmp_path / "run" / run_files.DATA)
  assert kept["weights"] == digest_of(path)
  assert {k: v for k, v in kept.items() if k != "weights"} == data.load(
    config.data
  ).identity
  trained = inference.load(tmp_path / "run").state["params"]["model"]
  np.testing.assert_array_equal(
    trained["first"]["kernel"], tensors()["fc1.weight"].T
  )
  np.savez(path, **{**tensors(), "fc1.bias": np.zeros(6)})
  with pytest.raises(InputError, match=r"weights .* there, .* now"):
    train(config, tmp_path / "run", progress=False)
  path.unlink()  # What is trained does not need it.
  again = inference.load(tmp_path / "run").state["params"]["model"]
  np.testing.assert_array_equal(
    again["head"]["kernel"], trained["head"]["kernel"]
  )


def test_a_file_that_does_not_fit_is_refused_before_anything_is_written(
  path, tmp_path
):
  given = tensors()
  del given["bn.running_var"]
  np.savez(path, **given)
  with pytest.raises(InputError, match=r"missing \(1\): bn.running_var 6"):
    train(config_of(path), tmp_path / "run", progress=False)
  with pytest.raises(InputError, match=r"absent\.npz cannot be read"):
    train(config_of(tmp_path / "absent.npz"), tmp_path / "run", progress=False)
  with pytest.raises(InputError, match="no files of mlp are known"):
    train(
      tiny_config(model__weights=str(path)), tmp_path / "run", progress=False
    )
  assert not (tmp_path / "run").exists()


def test_weights_are_a_field_that_takes_a_text_or_none():
  assert base_config().model.weights is None
  config = override(base_config(), {"model.weights": "a.pth"})
  assert override(config, {"model.weights": None}).model.weights is None
  # As a flag, too, with the network that a config file has put in.
  assert with_model(base_config(), "conv4").model.get_type("weights") is str
  with pytest.raises(InputError, match="must be a text or None"):
    override(config, {"model.weights": 1})
