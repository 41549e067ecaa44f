"""An exported run embeds and compares like the run, without this package."""

import importlib.util
import json
import re

import jax
import numpy as np
import pytest

from metric_learning import InputError, data, inference
from metric_learning.inference import exported, thresholds
from metric_learning.training import train
from tests.scripts import script
from tests.tiny import tiny_config

OTHERS = (
  *("metric_learning", "flax", "optax", "orbax", "safetensors", "jaxtyping"),
  *("ml_collections", "absl", "PIL", "sklearn", "matplotlib", "tqdm"),
)


@pytest.fixture(scope="module")
def run(real_study):
  return inference.load(real_study.run)


@pytest.fixture(scope="module")
def model(run, tmp_path_factory):
  return run.export(tmp_path_factory.mktemp("models") / "digits")


@pytest.fixture
def items():
  rng = np.random.default_rng(0)
  return rng.integers(0, 256, (13, 8, 8, 1)).astype(np.uint8)


def test_the_lines_of_the_card_do_without_all_else(run, model, items, tmp_path):
  card = (model / "README.md").read_text()
  (tmp_path / "exported.py").write_text(
    re.search(r"```python\n(.*?)```", card, re.DOTALL)[1]
  )
  np.save(tmp_path / "items.npy", items)
  found = script(f"""
    import json, sys
    sys.path.insert(0, {str(tmp_path)!r})
    sys.modules.update(dict.fromkeys({OTHERS!r}))
    import numpy as np
    import exported
    embed, distances = exported.load({str(model)!r})
    points = embed(np.load({str(tmp_path / "items.npy")!r}))
    far = distances(points[:3], points)
    print(json.dumps([points.tolist(), far.tolist()]))
  """)
  points = run.embed(items)
  np.testing.assert_array_equal(np.array(found[0], np.float32), points)
  exact = np.abs(points[:3, None].astype(float) - points).sum(axis=-1)
  np.testing.assert_allclose(found[1], exact, rtol=1e-5, atol=1e-6)


def test_any_number_of_items_passes(run, model, items):
  embed, _ = exported.load(model)
  for count in (1, 3, 13):
    np.testing.assert_array_equal(
      embed(items[:count]), run.embed(items[:count])
    )
  found = embed(items, batch_size=4)
  np.testing.assert_array_equal(found, run.embed(items, batch_size=4))


def test_only_what_embeds_is_exported(run, model):
  size = (model / "model.safetensors").stat().st_size
  weights = run.state["params"]["model"]
  numbers = sum(x.size for x in jax.tree.leaves(weights))
  # The header is text; the moments of the optimizer would be twice as much.
  assert 4 * numbers < size < 4 * numbers + 1000


def test_products_are_not_rounded_on_any_device(model):
  for name in ("embed", "distances"):
    content = bytearray((model / f"{name}.stablehlo").read_bytes())
    program = jax.export.deserialize(content).mlir_module()
    products = re.findall(r"stablehlo\.(?:dot_general|convolution).*", program)
    assert bool(products) == (name == "embed")
    assert all("HIGHEST, HIGHEST" in product for product in products)


def test_files_say_what_the_run_is(run, model):
  config = json.loads((model / "config.json").read_text())
  assert config["input"] == {"shape": [8, 8, 1], "kind": "image"}
  assert config["metric"] == run.metric == "l1"
  assert config["config"]["loss"]["name"] == "contrastive"
  given, refused = {}, []
  for one in json.loads((model / "thresholds.json").read_text()):
    if "refused" in one:
      refused.append(one["asked"])
    else:
      given[one["asked"]] = one["distance"]
  expected = thresholds.of_pairs(run.validation, run.metric, 0.05)
  assert given[0.05] == expected.distance
  assert 0.0001 in refused
  card = (model / "README.md").read_text()
  scores = json.loads((run.folder / "test.json").read_text())["selected"]
  (line,) = re.findall(r"\| R@1 own \|.*", card)
  assert f"{scores['own/recall_at_1']:.3f} [" in line
  assert str(expected.far.trials) in card
  for word in ("digits", "closed-set", "impostor", "Not tested"):
    assert word in card


def test_a_learned_metric_and_the_scale_of_features_are_part_of_it(tmp_path):
  rng = np.random.default_rng(0)
  features = (5 + 3 * rng.normal(size=(108, 6))).astype(np.float32)
  path = tmp_path / "vectors.npz"
  np.savez(path, features=features, labels=np.repeat(np.arange(12), 9))
  config = tiny_config(
    data__name="features",
    data__data_dir=str(path),
    data__standardize=True,
    loss__name="contrastive",
    metric__name="mahalanobis",
    train__steps=2,
    train__eval_every=2,
    train__save_every=2,
  )
  train(config, tmp_path / "run", splits=data.load(config.data))
  run = inference.load(tmp_path / "run")
  embed, distances = exported.load(run.export(tmp_path / "model"))
  points = run.embed(features)
  np.testing.assert_array_equal(embed(features), points)
  np.testing.assert_allclose(
    distances(points[:9], points),
    run.distances(points[:9], points),
    rtol=1e-5,
    atol=1e-6,
  )
  header = (tmp_path / "model" / "model.safetensors").read_bytes()
  assert b"params.objective" in header and b"scale.mean" in header
  card = (tmp_path / "model" / "README.md").read_text()
  assert "vectors of 6 features" in card and "were not scored" in card


def test_what_cannot_be_written_is_said(run, model, tmp_path, monkeypatch):
  with pytest.raises(InputError, match="digits exists already: choose"):
    run.export(model)
  monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
  with pytest.raises(InputError, match=r"pip install 'metric-learning\[export"):
    run.export(tmp_path / "other")
  assert not list(tmp_path.iterdir())
