"""README and the manual: their lists, links, printed values and commands."""

import ast
import re
import shlex
from pathlib import Path

import numpy as np
import pytest

import metric_learning as ml
from experiments import __main__ as listing
from experiments import cli, loss_pictures, reference
from metric_learning.training import override
from metric_learning.training.checks import validate

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs").glob("*.md"))
# Pages whose Python needs nothing that a reader must bring.
RUN = ("README.md", "docs/one_loss.md", "docs/coming_from_pml.md")


@pytest.mark.parametrize("name", reference.pages())
def test_a_generated_page_is_that_of_the_code(name):
  written = (ROOT / "docs" / name).read_text()
  assert written == reference.pages()[name], (
    "give `python -m experiments.reference` again"
  )


def test_every_loss_that_has_a_picture_shows_it():
  text = (ROOT / "docs" / "losses.md").read_text()
  shown = re.findall(r"\]\(loss_pictures/(\w+)\.svg\)", text)
  drawn = [path.stem for path in (ROOT / "docs/loss_pictures").glob("*.svg")]
  named = [n for n, e in ml.LOSSES.items() if loss_pictures.has_picture(e)]
  assert sorted(shown) == sorted(drawn) == sorted(named)


def test_a_picture_shows_the_forces_of_its_loss():
  d = np.linspace(0.1, 2.0, 41)  # ½D² pulls by D, ½[1 - D]₊² pushes by [1 - D]₊
  expected = {"pull": d, "push": np.maximum(1 - d, 0)}
  forces = loss_pictures.forces(ml.LOSSES["contrastive"])
  for curve, values in expected.items():
    np.testing.assert_allclose(forces[curve], values, atol=1e-6)
  drawn = loss_pictures.picture("contrastive", expected)
  written = (ROOT / "docs/loss_pictures/contrastive.svg").read_text()
  assert not loss_pictures.differs(drawn, written)
  weaker = loss_pictures.picture("contrastive", expected | {"push": 0 * d})
  assert loss_pictures.differs(weaker, written)


def test_every_loss_is_in_one_family_of_the_page():
  named = [name for family in reference.FAMILIES.values() for name in family]
  assert sorted(named) == sorted(ml.LOSSES)


def test_the_readme_is_a_door():
  text = (ROOT / "README.md").read_text()
  assert len(text.split()) < 900
  assert f"[{len(ml.LOSSES)} losses]" in text
  assert f"{len(ml.METRICS)} metrics, {len(ml.MINERS)} miners" in text


@pytest.mark.parametrize("path", [ROOT / "README.md", *PAGES], ids=str)
def test_links_and_commands_lead_somewhere(path):
  text = path.read_text()
  for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", text):
    assert (path.parent / target).exists(), target
  known = listing.commands()
  for command in re.findall(r"python -m experiments\.([a-z_.]+)", text):
    assert command.rstrip(".") in known, command
  for config in re.findall(r"--config=(configs/\w+\.py)", text):
    assert (ROOT / config).exists(), config


def commands_in(text):
  """The script and the flags of each command in the blocks of a page."""
  for block in re.findall(r"```\w*\n(.*?)```", text, re.DOTALL):
    for line in block.replace("\\\n", " ").splitlines():
      found = re.match(r"\s*python -m experiments\.([\w.]+)(.*)", line)
      if found:
        script, rest = found.groups()
        words = shlex.split(rest, comments=True)
        yield (
          script,
          dict(x.removeprefix("--").partition("=")[::2] for x in words),
        )


def literal(text):
  try:
    return ast.literal_eval(text)
  except (ValueError, SyntaxError):
    return text


@pytest.mark.parametrize("path", [ROOT / "README.md", *PAGES], ids=str)
def test_the_commands_of_a_page_are_valid_to_the_last_flag(path):
  """Their configs too, before data is read; other tests run the commands."""
  shared = "".join(
    (ROOT / "experiments" / f"{name}.py").read_text()
    for name in ("cli", "using")
  )
  for script, flags in commands_in(path.read_text()):
    place = ROOT.joinpath("experiments", *script.split("."))
    files = [place.with_suffix(".py"), *place.glob("*.py")]
    source = shared + "".join(f.read_text() for f in files if f.exists())
    fields = {
      f: literal(v) for f, v in flags.items() if f.startswith("config.")
    }
    for flag in flags.keys() - fields.keys():
      assert f'"{flag}"' in source, (script, flag)
    name, _, loss = flags.get("config", "").partition(":")
    if not name or not (ROOT / name).exists() or "mine:squared" in str(flags):
      continue  # tests/test_extending.py has the reader's own files.
    module = cli._module_at(str(ROOT / name))
    config = module.get_config(*[loss] if loss else [])
    rows = {f.removeprefix("config."): value for f, value in fields.items()}
    validate(override(config, rows))
    if "sweep" in flags:
      assert flags["sweep"] in module.SWEEPS, (script, flags)


@pytest.mark.parametrize("page", RUN)
def test_the_python_of_a_page_runs_and_prints_what_it_says(page, capsys):
  text = (ROOT / page).read_text()
  space: dict[str, object] = {}
  for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
    if "inference.load" in block:
      continue  # Of a run that is trained: tests/experiments runs that page.
    exec(block, space)
    expected = re.findall(r"print\(.*\)  # (.*)", block)
    assert capsys.readouterr().out.split() == expected
  assert space


def test_every_page_is_in_the_contents_of_the_manual():
  contents = (ROOT / "mkdocs.yml").read_text()
  for path in PAGES:
    assert f": {path.name}\n" in contents, path.name
