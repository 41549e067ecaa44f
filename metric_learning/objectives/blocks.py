"""How many rows of the distance matrix exist at a time."""

import jax

# The largest distance matrix that is computed at once: on a CPU, on a CPU if
# blocks would compute it twice, and on an accelerator.
_CPU_NUMBERS = 2**21
_TWO_PASS_NUMBERS = 2**26
_DEVICE_NUMBERS = 2**28
# The size of a block of rows that stays in the cache of a CPU.
_CACHE_NUMBERS = 2**19
# With fewer rows, the sums over blocks cost more than the products (measured at
# 8,192 and 16,384 items).
_LEAST_ROWS = 128


def block_rows(
  block_size: int | str | None,
  n: int,
  m: int,
  *,
  recomputes_distances: bool = False,
  backend: str | None = None,
) -> int | None:
  """How many of n rows with m candidates exist at a time; None for all.

  "auto" takes all rows if the matrix is small, and blocks otherwise. On a CPU,
  a block fits the cache; on an accelerator, it may be much larger. With
  `recomputes_distances`, blocks compute each distance twice, so a CPU uses them
  only beyond 8,192 x 8,192.

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
  # Blocks have nearly equal sizes, since padding the last one wastes work.
  blocks = -(-n // max(_LEAST_ROWS, room // m))
  return -(-n // blocks)
