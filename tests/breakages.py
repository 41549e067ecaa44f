"""Breaks the code on purpose, one line at a time; checks that tests notice.

    python -m tests.breakages [--tree=FOLDER] [--only=WORD]

Each breakage replaces a text in one file of a copy of the tree, and runs the
tests that ought to fail. `--tree` breaks another checkout, such as an older
commit. `--only` takes the breakages whose file or tests contain a word. Each
takes about half a minute; the exit status is 1 unless all are caught.

When you add a room, add a line to one of the lists, and see it caught.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests import (
  breakages_of_losses,
  breakages_of_runs,
  breakages_of_studies,
)
from tests.breakage import Breakage

BREAKAGES = [
  *breakages_of_losses.BREAKAGES,
  *breakages_of_runs.BREAKAGES,
  *breakages_of_studies.BREAKAGES,
]


def copy(tree: Path, folder: Path) -> Path:
  """Copies the files of a checkout that git tracks or would track."""
  listed = subprocess.run(
    ["git", "-C", tree, "ls-files", "-co", "--exclude-standard"],
    capture_output=True,
    text=True,
    check=True,
  ).stdout.splitlines()
  for name in listed:
    if (tree / name).is_file():
      (folder / name).parent.mkdir(parents=True, exist_ok=True)
      shutil.copy2(tree / name, folder / name)
  return folder


def path_of(tree: Path, breakage: Breakage) -> Path:
  """The file of a checkout that a breakage changes."""
  return tree / "metric_learning" / breakage.file


def times_found(tree: Path, breakage: Breakage) -> int:
  """How often the text occurs in its file; once, if it is up to date."""
  path = path_of(tree, breakage)
  return path.read_text().count(breakage.text) if path.exists() else 0


def outcome(tree: Path, breakage: Breakage) -> str:
  """Breaks a copy of the tree, runs the tests, and repairs it."""
  if times_found(tree, breakage) != 1:
    return f"TEXT FOUND {times_found(tree, breakage)} TIMES"
  path = path_of(tree, breakage)
  whole = path.read_text()
  path.write_text(whole.replace(breakage.text, breakage.broken))
  where, _, words = breakage.seen_by.partition(" ")
  command = [sys.executable, "-m", "pytest", "-qx", "-p", "no:cacheprovider"]
  command += [f"tests/{where}", *(["-k", words] if words else [])]
  try:
    done = subprocess.run(command, cwd=tree, capture_output=True, text=True)
  finally:
    path.write_text(whole)
  failed = [
    line.split(" - ")[0].removeprefix("FAILED ")
    for line in done.stdout.splitlines()
    if line.startswith("FAILED")
  ]
  if done.returncode == 1 and failed:
    return f"caught by {failed[0]}"
  if done.returncode == 0:
    return "NOT CAUGHT"
  last = (done.stdout + done.stderr).strip().splitlines()[-1:]
  return f"NOT RUN (pytest ended with {done.returncode}: {last})"


def main() -> None:
  """Prints one line for each breakage, and the number that were caught."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--tree", type=Path, default=Path(__file__).parents[1])
  parser.add_argument("--only", default="")
  given = parser.parse_args()
  chosen = [b for b in BREAKAGES if given.only in f"{b.file} {b.seen_by}"]
  caught = 0
  with tempfile.TemporaryDirectory() as folder:
    tree = copy(given.tree.resolve(), Path(folder))
    for breakage in chosen:
      said = outcome(tree, breakage)
      caught += said.startswith("caught")
      text = " ".join(breakage.text.split())
      print(f"{breakage.file}: {text}\n  {said}", flush=True)
  print(f"{caught} of {len(chosen)} breakages were caught.")
  sys.exit(caught < len(chosen))


if __name__ == "__main__":
  main()
