"""The numbers of the accelerator run as one page of Markdown.

A share of the floor is the least time that the device's own ceilings, measured
by the part `device`, allow for the arithmetic and the bytes, over the time that
was measured.
"""

from collections.abc import Callable
from typing import Any

from experiments.benchmarks.cells import (
  DASH,
  duration,
  memory,
  ratio,
  table,
  values_apart,
)
from experiments.benchmarks.clock import Line

Table = Callable[[list[Line], dict[str, float]], list[str]]


def page(found: dict[str, Any], titles: dict[str, str]) -> str:
  """The page: the machine, then each part that was measured, in their order."""
  text = ["# On an accelerator", ""]
  if found["tiny"]:
    text += ["A rehearsal with `--tiny`: its numbers mean nothing.", ""]
  text += [_machine(found["machine"]), "", _HOW, ""]
  ceilings = _ceilings(found["parts"])
  for name, title in titles.items():
    text += [f"## {title}", ""]
    part = found["parts"].get(name)
    if part is None:
      text += [f"Not measured: {found['skipped'].get(name, 'not asked')}.", ""]
      continue
    text += [
      f"`{part['command']}`, commit {part['commit']}, {part['seconds']:.0f} s;"
      f" {_machine(found['machine'])}",
      "",
    ]
    if part["cut"]:
      text += ["The time of this part ended before its last line.", ""]
    text += [*_TABLES[name](part["lines"], ceilings), ""]
  return "\n".join(text)


_HOW = (
  "Medians of three to thirty calls after a warm-up, each waited for;"
  " compilation is apart. Ours and its rival are measured in turn, in one"
  " process and on one device. Memory is what a call holds beside its inputs:"
  " of JAX what the compiler plans, and behind it what the device measured,"
  " where the line was the largest so far; of PyTorch what its allocator"
  " measured."
)


def _machine(machine: dict[str, Any]) -> str:
  versions = ", ".join(f"{k} {v}" for k, v in machine["versions"].items())
  return f"{machine['device']} ({machine['runtime']}); {versions}."


def _ceilings(parts: dict[str, Any]) -> dict[str, float]:
  """Operations, instructions and bytes for each second, as measured here."""
  lines = {x["name"]: x for x in parts.get("device", {"lines": []})["lines"]}
  rates = {}
  for name, of, rate, share in (
    ("flops", "float32 product", "flops_per_s", 1.0),
    # A multiply-add is one instruction and two operations.
    ("instructions", "float32 multiply-add", "flops_per_s", 0.5),
    ("bytes", "copy", "bytes_per_s", 1.0),
  ):
    if rate in lines.get(of, {}):
      rates[name] = share * lines[of][rate]
  return rates


def _floor(line: Line, ceilings: dict[str, float]) -> float | None:
  """The least seconds for the work of a line; None without ceilings."""
  if len(ceilings) < 3:
    return None
  return max(line[k] / rate for k, rate in ceilings.items() if k in line)


def _share(line: Line, side: str, ceilings: dict[str, float]) -> str:
  floor = _floor(line, ceilings)
  if floor is None or "seconds" not in line[side]:
    return DASH
  return f"{100 * floor / line[side]['seconds']:.1f} %"


def _device(lines: list[Line], _: dict[str, float]) -> list[str]:
  def rate(line: Line) -> str:
    if line.get("flops_per_s"):
      return f"{line['flops_per_s'] / 1e12:,.2f} TFLOP/s"
    if line.get("bytes_per_s"):
      return f"{line['bytes_per_s'] / 1e9:,.1f} GB/s"
    return DASH

  rows = [
    (x["name"], "×".join(map(str, x["size"])), duration(x), rate(x))
    for x in lines
  ]
  return table(("", "size", "time", "rate"), rows)


def _losses(lines: list[Line], ceilings: dict[str, float]) -> list[str]:
  head = (
    *("loss", "metric", "n", "ours", "compile", "memory", "of the floor"),
    *("theirs", "their memory", "theirs / ours", "values apart"),
  )
  lines = sorted(lines, key=lambda x: (x["n"], x["metric"] == "l1"))
  rows = [
    (
      *(x["name"], x["metric"], f"{x['n']:,}"),
      *(duration(x["ours"]), duration(x["ours"], "compile"), memory(x["ours"])),
      *(
        _share(x, "ours", ceilings),
        duration(x["theirs"]),
        memory(x["theirs"]),
      ),
      *(ratio(x), values_apart(x)),
    )
    for x in lines
  ]
  note = (
    "Value and gradient in float32, 128 dimensions, 8 items in each class;"
    " theirs is pytorch-metric-learning. The floor computes each distance once"
    " and once more in the gradient, and keeps no matrix: for product metrics"
    " a multiply-add for each number both times, for L1 five instructions."
  )
  return [note, "", *table(head, rows)]


def _l1(lines: list[Line], ceilings: dict[str, float]) -> list[str]:
  head = (
    *("", "n", "ours", "memory", "of the floor"),
    *("torch.cdist", "its memory", "cdist / ours", "values apart"),
  )
  rows = [
    (
      *(x["name"], f"{x['n']:,}", duration(x["ours"]), memory(x["ours"])),
      *(
        _share(x, "ours", ceilings),
        duration(x["theirs"]),
        memory(x["theirs"]),
      ),
      *(ratio(x), values_apart(x)),
    )
    for x in lines
  ]
  return [*table(head, rows), "", _of_pallas(lines, ceilings)]


def _of_pallas(lines: list[Line], ceilings: dict[str, float]) -> str:
  text = (
    "A Pallas kernel would be compared with these lines: it would hold tiles of"
    " both sides in shared memory, and add differences in registers, so that"
    " only the floor is left: two instructions for each number forward, six"
    " with both gradients, and the matrix written once."
  )
  largest = max(lines, key=lambda x: x["n"], default=None)
  if largest is None or "seconds" not in largest["ours"]:
    return text
  floor = _floor(largest, ceilings)
  if floor is None:
    return text
  most = largest["ours"]["seconds"] / floor
  return (
    f"{text} At n = {largest['n']:,}, {largest['name']}, it could gain at most"
    f" a factor of {most:.1f}."
  )


def _population(lines: list[Line], _: dict[str, float]) -> list[str]:
  # Steps for each second, of one run that trains alone.
  alone = {
    x["name"]: x["runs_per_hour"]
    for x in lines
    if x["form"] == "alone" and "runs_per_hour" in x
  }
  head = (
    *("network", "members", "form", "time of a step", "first call"),
    *("runs per hour", "of one alone", "memory"),
  )
  rows = []
  for x in lines:
    each = x | {"seconds": x["seconds"] / x["steps"]} if "seconds" in x else x
    per_hour, times = DASH, DASH
    if "runs_per_hour" in x:
      per_hour = f"{x['runs_per_hour']:,.0f}"
      if x["name"] in alone:
        times = f"{x['runs_per_hour'] / alone[x['name']]:.2f} ×"
    rows.append(
      (
        *(
          x["name"],
          str(x["n"]),
          x["form"],
          duration(each),
          duration(x, "first"),
        ),
        *(per_hour, times, memory(x)),
      )
    )
  steps = next((x["run_steps"] for x in lines if "run_steps" in x), 0)
  note = (
    f"A run is {steps} steps, without evaluation. In the form `products` a"
    " convolution of members is a batched matrix product, in `grouped` a"
    " convolution with a group for each member; `alone` is one run that is no"
    " population. The first call compiles."
  )
  return [note, "", *table(head, rows)]


def _conv4(lines: list[Line], _: dict[str, float]) -> list[str]:
  head = (
    *("network", "images", "batch", "ours", "PyTorch", "PyTorch / ours"),
    "embeddings apart",
  )
  rows = [
    (
      *(x["name"], "×".join(map(str, x["shape"])), str(x["batch"])),
      *(_speed(x["ours"]), _speed(x["theirs"]), ratio(x), _apart(x)),
    )
    for x in lines
  ]
  return [_STEPS, "", *table(head, rows)]


_STEPS = (
  "Training steps with infonce_per_pair and Adam. PyTorch has the same"
  " parameters at the start and runs without torch.compile; both multiply and"
  " convolve float32 in their device's default precision (TF32 where there"
  " is one). Ours also computes the norm of the gradient and what is logged."
  " The ratio is of times."
)


def _speed(side: Line) -> str:
  if "images_per_s" not in side:
    return duration(side)
  return f"{side['images_per_s']:,.0f} images/s"


def _apart(line: Line) -> str:
  """How far the embeddings of both sides are apart before training."""
  apart = line["theirs"].get("embeddings_apart")
  return DASH if apart is None else f"{apart:.0e}"


def _resnet50(lines: list[Line], _: dict[str, float]) -> list[str]:
  head = (
    *("network", "images", "batch", "form", "ours", "compile", "memory"),
    *("PyTorch", "its memory", "PyTorch / ours", "embeddings apart"),
  )
  rows = [
    (
      *(x["name"], "×".join(map(str, x["shape"])), str(x["batch"]), x["form"]),
      *(_speed(x["ours"]), duration(x["ours"], "compile"), memory(x["ours"])),
      *(_speed(x["theirs"]), memory(x["theirs"]), ratio(x), _apart(x)),
    )
    for x in lines
  ]
  note = (
    "PyTorch is torchvision's network in channels_last, under autocast for"
    " bfloat16, and `torch.utils.checkpoint` around each block for remat."
  )
  return [_STEPS, note, "", *table(head, rows)]


def _retrieval(lines: list[Line], _: dict[str, float]) -> list[str]:
  head = ("", "metric", "n", "ours", "PyTorch", "PyTorch / ours", "equal")
  rows = [
    (
      *(x["name"], x["metric"], f"{x['n']:,}"),
      *(duration(x["ours"]), duration(x["theirs"]), ratio(x)),
      f"{100 * x['equal']:.3f} %" if "equal" in x else DASH,
    )
    for x in lines
  ]
  note = (
    "From points in host memory to indices in host memory. Ours ranks exact"
    " float32 differences with one rule for ties; PyTorch ranks a product (L2)"
    " or torch.cdist (L1) with top-k, in blocks of queries, as faiss does."
  )
  return [note, "", *table(head, rows)]


def _export(lines: list[Line], _: dict[str, float]) -> list[str]:
  def apart(line: Line, name: str) -> str:
    return f"{line[name]:.0e}" if name in line else line.get("failed", DASH)

  rows = [
    (
      *(x["name"], "×".join(map(str, x["shape"])), f"{x['n']:,}", duration(x)),
      ("yes" if x["equal"] else "no") if "equal" in x else DASH,
      *(apart(x, f"{of}_apart") for of in ("points", "distances")),
    )
    for x in lines
  ]
  head = (
    *("network", "images", "n", "time", "bit for bit as `run.embed`"),
    *("points from the CPU's", "distances from the CPU's"),
  )
  note = (
    "The StableHLO programs of `run.export`, loaded on this device and on the"
    " CPU of the machine: the largest difference, as a share of the largest"
    " number."
  )
  return [note, "", *table(head, rows)]


def _repeat(lines: list[Line], _: dict[str, float]) -> list[str]:
  def verdict(line: Line, name: str) -> str:
    if name not in line:
      return line.get("failed", DASH)
    if line[name]["equal"]:
      return "equal, bit for bit"
    return f"differs; embeddings by {line[name]['embeddings_apart']:.1e}"

  base = next((x.get("step") for x in lines if x["name"] == "no flags"), None)
  rows = []
  for x in lines:
    cost = f"{x['step'] / base:.2f} ×" if base and "step" in x else DASH
    rows.append(
      (
        *(f"`{x['name']}`", verdict(x, "second"), verdict(x, "killed")),
        *(duration(x, "step"), cost, duration(x, "second_run")),
      )
    )
  head = (
    *("XLA flags", "twice in one process", "killed and resumed in another"),
    *("a step", "cost", "a whole run"),
  )
  return table(head, rows)


_TABLES: dict[str, Table] = {
  "device": _device,
  "losses": _losses,
  "l1": _l1,
  "population": _population,
  "conv4": _conv4,
  "resnet50": _resnet50,
  "retrieval": _retrieval,
  "repeat": _repeat,
  "export": _export,
}
