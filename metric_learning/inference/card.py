"""The model card of an exported run: what it is, how good, how it is used."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from metric_learning import evaluation
from metric_learning.inference import exported
from metric_learning.specs import InputSpec
from metric_learning.training import run_files

PARTS = ("validation", "test")


def loading() -> str:
  """The lines that load an exported model: jax and numpy, nothing else."""
  return Path(exported.__file__).read_text()


def card_of(
  run: Any, config: Mapping[str, Any], found: Sequence[Mapping[str, Any]]
) -> str:
  """A model card, in Markdown.

  Args:
    run: a finished one.
    config: what config.json says.
    found: thresholds, as thresholds.json has them.
  """
  fields = config["config"]
  data, model = fields["data"], fields["model"]
  spec, metric = run.input_spec, config["metric"]
  protocol = (
    "test classes are unseen in training"
    if data["protocol"] == "open-set"
    else "test items are of the classes of training"
  )
  arrays = _kept(run)
  return f"""# {model["name"]} on {data["name"]} by {fields["loss"]["name"]}

Maps {spec} to points: near ones are alike. The distance is `{metric}`: larger
is farther. Run `{config["digest"]}`, step {config["selected_step"]}, commit
{config["commit"]}; written by jax {config["jax"]}.

## Use

{_use_text(config, spec)}

## Data

{_data_text(data, arrays, protocol)}

## Scores

{_scores(run, fields, arrays)}

## Thresholds

{_thresholds(found)}

## Not tested

{_not_tested(data, spec, found)}
"""


def _use_text(config: Mapping[str, Any], spec: InputSpec) -> str:
  platforms = " and ".join(config["platforms"])
  shape = ", ".join(map(str, spec.shape))
  stored = "uint8, 0 to 255" if spec.kind == "image" else "float32"
  return f"""\
Save these lines as `exported.py`. They need jax, numpy and flatbuffers (by
which jax reads programs) alone: `pip install jax numpy flatbuffers`.

```python
{loading().rstrip()}
```

```python
import exported

embed, distances = exported.load("FOLDER")
points = embed(items)  # (n, {shape}), {stored}; any n
distances(points, points)  # (n, n)
```

`model.safetensors` holds what was trained; the programs take any number of
items, on {platforms}. jax promises to read them for six months
after it wrote them, and mostly reads them longer. Points are those of
`run.embed`, bit for bit on the same device with the same jax: tested on a CPU,
and where there is a GPU by `experiments.benchmarks.accelerator --parts=export`
of metric-learning."""


def _kept(run: Any) -> Mapping[str, np.ndarray]:
  """The embeddings of the selected checkpoint that the run holds."""
  for name in (run_files.SELECTED_EMBEDDINGS, run_files.EMBEDDINGS):
    if (run.folder / name).exists():
      return run_files.read_own(run.folder / name)
  return {}


def _data_text(
  data: Mapping[str, Any], arrays: Mapping[str, np.ndarray], protocol: str
) -> str:
  lines = [
    f"Set `{data['name']}`, split `{data['split']}` (seed {data['split_seed']},"
    f" fold {data['fold']}), {data['protocol']}: {protocol}. Trained on"
    f" {data['train_on']}. The terms of the data hold for what was trained on"
    " it.",
    "",
  ]
  for part in PARTS:
    if f"{part}_labels" in arrays:
      labels = arrays[f"{part}_labels"]
      names = arrays.get(f"{part}_class_names")
      count = len(np.unique(labels)) if names is None else len(names)
      what = (
        "items, in explicit pairs"
        if f"{part}_same" in arrays
        else (f"items of {count} classes")
      )
      lines.append(f"- {part}: {len(labels)} {what}")
  return "\n".join(lines)


def _scores(
  run: Any, fields: Mapping[str, Any], arrays: Mapping[str, np.ndarray]
) -> str:
  """The columns of the config: validation, which chose, and test."""
  columns = fields["eval"]["columns"]
  path = run.folder / "test.json"
  known = {
    "validation": run.result["validation_selected"],
    "test": run_files.read_own(path)["selected"] if path.exists() else {},
  }
  lines = ["| score | validation | test |", "| --- | --- | --- |"]
  for column in columns:
    texts = [
      _score(column, part, known[part], arrays, run.metric) for part in PARTS
    ]
    lines.append(f"| {evaluation.heading(column)} | {' | '.join(texts)} |")
  note = (
    f"Chosen by {fields['eval']['select']} on validation, whose scores are so a"
    " little too good. [ ] is a 95 % bootstrap interval over classes, of scores"
    " that are means over queries."
  )
  if not path.exists():
    note += " Test classes were not scored: a report of the study does that."
  return "\n".join([*lines, "", note])


def _score(
  column: str,
  part: str,
  scores: Mapping[str, float],
  arrays: Mapping[str, np.ndarray],
  metric: Any,
) -> str:
  value = scores.get(column, float("nan"))
  if not np.isfinite(value):
    return "–"
  text = f"{value:.3f}"
  if np.isfinite(over_draws := scores.get(f"{column}_interval", np.nan)):
    return f"{text} ± {over_draws:.3f}"
  points, labels = (arrays.get(f"{part}_{x}") for x in ("embeddings", "labels"))
  if (
    points is None
    or labels is None
    or labels.ndim > 1
    or f"{part}_same" in arrays
    or not evaluation.is_by_query(column)
  ):
    return text
  gallery = {
    "references": arrays.get("gallery_embeddings") if part == "test" else None,
    "reference_labels": arrays.get("gallery_labels")
    if part == "test"
    else None,
    "groups": arrays.get(f"{part}_groups"),
    "reference_groups": arrays.get("gallery_groups")
    if part == "test"
    else None,
  }
  each = evaluation.per_query(
    [column], evaluation.Points(points, labels, metric, gallery=gallery)
  )[column]
  low, high = evaluation.class_bootstrap(each, labels)
  return f"{text} [{low:.3f}, {high:.3f}]"


def _thresholds(found: Sequence[Mapping[str, Any]]) -> str:
  """A line for each rate."""
  lines = [
    "Two items are called the same up to this distance. From validation pairs;"
    " [ ] is a 95 % interval.",
    "",
    "| asked FAR | distance | FAR | FRR |",
    "| --- | --- | --- | --- |",
  ]
  reasons = []
  for one in found:
    if "refused" in one:
      reasons.append(f"- FAR {one['asked']:g}: {one['refused']}")
      continue
    rates = [
      f"{r['value']:.3g} [{r['low']:.3g}, {r['high']:.3g}]" if r else "–"
      for r in (one.get("far"), one.get("frr"))
    ]
    lines.append(
      f"| {one['asked']:g} | {one['distance']:.6g} | {' | '.join(rates)} |"
    )
  given = [one["from"] for one in found if "from" in one]
  if not given:
    lines = ["None:", ""]
  elif reasons:
    reasons = ["", f"From {given[0]}. None is given for", "", *reasons]
  else:
    lines += ["", f"From {given[0]}."]
  return "\n".join([*lines, *reasons])


def _not_tested(
  data: Mapping[str, Any], spec: Any, found: Sequence[Mapping[str, Any]]
) -> str:
  lowest = min(
    (one["asked"] for one in found if "distance" in one), default=None
  )
  rare = (
    "any false-accept rate"
    if lowest is None
    else f"false-accept rates below {lowest:g}"
  )
  closed = data["protocol"] != "open-set"
  return "\n".join(
    [
      f"- items from elsewhere than `{data['name']}`: other cameras, sensors,"
      " light, ages or places",
      f"- {spec} that were made from other sizes or crops",
      *(["- classes that it did not train on"] if closed else []),
      f"- {rare}",
      "- whether it errs more for some groups of people or kinds of things than"
      " for others",
      "- items that somebody made to deceive it",
    ]
  )
