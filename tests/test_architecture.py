"""The floors of docs/architecture.md hold: an import never points up."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]


def floors():
  """The floor of each room, by name."""
  page = (ROOT / "docs" / "architecture.md").read_text()
  found = re.findall(r"^\| (\d+) \| `([\w.]+)` \|", page, re.MULTILINE)
  return {room: int(floor) for floor, room in found}


def room_of(module, rooms):
  """The room that a module is in; the package itself is in none."""
  fitting = [r for r in rooms if f"{module}.".startswith(f"{r}.")]
  return max(fitting, key=len, default=None)


def imports_of(path):
  """The modules that a file imports, at import time or later."""
  for node in ast.walk(ast.parse(path.read_text())):
    if isinstance(node, ast.Import):
      yield from (name.name for name in node.names)
    if isinstance(node, ast.ImportFrom) and node.module:
      yield node.module
      yield from (f"{node.module}.{name.name}" for name in node.names)


def test_an_import_never_points_up():
  rooms, up, seen = floors(), [], set()
  for top in ("metric_learning", "experiments"):
    for path in sorted((ROOT / top).rglob("*.py")):
      module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
      here = room_of(module.removesuffix(".__init__"), rooms)
      if module == "metric_learning.__init__":
        continue  # It collects what is public.
      assert here, f"{module} is in no room of docs/architecture.md"
      seen.add(here)
      for other in imports_of(path):
        there = room_of(other, rooms)
        if there and rooms[there] > rooms[here]:
          up.append(f"{module} imports {other}")
  assert not up
  assert seen == set(rooms)
