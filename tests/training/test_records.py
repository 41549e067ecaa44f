"""A single reader checks the contents of every record."""

import itertools
import json
import shutil

import pytest

from metric_learning import InputError
from metric_learning.training import records, run_files
from tests import faults

# For people and programs; nothing here reads it.
NOT_READ = {"trace.json"}


def records_of(study):
  """One file of each kind that a study and its search write, by name."""
  found = {}
  for root in (study.reported, study._searched):
    for path in sorted(root.rglob("*")):
      if path.suffix in (".json", ".npz"):
        found.setdefault(path.name, path)
  return {n: p for n, p in found.items() if n not in NOT_READ}


def read(path):
  reads = (
    run_files.read_arrays if path.suffix == ".npz" else run_files.read_json
  )
  return reads(path)


def test_every_record_of_a_study_is_in_the_table(real_study):
  found = records_of(real_study)
  assert len(found) >= 12
  for path in found.values():
    assert records.record_of(path.name), path
    read(path)
  # A kind that no study here leaves has a test of its own.
  known = {p for name in found for p in [name] if p in records.RECORDS}
  assert records.RECORDS.keys() - known == {
    *("metrics.jsonl", "embeddings_selected.npz", "test_halves.npz"),
    *("*-again.json", "features.json"),
  }


# An empty object fits where names are open; what must be there is tested below.
@pytest.mark.parametrize("damage", faults.DAMAGES)
def test_every_record_that_is_damaged_is_refused(damage, real_study, tmp_path):
  for name, path in records_of(real_study).items():
    shutil.copyfile(path, tmp_path / name)
    faults.DAMAGES[damage](tmp_path / name)
    if (name, damage) == ("data.json", "an empty object"):
      continue
    with pytest.raises(InputError, match=name) as error:
      read(tmp_path / name)
    assert len(str(error.value).splitlines()) == 1
    if damage != "removed":
      assert records.mend_of(name) in str(error.value)


def fields_of(name, path):
  """The values of a record: each field, its shape, and how to restore it."""
  value, shape = json.loads(path.read_text()), records.record_of(name).shape
  shape = shape[-1] if isinstance(shape, tuple) else shape
  whole = lambda changed: changed
  if isinstance(shape, list):
    value, shape, whole = value[0], shape[0], lambda changed: [changed]
  for field in shape if isinstance(shape, dict) else ():
    if isinstance(field, str):
      yield value, field, shape[field], whole


def test_no_field_that_must_be_there_can_be_missing_or_of_another_type(
  real_study, tmp_path
):
  count = 0
  for name, path in records_of(real_study).items():
    if path.suffix != ".json":
      continue
    for value, field, shape, whole in fields_of(name, path):
      plain = field.removesuffix("?")
      without = {k: v for k, v in value.items() if k != plain}
      broken = [] if field.endswith("?") else [without]
      if shape is not object:
        broken.append({**without, plain: other_than(shape)})
      for changed in broken:
        (tmp_path / name).write_text(json.dumps(whole(changed)))
        with pytest.raises(InputError, match=plain):
          read(tmp_path / name)
        count += 1
  assert count > 40


def other_than(shape):
  """A value that does not fit a shape."""
  return 5 if isinstance(shape, dict | list) or shape is str else {"a": "b"}


def test_a_finalist_and_features_are_checked(tmp_path):
  path = tmp_path / "003-again.json"
  whole = {"number": 3, "scores": [[0.5]], "seconds": 1.5, "failed": ""}
  run_files.write_json(path, whole)
  assert run_files.read_json(path) == whole
  run_files.write_json(path, {**whole, "scores": [["high"]]})
  with pytest.raises(InputError, match=r"scores\[0\]\[0\] is a text, and must"):
    run_files.read_json(path)
  run_files.write_json(tmp_path / "features.json", {"features": []})
  with pytest.raises(InputError, match="features is a list"):
    run_files.read_json(tmp_path / "features.json")


def test_a_whole_number_is_no_truth_and_the_other_way():
  for value, shape in itertools.product((True, 1), (bool, int)):
    fits = records.problem_in(value, shape) is None
    assert fits == (type(value) is shape)
