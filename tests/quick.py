"""`jax.jit` for tests, where compiling is most of the time."""

import functools

import jax


@functools.cache
def quick_options():
  """Options of XLA that compile fast; {} where this XLA lacks one."""
  options = {
    "xla_backend_optimization_level": 0,
    "xla_llvm_disable_expensive_passes": True,
    "xla_cpu_use_fusion_emitters": False,
  }
  try:
    jax.jit(lambda x: x + 1, compiler_options=options)(0)
  except jax.errors.JaxRuntimeError:
    return {}
  return options


def quick_jit(function, **options):
  """`jax.jit` that optimises little."""
  return jax.jit(function, compiler_options=quick_options(), **options)
