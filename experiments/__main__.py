"""Lists the commands, one line each.

python -m experiments
"""

import ast
import sys
from pathlib import Path

from metric_learning.errors import InputError, check_choice


def commands() -> dict[str, str]:
  """The first line of the docstring of each command, by its name.

  A command is a script here, or a package with a `__main__`, that can be run by
  `python -m`. Nothing is imported.
  """
  found = {}
  for path in sorted(Path(__file__).parent.rglob("*.py")):
    text = path.read_text()
    if 'if __name__ == "__main__"' not in text:
      continue
    parts = path.relative_to(Path(__file__).parent).with_suffix("").parts
    name = ".".join(part for part in parts if part != "__main__")
    if name:
      found[name] = (ast.get_docstring(ast.parse(text)) or "").split("\n")[0]
  return found


def main() -> None:
  """Prints the list; an argument is no command, and is told the nearest."""
  found = commands()
  for word in sys.argv[1:]:
    if not word.startswith("-"):
      try:
        check_choice("command", word.removesuffix(".py"), found)
      except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
      print(f"python -m experiments.{word} --help")
      return
  width = max(map(len, found))
  print("python -m experiments.COMMAND --help says more of each:\n")
  print("\n".join(f"  {name:{width}}  {line}" for name, line in found.items()))


if __name__ == "__main__":
  main()
