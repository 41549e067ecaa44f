"""`python -m experiments` and `python -m experiments.list`."""

from pathlib import Path

import pytest

import metric_learning as ml
from experiments import __main__ as listing
from experiments import list as kinds
from metric_learning.errors import InputError

ROOT = Path(listing.__file__).parent


def test_every_script_is_listed_with_a_line():
  found = listing.commands()
  assert found["train"] == "Trains one run."
  assert {"power", "benchmarks.speed", "benchmarks.parity"} <= found.keys()
  for name, line in found.items():
    path = ROOT.joinpath(*name.split("."))
    assert path.with_suffix(".py").exists() or (path / "__main__.py").exists()
    assert line.endswith((".", "?", "FOLDER"))
  assert not {"cli", "using", "list.lines"} & found.keys()


def test_the_nearest_command_is_named(monkeypatch, capsys):
  monkeypatch.setattr("sys.argv", ["experiments", "tran"])
  with pytest.raises(SystemExit) as stopped:
    listing.main()
  assert stopped.value.code == 2
  assert "did you mean 'train'?" in capsys.readouterr().err


@pytest.mark.parametrize("kind", kinds.KINDS)
def test_each_entry_of_a_kind_has_a_line(kind):
  entries, _ = kinds.KINDS[kind]
  found = kinds.lines(kind)
  assert [line.split()[0] for line in found] == [*entries]
  assert all(len(line.split()) > 1 for line in found)


@pytest.mark.parametrize("kind", ["data", "optimizers", "schedules", "models"])
def test_no_two_entries_have_the_same_line(kind):
  found = [line.split(maxsplit=1)[1] for line in kinds.lines(kind)]
  assert len({*found}) == len(found)


def test_a_line_of_a_loss_has_its_equation_and_metrics():
  (line,) = [x for x in kinds.lines("losses") if x.startswith("cosface ")]
  assert "cross-entropy of S(cos_c - m·1[c = y])" in line
  assert line.endswith("[cosine]")
  assert len(kinds.lines("losses")) == len(ml.LOSSES)


def test_a_kind_that_does_not_exist_is_refused():
  with pytest.raises(InputError, match="did you mean 'losses'"):
    kinds.lines("loses")
