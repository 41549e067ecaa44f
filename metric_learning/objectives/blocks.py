"""How many rows of the distance matrix exist at a time."""

import jax

# Numbers of a matrix that is held at once: by a CPU, by a CPU where blocks
# would compute it twice, and by an accelerator.
_CPU_NUMBERS = 2**21
_TWO_PASS_NUMBERS = 2**26
_DEVICE_NUMBERS = 2**28
# Numbers in one block of rows of a larger one that stay in a CPU's cache.
_CACHE_NUMBERS = 2**19
# Of fewer rows, the sums over all blocks cost more than the products (measured
# at 8,192 and 16,384 items).
_LEAST_ROWS = 128


def block_rows(
  block_size: int | str | None,
  n: int,
  m: int,
  *,
  recomputes_distances: bool = False,
  backend: str | None = None,
) -> int | None:
  """How many of n rows of m candidates exist at a time; None for all.

  "auto" is all rows while the matrix is small, on a device against its memory;
  else blocks, which on a CPU fit the cache. With `recomputes_distances` blocks
  compute each distance twice: there, small is up to 8,192 x 8,192 on a CPU.

  >>> block_rows("auto", 2048, 2048, backend="cpu")
  256
  """
  if not isinstance(block_size, str):
    return block_size
  on_cpu = (backend or jax.default_backend()) == "cpu"
  of_cpu = _TWO_PASS_NUMBERS if recomputes_distances else _CPU_NUMBERS
  if n * m <= (of_cpu if on_cpu else _DEVICE_NUMBERS):
    return None
  room = _CACHE_NUMBERS if on_cpu else _DEVICE_NUMBERS
  # As even as can be: what fills the last block is computed for nothing.
  blocks = -(-n // max(_LEAST_ROWS, room // m))
  return -(-n // blocks)
