"""Our values against those of pytorch-metric-learning, stored in a file.

To make the file, run
`python -m experiments.benchmarks.parity --golden=tests/golden/pml.json`.
"""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.benchmarks import pml, pml_sides
from tests.quick import quick_jit

GOLDEN = json.loads(
  (Path(__file__).parents[1] / "golden" / "pml.json").read_text()
)
BATCHES = {
  kind: pml_sides.Batch(*map(np.array, batch.values()))
  for kind, batch in GOLDEN["batches"].items()
}
PAIRS = {pair.name: pair for pair in pml.FROZEN}
CHOICES = {choice.name: choice for choice in pml.MINERS}


def test_the_file_has_every_loss_and_miner():
  assert list(GOLDEN["losses"]) == list(PAIRS)
  assert list(GOLDEN["miners"]) == list(CHOICES)


@pytest.mark.parametrize("name", PAIRS)
def test_loss_is_theirs(name, x64):
  pair = PAIRS[name]
  run = None
  for kind, expected in GOLDEN["losses"][name].items():
    batch = BATCHES[kind]
    value, params = pml_sides.our_side(pair, batch, block_size=None)
    run = run or quick_jit(value)
    found = run(params, *pml_sides.inputs(pair, batch))
    # Where points coincide, a product form is exact to √ε.
    tolerance = 1e-6 if kind == "duplicates" else 1e-9
    np.testing.assert_allclose(
      found, expected, rtol=max(tolerance, pair.tolerance), err_msg=kind
    )


@pytest.mark.slow
def test_miners_choose_as_many(x64):
  @quick_jit
  def counts(x, labels):
    found = {}
    for name, choice in CHOICES.items():
      rows = pml_sides.our_choice(choice, x, labels)
      if choice.compared == "triplets":
        found[name] = jnp.sum(pml_sides.our_triplets(rows) > 0)
      else:
        found[name] = jnp.sum(rows.positives > 0) + jnp.sum(rows.negatives > 0)
    return found

  for kind in pml.DISTINCT:
    batch = BATCHES[kind]
    found = jax.device_get(counts(pml_sides.unit(batch.x), batch.labels))
    expected = {name: each[kind] for name, each in GOLDEN["miners"].items()}
    assert found == expected, kind
