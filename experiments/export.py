"""Exports a finished run as a folder that does not need this package.

python -m experiments.export --run=runs/birds --out=birds_model

The folder holds the weights (model.safetensors), the programs that embed and
compare (StableHLO, for CPU and CUDA), config.json, thresholds.json, and a model
card, README.md, with the lines of Python that load it. They need only jax,
numpy and flatbuffers.
"""

from absl import flags

from experiments import cli, using

_OUT = cli.define_path("out", None, "The folder to write; it must not exist.")
flags.adopt_module_key_flags(using)


def main() -> None:
  """Exports the run that --run names."""
  out = using.needed(_OUT, "which output folder?", "birds_model")
  print(f"Model: {using.loaded().export(out)}")


if __name__ == "__main__":
  cli.run(main, __doc__)
