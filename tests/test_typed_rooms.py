"""Every room that declares shapes and types of arrays checks them."""

import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_every_room_that_says_shapes_is_checked_while_tests_run():
  options = tomllib.loads((ROOT / "pyproject.toml").read_text())
  options = options["tool"]["pytest"]["ini_options"]["addopts"]
  (listed,) = (o for o in options if o.startswith("--jaxtyping-packages="))
  *rooms, checker = listed.partition("=")[2].split(",")
  assert checker == "beartype.beartype"
  modules = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for path in (ROOT / "metric_learning").rglob("*.py")
    if "jaxtyping import" in path.read_text()
  }
  inside = lambda module, room: f"{module}.".startswith(f"{room}.")
  assert not [m for m in modules if not any(inside(m, r) for r in rooms)]
  assert not [r for r in rooms if not any(inside(m, r) for m in modules)]
