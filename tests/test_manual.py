"""README and the manual: what they list, link to, print, and run."""

import re
from pathlib import Path

import pytest

import metric_learning as ml
from experiments import __main__ as listing
from experiments import reference

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


@pytest.mark.parametrize("page", RUN)
def test_the_python_of_a_page_runs_and_prints_what_it_says(page, capsys):
  text = (ROOT / page).read_text()
  space: dict[str, object] = {}
  for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
    if "inference.load" in block:
      continue  # Of a run that is trained: tests/experiments runs that page.
    exec(block, space)
    said = re.findall(r"print\(.*\)  # (.*)", block)
    assert capsys.readouterr().out.split() == said
  assert space


def test_every_page_is_in_the_contents_of_the_manual():
  contents = (ROOT / "mkdocs.yml").read_text()
  for path in PAGES:
    assert f": {path.name}\n" in contents, path.name
