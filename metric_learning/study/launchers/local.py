"""Runs on the devices of this process."""

import contextlib
import queue
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax

from metric_learning.data.loaded import load_once
from metric_learning.study.launchers.claims import (
  RUNS,
  Group,
  Report,
  as_far,
  claim,
  train_group,
)
from metric_learning.training.config import batch_devices


def launch(groups: Sequence[Group], folder: Path, report: Report) -> None:
  """Trains populations in turn on all devices, and single runs one per device.

  Runs whose batch is shared by several devices also train in turn.
  """

  def work(group: Group) -> None:
    with contextlib.ExitStack() as held:
      for specs in as_far(claim(group, folder, held), folder):
        workdirs = [folder / RUNS / spec.name for spec in specs]
        splits = load_once(specs[0].config.data)
        report(specs, train_group([r.config for r in specs], workdirs, splits))

  devices = jax.local_devices()
  shared = any(batch_devices(r.config) > 1 for group in groups for r in group)
  if len(devices) == 1 or shared:
    for group in groups:
      work(group)
    return
  free: queue.Queue[Any] = queue.Queue()
  for device in devices:
    free.put(device)

  def work_on_a_device(group: Group) -> None:
    device = free.get()
    try:
      with jax.default_device(device):
        work(group)
    finally:
      free.put(device)

  for group in groups:
    if len(group) > 1:
      work(group)
  with ThreadPoolExecutor(len(devices)) as pool:
    # The first error ends the work: runs that have not started do not start.
    list(pool.map(work_on_a_device, [g for g in groups if len(g) == 1]))
