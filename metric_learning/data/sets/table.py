"""`table`: columns of numbers and a column of labels, as CSV or Parquet."""

import csv
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float32, Shaped

from metric_learning.data import base, files
from metric_learning.data.sets import npz
from metric_learning.errors import InputError, check_choice

# Columns that are not features, if a table has them: see `npz`.
_OTHERS = ("split", "groups")
Columns = dict[str, Shaped[np.ndarray, " n"]]


def load(config: Any) -> base.Splits:
  """Loads the rows by "classes", "half", "folds", "images" or "official".

  "images" splits the rows of each class; "official" takes the parts in the
  column `split`.
  """
  return npz.split_arrays(*read(config), config)


def read(
  config: Any,
) -> tuple[base.Dataset, Shaped[np.ndarray, " n"] | None]:
  """Reads the data set, and the part of each row if the table has parts.

  - the column `config.label_column`: integers or strings
  - `split`, `groups` (optional): as in `npz`
  - all other columns, except `config.drop_columns`: numbers, the features

  Raises `InputError` for a column that is missing, has gaps, or holds values
  that are not numbers.
  """
  path = files.data_path(config, "a CSV or Parquet file")
  columns = read_columns(path)
  label, dropped = config.label_column, tuple(config.drop_columns)
  check_choice(f"column of {path} (config.data.label_column)", label, columns)
  for name in dropped:
    check_choice(f"column of {path} (config.data.drop_columns)", name, columns)
  arrays = {
    "labels": _labels(path, label, columns[label]),
    **{name: columns[name] for name in _OTHERS if name in columns},
  }
  left_out = {label, *_OTHERS, *dropped}
  features = features_of(
    path, {name: x for name, x in columns.items() if name not in left_out}
  )
  return npz.labeled("table", path, features, arrays, config.small_classes)


def read_columns(path: pathlib.Path) -> Columns:
  """All columns by name; those of a CSV file are strings.

  Raises `InputError` for a file that is not a table, or not complete.
  """
  files.check_regular(path)
  if path.suffix == ".parquet":
    return _read_parquet(path)
  if path.suffix not in (".csv", ".tsv"):
    raise InputError(f"{path}: a table is a .csv, .tsv or .parquet file.")
  with files.reading(str(path)), path.open(newline="") as file:
    between = "\t" if path.suffix == ".tsv" else ","
    lines = [line for line in csv.reader(file, delimiter=between) if line]
  if len(lines) < 2:
    raise InputError(f"{path} has no rows below its line of column names.")
  names, rows = lines[0], lines[1:]
  for number, row in enumerate(rows, 2):
    if len(row) != len(names):
      raise InputError(
        f"{path}: row {number} has {len(row)} values, but there are"
        f" {len(names)} columns."
      )
  _check_names(path, names)
  values = np.array(rows, dtype=np.str_)
  return {name: values[:, i] for i, name in enumerate(names)}


def _read_parquet(path: pathlib.Path) -> Columns:
  try:
    from pyarrow import parquet
  except ImportError:
    raise InputError(
      f"{path} needs pyarrow: pip install 'metric-learning[table]', or"
      " save the table as CSV."
    ) from None
  with files.reading(str(path)):
    table = parquet.read_table(path)
  _check_names(path, table.column_names)
  return {
    name: column.to_numpy()
    for name, column in zip(table.column_names, table.columns, strict=True)
  }


def _check_names(path: pathlib.Path, names: Sequence[str]) -> None:
  twice = sorted({name for name in names if names.count(name) > 1})
  if twice:
    raise InputError(f"{path} has several columns named {twice[0]!r}.")


def _labels(
  path: pathlib.Path, name: str, column: Shaped[np.ndarray, " n"]
) -> Shaped[np.ndarray, " n"]:
  """Labels as integers if all are integers, else as strings."""
  gaps = _gaps(column)
  if gaps.any():
    raise InputError(
      f"{path}: {gaps.sum()} rows have no label in the column {name!r}; the"
      f" first is row {np.flatnonzero(gaps)[0] + 2}."
    )
  if column.dtype.kind in "iu":
    return column
  texts = column.astype(np.str_)
  whole = all(text.lstrip("-").isdigit() for text in texts.tolist())
  return texts.astype(np.int64) if whole else texts


def _gaps(column: Shaped[np.ndarray, " n"]) -> Shaped[np.ndarray, " n"]:
  """Where a value is missing: empty, NaN or None."""
  if column.dtype.kind == "f":
    return np.isnan(column)
  if column.dtype.kind == "O":
    return np.array([x is None or x != x for x in column])
  texts = np.char.lower(column.astype(np.str_))
  return np.isin(texts, ("", "nan", "na", "null", "none"))


def features_of(
  path: pathlib.Path, columns: Columns
) -> Float32[np.ndarray, "n d"]:
  """The columns side by side, unchanged.

  Raises `InputError` for a column that has gaps or holds values that are not
  numbers.
  """
  if not columns:
    raise InputError(f"{path} has no column of numbers beside its labels.")
  gaps = {name: int(_gaps(x).sum()) for name, x in columns.items()}
  gaps = {name: count for name, count in gaps.items() if count}
  if gaps:
    shown = ", ".join(f"{name} {count}" for name, count in gaps.items())
    raise InputError(
      f"{path}: values are missing in {shown}. Fill them, leave the rows out,"
      " or name the columns in config.data.drop_columns, such as"
      f" {tuple(gaps)[:1]!r}."
    )
  found, texts = [], []
  for name, column in columns.items():
    try:
      found.append(column.astype(np.float64))
    except ValueError:
      texts.append(name)
  if texts:
    raise InputError(
      f"{path}: the columns {', '.join(texts)} are not numbers. Name them in"
      f" config.data.drop_columns, such as {tuple(texts)[:1]!r}, or one of them"
      " in config.data.label_column."
    )
  with np.errstate(over="ignore"):  # Overflow is reported below.
    features = np.stack(found, axis=1).astype(np.float32)
  bad = np.flatnonzero(~np.isfinite(features).all(axis=0))
  if len(bad):
    raise InputError(
      f"{path}: the column {tuple(columns)[bad[0]]!r} has numbers that are not"
      " finite in float32."
    )
  return features
