"""Weights in folders of Orbax, written and read."""

import numpy as np
import orbax.checkpoint as ocp
import pytest

from metric_learning.errors import InputError
from metric_learning.models import weights
from tests.models.test_weights import ARRAYS


def test_a_folder_of_orbax_is_written_and_read(tmp_path):
  """Also a folder of a checkpoint manager, with a level for each dot."""
  arrays = {k: x for k, x in ARRAYS.items() if x.size}
  weights.write(tmp_path / "made.orbax", arrays)
  tree = {"conv": {"weight": ARRAYS["conv.weight"]}, "list": [ARRAYS["half"]]}
  with ocp.CheckpointManager(tmp_path / "steps") as manager:
    manager.save(7, args=ocp.args.StandardSave(tree))
  other = {"conv.weight": ARRAYS["conv.weight"], "list.0": ARRAYS["half"]}
  for folder, expected in (("made.orbax", arrays), ("steps/7", other)):
    found = weights.read(tmp_path / folder)
    assert found.keys() == expected.keys()
    for name, array in expected.items():
      assert found[name].dtype == array.dtype, name
      np.testing.assert_array_equal(found[name], array)
  first = weights.digest_of(tmp_path / "made.orbax")
  assert first != weights.digest_of(tmp_path / "steps/7")
  with pytest.raises(InputError, match=r"made\.orbax exists"):
    weights.write(tmp_path / "made.orbax", arrays)
  with pytest.raises(InputError, match=r"'a\.b' is a tensor inside another"):
    weights.write(
      tmp_path / "other.orbax", {"a": arrays["half"], "a.b": arrays["half"]}
    )
  (tmp_path / "made.orbax" / "_METADATA").write_text("{")
  with pytest.raises(InputError, match=r"made\.orbax: Orbax cannot read it"):
    weights.read(tmp_path / "made.orbax")
