"""Runs the commands of README and the manual, at toy size.

    python -m tests.manual [--only=WORD]

Each page has its own folder, with the images and pairs that it mentions. Its
commands run there in order, with two steps of a small network. `--only` takes
the pages whose name contains a word. All pages take about ten minutes; the exit
status is 1 unless every command ends with status 0. `PASSED_OVER` lists
commands that do not run, with reasons; the test suite checks the flags of all
commands.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from tests.test_manual import PAGES, ROOT, commands_in

STEPS = ("steps", "eval_every", "save_every")
TOY = {
  "config.model.name": "mlp",
  "config.model.hidden": "(16,)",
  "config.batch.classes_per_batch": "4",
  **{f"config.train.{name}": "2" for name in STEPS},
}
SMALL = {"config.data.image_size": "(8, 8)"}
# Of a command, beside TOY.
OPTIONS = {
  "sweep": {"limit": "2"},
  "tune": {
    "config.tune.searches": "1",
    "config.tune.trials": "1",
    "config.tune.folds": "1",
    "config.tune.finalists": "0",
    "config.tune.final_seeds": "1",
  },
  "moving_picture": {"steps": "4", "frames": "2", "config.train.steps": "2"},
}
# What a page takes from another one, by the commands that make it.
COMPARE = (
  "sweep",
  {
    "config": "configs/glyphs.py",
    "sweep": "compare",
    "study": "runs/glyphs_compare",
  },
)
FIRST = {
  "getting_started.md": [COMPARE],
  "see_it.md": [
    COMPARE,
    *(
      ("train", {"config": "configs/glyphs.py", "workdir": f"runs/{name}"})
      for name in ("one", "other")
    ),
  ],
}
# Pages with the commands of docstrings, whose files are placeholders.
GENERATED = ("commands.md",)
# A word of the command, and why it does not run.
PASSED_OVER = {
  "WEIGHTS": "takes weights that a reader brings",
  "FILE": "takes weights that a reader brings",
  ".pth": "takes weights that a reader brings",
  "cub100.npz": "takes features made with such weights",
  "att_faces.npz": "takes features made with such weights",
  "birds.npz": "takes features made with such weights",
  "signatures.npz": "takes features made with such weights",
  "media": "takes studies of them; tests/experiments/test_media.py runs it",
  "cars": "takes features made with such weights, or studies of them",
  "align": "takes the extra faces",
  "launcher=ray": "takes the extra ray; tests/study/test_ray.py runs it",
  "mine": "takes a reader's module; tests/test_extending.py runs it",
  "DATA": "takes a published set; tests/data has a small copy of each",
  "FOLDER": "takes a reader's files",
}


def draw(path: Path, seed: int) -> None:
  """Writes a small picture."""
  pixels = np.random.default_rng(seed).integers(0, 256, (16, 16), np.uint8)
  path.parent.mkdir(parents=True, exist_ok=True)
  Image.fromarray(pixels).save(path)


def furnish(folder: Path) -> None:
  """Writes the files that the pages mention."""
  os.symlink(ROOT / "configs", folder / "configs")
  for name, classes in (("my_images", 12), ("photos", 12), ("album", 3)):
    for label in range(classes):
      for i in range(12):
        draw(folder / name / f"{name} {label}" / f"{i}.png", 100 * label + i)
  for name in ("one.png", "other.png", "new/one.png"):
    draw(folder / name, 0)
  far = [f"one.png,photos/photos {i}/0.png,0" for i in range(3)]
  lines = ["first,second,same", "one.png,other.png,1", *far]
  (folder / "pairs.csv").write_text("\n".join(lines))
  (folder / "my_pairs").mkdir()
  for part in ("train", "validation", "test"):
    rows = ["first,second,same"]
    for i in range(40):
      draw(folder / "my_pairs" / f"{part}{i}" / "0.png", i)
      draw(folder / "my_pairs" / f"{part}{i}" / "1.png", i)
      rows.append(f"{part}{i}/0.png,{part}{i}/1.png,1")
      rows.append(f"{part}{i}/0.png,{part}{i - 1 if i else 39}/1.png,0")
    (folder / "my_pairs" / f"{part}.csv").write_text("\n".join(rows))


def toy(script: str, flags: dict[str, str]) -> list[str]:
  """The command at toy size."""
  whole = dict(flags)
  if "config" in flags:
    whole |= TOY
    if "image_folder" in flags["config"] or "pairs" in flags["config"]:
      whole |= SMALL
    whole |= OPTIONS.get(script, {})
  words = [f"--{k}={v}" if v else f"--{k}" for k, v in whole.items()]
  return ["-m", f"experiments.{script}", *words]


def reason_to_pass_over(script: str, flags: dict[str, str]) -> str:
  """Why a command does not run here; empty if it does."""
  text = " ".join([script, *(f"{k}={v}" for k, v in flags.items())])
  for word, reason in PASSED_OVER.items():
    if word in text.replace("my_", ""):
      return reason
  return ""


def outcomes(page: Path) -> Iterator[tuple[str, str]]:
  """Each command of a page, and its problem; empty if there is none."""
  with tempfile.TemporaryDirectory() as scratch:
    folder = Path(scratch)
    furnish(folder)
    commands = [*FIRST.get(page.name, []), *commands_in(page.read_text())]
    for script, flags in commands:
      reason = reason_to_pass_over(script, flags)
      if reason:
        yield f"{script}: not run, {reason}", ""
        continue
      words = toy(script, flags)
      done = subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "JAX_NUM_CPU_DEVICES": "4"},
        capture_output=True,
        text=True,
      )
      failed = done.returncode != 0
      yield " ".join(words[1:]), done.stderr[-2000:] if failed else ""


def main() -> int:
  """Runs the pages, and prints which commands failed."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--only", default="")
  only = parser.parse_args().only
  count, failed = 0, 0
  for page in (ROOT / "README.md", *PAGES):
    if only not in page.name or page.name in GENERATED:
      continue
    for command, error in outcomes(page):
      print(f"{page.name}: {command}\n  {error or 'ended well'}", flush=True)
      count += 1
      failed += bool(error)
  print(f"{count} commands, {failed} failed")
  return int(bool(failed))


if __name__ == "__main__":
  sys.exit(main())
