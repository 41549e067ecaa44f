"""Breakages of a run's guarantees: disk, signals, devices, monitor."""

from tests.breakage import Breakage

BREAKAGES = [
  # --- On disk
  Breakage(  # a record that was edited is taken
    "training/checkpoints.py",
    'whole = metadata["seal"] == _seal(metadata["record"])',
    "whole = True",
    "training/test_checkpoints.py edited",
  ),
  Breakage(  # the checkpoint of another step is taken
    "training/checkpoints.py",
    'elif record["step"] != step:',
    "elif False:",
    "training/test_checkpoints.py renamed",
  ),
  Breakage(  # that of another run too
    "training/checkpoints.py",
    'elif record["run"] != self._run:',
    "elif False:",
    "training/test_checkpoints.py another_run",
  ),
  Breakage(  # what was scored from another run is taken
    "training/run_files.py",
    "str(named) != here",
    "str(named) == here[::-1]",
    "training/test_faults.py embeddings_of_another_run",
  ),
  Breakage(  # metrics that were edited are gone on from
    "training/run_files.py",
    "if expected is not None and self.digest != expected:",
    "if False:",
    "training/test_faults.py edited",
  ),
  Breakage(  # a loss of power leaves an empty file
    "training/disk.py",
    "        os.fsync(file.fileno())\n",
    "",
    "training/test_faults.py error_of_the_disk",
  ),
  Breakage(  # half a file is seen where a process was killed
    "training/disk.py",
    "      os.replace(file.name, path)\n",
    "      path.write_bytes(Path(file.name).read_bytes())\n",
    "training/test_faults.py killed_at_each",
  ),
  # --- Locks and signals
  Breakage(  # the lock is not taken
    "training/holding.py",
    "taken = lock.acquire(blocking=False)",
    "taken = contextlib.nullcontext()",
    "training/test_stopping.py second_process",
  ),
  Breakage(  # each member is saved with the state of the first
    "training/population.py",
    "stopped = run.stop(done, state_of(i), own)",
    "stopped = run.stop(done, state_of(0), own)",
    "training/test_population.py signal",
  ),
  Breakage(  # what a signal stops is not saved
    "training/recorder.py",
    "    self.checkpoints.save_stopped(\n",
    "    str(\n",
    "training/test_stopping.py saves_says_so",
  ),
  # --- Numbers
  Breakage(  # the monitor never fires
    "training/monitor.py",
    "_TAIL = 0.5",
    "_TAIL = 1.5",
    "training/test_monitor.py told",
  ),
  Breakage(  # a step that is not finite is taken
    "training/step.py",
    'fine = jnp.isfinite(values["loss"])',
    'fine = True | jnp.isfinite(values["loss"])',
    "training/test_monitor.py skipped",
  ),
  # --- Many devices
  Breakage(  # what each device computed is gathered in the wrong order
    "rows.py",
    "jax.lax.all_gather(x, axes, tiled=True)[:n]",
    "jax.lax.all_gather(x, axes[::-1], tiled=True)[:n]",
    "test_devices.py eight_devices",
  ),
  Breakage(  # a device takes the rows of another
    "devices.py",
    "    lambda share: x[np.searchsorted(here, rows[share[0]])],\n",
    "    lambda share: x[np.searchsorted(here, rows[share[0]])][::-1],\n",
    "training/test_on_devices.py",
  ),
  Breakage(  # a swapped axis of the mesh
    "devices.py",
    "for name in mesh.axis_names if name != MEMBERS)",
    "for name in mesh.axis_names if name != BATCH)",
    "training/test_on_devices.py",
  ),
  Breakage(  # another process is not compared with the first
    "training/processes.py",
    "together(lambda: None if first else claim(folder))",
    "together(lambda: None)",
    "training/test_processes.py otherwise",
  ),
  Breakage(  # a signal is lost in the garbage collector
    "training/stopping.py",
    "    if isinstance(unraisable.exc_value, Stopped):",
    "    if False:",
    "training/test_stopping.py garbage",
  ),
  Breakage(  # half of a module stays behind a signal
    "training/stopping.py",
    "if any(map(_is_deaf, inside)):",
    "if False:",
    "training/test_stopping.py import",
  ),
  Breakage(  # a kill inside a save makes two populations of one
    "study/launchers/claims.py",
    "if shared & starts:",
    "if shared == starts:",
    "study/test_launchers.py goes_back",
  ),
  Breakage(  # what a killed process wrote in part stays
    "study/scoring.py",
    "  run_files.drop_leftovers(run.folder)\n",
    "",
    "study/test_scoring.py in_part",
  ),
  # --- Networks and scores
  Breakage(  # a place of the kernel takes the gradient of the next
    "models/layers.py",
    "return total + jnp.stack(sums), None",
    "return total + jnp.stack(sums[::-1]), None",
    "models/test_trunks.py gradients_of_a_depthwise",
  ),
  Breakage(  # projected points are said to be normalized
    "objectives/objective.py",
    'return "none" if learned else self.normalize',
    "return self.normalize",
    "training/test_loop.py projected",
  ),
]
