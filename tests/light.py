"""Runs one loss in an installed wheel with jax, numpy and jaxtyping alone.

python -I tests/light.py

`make wheel` runs this in a new environment. It runs the first Python block of
README, and checks the printed value.
"""

import contextlib
import importlib.util
import io
import re
from pathlib import Path

README = Path(__file__).parents[1] / "README.md"
# Dependencies that a loss does not need. (SciPy is one of JAX itself.)
ABSENT = ("flax", "optax", "sklearn", "PIL", "matplotlib", "absl", "jinja2")


def main() -> None:
  """Fails unless the block runs and prints what README says."""
  there = [name for name in ABSENT if importlib.util.find_spec(name)]
  assert not there, f"this environment is not light: it has {there}"
  block = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)[0]
  printed = io.StringIO()
  with contextlib.redirect_stdout(printed):
    exec(block, {})
  expected = re.findall(r"print\(.*\)  # (.*)", block)
  assert printed.getvalue().split() == expected, printed.getvalue()
  import metric_learning

  place = Path(metric_learning.__file__)
  assert (place.parent / "py.typed").exists()
  assert (place.parent / "report" / "templates").is_dir()
  print(f"{metric_learning.__version__} of {place.parent} prints {expected}")


if __name__ == "__main__":
  main()
