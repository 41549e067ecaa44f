"""Tables as data sets, and standardized features."""

import dataclasses

import numpy as np
import pytest

from metric_learning import InputError, data
from metric_learning.training import override
from metric_learning.training.checks import validate
from tests.tiny import tiny_config

ROWS = np.random.default_rng(0).normal(2.0, 3.0, size=(40, 3)).astype(float)
LABELS = np.repeat(["ash", "beech", "fir", "oak"], 10)


def write(path, columns, between=","):
  names, values = list(columns), zip(*columns.values(), strict=True)
  lines = [names, *([str(x) for x in row] for row in values)]
  path.write_text("\n".join(between.join(line) for line in lines) + "\n")
  return path


@pytest.fixture
def columns():
  """A new table: three columns of numbers, and the labels."""
  numbers = {f"x{i}": ROWS[:, i] for i in range(3)}
  return {"x0": numbers["x0"], "label": LABELS, **numbers}


def loaded(path, **fields):
  fields = {f"data.{name}": value for name, value in fields.items()}
  table = {"data.name": "table", "data.data_dir": str(path)}
  cut = {"data.split": "images", "data.protocol": "closed-set"}
  config = override(tiny_config(), {**table, **cut, **fields})
  validate(config)
  return data.load(config.data)


def all_of(splits):
  """The rows of all parts, sorted."""
  parts = (splits.train, splits.validation, splits.test)
  rows = np.concatenate([np.asarray(part.inputs) for part in parts])
  return rows[np.lexsort(rows.T)]


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".parquet"])
def test_numbers_are_features_and_one_column_is_the_label(
  tmp_path, columns, suffix
):
  path = tmp_path / f"trees{suffix}"
  if suffix == ".parquet":
    pa = pytest.importorskip("pyarrow")
    pytest.importorskip("pyarrow.parquet").write_table(pa.table(columns), path)
  else:
    write(path, columns, "\t" if suffix == ".tsv" else ",")
  splits = loaded(path)
  expected = ROWS.astype(np.float32)
  np.testing.assert_array_equal(
    all_of(splits), expected[np.lexsort(expected.T)]
  )
  assert splits.train.class_names == ("ash", "beech", "fir", "oak")
  for part in (splits.train, splits.validation, splits.test):
    for row, label in zip(part.inputs, part.labels, strict=True):
      (at,) = np.flatnonzero((expected == row).all(axis=1))
      assert LABELS[at] == part.class_names[label]


def test_columns_of_another_use(tmp_path, columns):
  parts = np.tile(["train"] * 6 + ["validation"] * 2 + ["test"] * 2, 4)
  more = {
    "split": parts,
    "groups": np.arange(40) % 3,
    "name": [f"tree {i}" for i in range(40)],
    "kind": np.repeat([3, 7, 11, 20], 10),
  }
  del columns["label"]
  path = write(tmp_path / "trees.csv", {**columns, **more})
  splits = loaded(
    path, split="official", label_column="kind", drop_columns=("name", "x1")
  )
  assert [len(p.labels) for p in (splits.train, splits.test)] == [24, 8]
  np.testing.assert_array_equal(
    splits.test.inputs, ROWS[parts == "test"][:, [0, 2]].astype(np.float32)
  )
  assert splits.train.class_names == ("3", "7", "11", "20")
  assert splits.test.groups is not None


def test_standardized_by_the_training_part(tmp_path, columns):
  columns["still"] = np.full(40, 0.1)
  path = write(tmp_path / "trees.csv", columns)
  plain = loaded(path)
  with pytest.warns(UserWarning, match="1 of 4 features are the same"):
    scaled = loaded(path, standardize=True)
  train = np.asarray(plain.train.inputs, float)
  mean, deviation = train.mean(axis=0), train.std(axis=0)
  for name in ("train", "validation", "test"):
    before, after = (getattr(s, name).inputs for s in (plain, scaled))
    expected = (before[:, :3] - mean[:3]) / deviation[:3]
    np.testing.assert_allclose(after[:, :3], expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(after[:, 3], 0)
  assert plain.identity != scaled.identity


def test_images_have_a_scale_of_their_own():
  config = override(tiny_config(), {"data.standardize": True})
  with pytest.raises(InputError, match=r"data\.standardize is for features"):
    data.load(config.data)


@pytest.mark.parametrize(
  ("change", "fields", "said"),
  [
    ({}, {"label_column": "lable"}, r"label_column\) 'lable'.*'label'"),
    ({}, {"drop_columns": ("x9",)}, r"drop_columns\) 'x9'"),
    ({"x1": ["", *map(str, range(38)), "nan"]}, {}, r"missing in x1 2\."),
    ({"x1": ["tall"] * 40}, {}, "columns x1 are not numbers"),
    ({"x1": ["1e39"] * 40}, {}, "'x1' has numbers that are not finite"),
    ({"label": [*LABELS[:39], ""]}, {}, "1 rows have no label.*row 41"),
  ],
)
def test_what_a_table_refuses(tmp_path, columns, change, fields, said):
  path = write(tmp_path / "trees.csv", {**columns, **change})
  with pytest.raises(InputError, match=said):
    loaded(path, **fields)


@pytest.mark.parametrize(
  ("name", "text", "said"),
  [
    ("t.csv", "label,x\na,1,2\n", "row 2 has 3 values, but there are 2"),
    ("t.csv", "label,x,x\na,1,2\n", "several columns named 'x'"),
    ("t.csv", "label,x\n", "no rows below its line of col"),
    ("t.csv", "label\na\n", "no column of numbers beside"),
    ("t.xlsx", "", "a .csv, .tsv or .parquet file"),
  ],
)
def test_files_that_are_no_table(tmp_path, name, text, said):
  (tmp_path / name).write_text(text)
  with pytest.raises(InputError, match=said):
    loaded(tmp_path / name)


def test_the_gallery_is_standardized_too(tmp_path, columns):
  splits = loaded(write(tmp_path / "trees.csv", columns))
  with_gallery = dataclasses.replace(splits, gallery=splits.test)
  from metric_learning.data.standardize import standardized

  found = standardized(with_gallery)
  np.testing.assert_array_equal(found.gallery.inputs, found.test.inputs)
