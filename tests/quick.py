"""Flags of XLA for tests, which spend most of their time compiling."""

from importlib.metadata import version

QUICK_FLAGS = "--xla_cpu_parallel_codegen_split_count=1"
# Kernels as XLA made them before 0.11, in a third of the time. A flag that XLA
# does not know ends the process, and jaxlib 0.11 has only the slow way.
if tuple(map(int, version("jaxlib").split(".")[:2])) < (0, 11):
  QUICK_FLAGS += " --xla_cpu_use_fusion_emitters=false"


def quick_jit(function, **options):
  """`jax.jit` with the flags above for the whole program."""
  import jax

  return jax.jit(function, **options)
