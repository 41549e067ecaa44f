"""A run on several devices has the numbers of a run on one."""

import pytest

from tests.scripts import script

pytestmark = pytest.mark.slow


def test_several_devices_train_what_one_does(tmp_path):
  """With batch normalization, augmentation, kills, populations and chunks."""
  said = script(
    f"""
    from pathlib import Path
    from tests.train_on_devices import main
    main(Path({str(tmp_path)!r}))
    """,
    devices=8,
  )
  assert len(said["apart"]) == 6
  for name, difference in said["apart"].items():
    assert difference < 1e-5, name
  assert said["differ"] > 1e-3
  assert said["devices"] == 4
  assert said["key on"] == 4
  too_uneven, too_many = said["refused"]
  assert "batch=8 devices cannot share a batch of 20 items" in too_uneven
  assert "batch=16, but there are 8 devices" in too_many
  used, equal = said["evaluated"]
  assert used > 1 and equal
