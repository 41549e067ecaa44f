"""Two losses separate the digits of one data set, as a picture that moves.

python -m experiments.moving_picture --config=configs/digits.py \
  --output=results/digits_moving.webp

Trains 2-D embeddings under two losses of the sweep `losses` for 1, 2, … steps,
each count as a run of its own: the same seed gives the same batches, so that a
run of 20 steps is the first 20 of a longer one. Shown are validation images.
"""

from pathlib import Path

from absl import flags

from experiments import cli
from metric_learning.errors import check_choice
from metric_learning.study import make_specs
from metric_learning.training import override, train

_CONFIG = cli.define_config()
_OUTPUT = cli.define_path("output", None, "A .webp file.")
_WORKDIR = cli.define_path("workdir", "runs/moving", "Where the runs lie.")
_LOSSES = flags.DEFINE_list("losses", ["contrastive", "triplet"], "Of runs.")
_STEPS = flags.DEFINE_integer("steps", 1000, "Of the longest run.", 2)
_FRAMES = flags.DEFINE_integer("frames", 36, "How many, at most.", 2)


def counts(steps: int, frames: int) -> list[int]:
  """Steps of each frame, denser at the beginning, where most moves.

  >>> counts(100, 5)
  [1, 6, 25, 56, 100]
  """
  shares = [i / (frames - 1) for i in range(frames)]
  return sorted({max(1, round(steps * share**2)) for share in shares})


def main() -> None:
  """Trains, and writes the picture."""
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
  print(f"Picture: {page} ({page.stat().st_size / 1e6:.2f} MB)")


if __name__ == "__main__":
  cli.run(main, __doc__)
