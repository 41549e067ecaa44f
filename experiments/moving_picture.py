"""Writes an animation of how two losses separate the classes of a data set.

python -m experiments.moving_picture --config=configs/digits.py \
  --output=results/digits_moving.webp

This trains 2-D embeddings under two losses of the sweep `losses`, with a
separate run for each number of steps: 1, 2, … . The same seed gives the same
batches, so a run of 20 steps equals the first 20 steps of a longer one. The
animation shows validation images.
"""

from pathlib import Path

from absl import flags

from experiments import cli
from metric_learning.errors import check_choice
from metric_learning.study import make_specs
from metric_learning.training import override, train

_CONFIG = cli.define_config()
_OUTPUT = cli.define_path("output", None, "A .webp file.")
_WORKDIR = cli.define_path("workdir", "runs/moving", "The folder of the runs.")
_LOSSES = flags.DEFINE_list(
  "losses", ["contrastive", "triplet"], "The losses to compare."
)
_STEPS = flags.DEFINE_integer("steps", 1000, "Steps of the longest run.", 2)
_FRAMES = flags.DEFINE_integer("frames", 36, "The most frames.", 2)


def counts(steps: int, frames: int) -> list[int]:
  """The steps of each frame, denser at the beginning, where most changes.

  >>> counts(100, 5)
  [1, 6, 25, 56, 100]
  """
  shares = [i / (frames - 1) for i in range(frames)]
  return sorted({max(1, round(steps * share**2)) for share in shares})


def main() -> None:
  """Trains the runs, and writes the animation."""
  from metric_learning.figures import read_space
  from metric_learning.figures.moving import moving_maps
  from metric_learning.inference import check_output

  config = cli.config_value(_CONFIG)
  output = check_output(_OUTPUT.value or "digits_moving.webp", (".webp",))
  cli.start_device()
  sweep = cli.config_module().SWEEPS["losses"]
  specs = {s.config.loss.name: s for s in make_specs(config, sweep())}
  for loss in _LOSSES.value:
    check_choice("loss of the sweep", loss, specs)
  frames, words = [], []
  for steps in counts(_STEPS.value, _FRAMES.value):
    every = ("steps", "log_every", "eval_every", "save_every")
    fields = {f"train.{name}": steps for name in every}
    spaces = []
    for loss in _LOSSES.value:
      folder = Path(_WORKDIR.value) / f"{loss}-{steps}"
      train(override(specs[loss].config, fields), folder, progress=False)
      spaces.append(read_space(folder, "validation", f"{loss}, L2"))
    frames.append(spaces)
    words.append(f"Validation digits after {steps} steps, as they are")
  page = moving_maps(output, frames, words)
  print(f"Animation: {page} ({page.stat().st_size / 1e6:.2f} MB)")


if __name__ == "__main__":
  cli.run(main, __doc__)
