"""Lists the commands, one line each.

python -m experiments
"""

import ast
import sys
from pathlib import Path

from metric_learning.errors import InputError, check_choice


def commands() -> dict[str, str]:
  """The first line of the docstring of each command, by its name."""
  return {name: text.split("\n")[0] for name, text in docstrings().items()}


def docstrings() -> dict[str, str]:
  """The docstring of each command, by its name.

  A command is a script, or a package with a `__main__`, that `python -m` can
  run. Commands are read but not imported.
  """
  texts = {}
  for path in sorted(Path(__file__).parent.rglob("*.py")):
    text = path.read_text()
    if 'if __name__ == "__main__"' not in text:
      continue
    parts = path.relative_to(Path(__file__).parent).with_suffix("").parts
    name = ".".join(part for part in parts if part != "__main__")
    if name:
      texts[name] = ast.get_docstring(ast.parse(text)) or ""
  return texts


def main() -> None:
  """Prints the list, or how to run the command that an argument names."""
  lines = commands()
  for word in sys.argv[1:]:
    if not word.startswith("-"):
      try:
        check_choice("command", word.removesuffix(".py"), lines)
      except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
      print(f"python -m experiments.{word} --help")
      return
  width = max(map(len, lines))
  print("python -m experiments.COMMAND --help describes a command:\n")
  print("\n".join(f"  {name:{width}}  {line}" for name, line in lines.items()))


if __name__ == "__main__":
  main()
