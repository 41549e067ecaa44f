"""Runs Python in its own process: other devices, nothing imported before."""

import json
import os
import pathlib
import subprocess
import sys
import textwrap

from tests.quick import QUICK_FLAGS


def script(code, devices=1):
  """Runs Python in its own process; reads its last line as JSON.

  Types are not checked there, as for a user.
  """
  done = subprocess.run(
    [sys.executable, "-c", textwrap.dedent(code)],
    capture_output=True,
    text=True,
    timeout=300,
    cwd=pathlib.Path(__file__).parents[1],
    env={
      **os.environ,
      "JAX_PLATFORMS": "cpu",
      "XLA_FLAGS": " ".join(
        (QUICK_FLAGS, f"--xla_force_host_platform_device_count={devices}")
      ),
    },
  )
  assert done.returncode == 0, done.stderr
  return json.loads(done.stdout.splitlines()[-1])
