"""The model card of an exported run: its use, data, scores and limits."""

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
  """The code that loads an exported model; it imports only jax and numpy."""
  return Path(exported.__file__).read_text()


def card_of(
  run: Any, config: Mapping[str, Any], thresholds: Sequence[Mapping[str, Any]]
) -> str:
  """A model card, in Markdown.

  Args:
    run: a finished run.
    config: the contents of config.json.
    thresholds: the contents of thresholds.json.
  """
  fields = config["config"]
  data, model = fields["data"], fields["model"]
  spec, metric = run.input_spec, config["metric"]
  protocol = (
    "test classes are unseen in training"
    if data["protocol"] == "open-set"
    else "test items have the classes of training"
  )
  arrays = _embeddings_of(run)
  return f"""# {model["name"]} on {data["name"]} by {fields["loss"]["name"]}

Maps {spec} to points, so that similar items are near each other. The distance
is `{metric}`: larger is farther. Run `{config["digest"]}`, step
{config["selected_step"]}, commit {config["commit"]}; written by jax
{config["jax"]}.

## Use

{_use_text(config, spec)}

## Data

{_data_text(data, arrays, protocol)}

## Scores

{_scores(run, fields, arrays)}

## Thresholds

{_thresholds(thresholds)}

## Not tested

{_not_tested(data, spec, thresholds)}
"""


def _use_text(config: Mapping[str, Any], spec: InputSpec) -> str:
  platforms = " and ".join(config["platforms"])
  shape = ", ".join(map(str, spec.shape))
  stored = "uint8, 0 to 255" if spec.kind == "image" else "float32"
  return f"""\
Save these lines as `exported.py`. They need only jax, numpy and flatbuffers,
with which jax reads programs: `pip install jax numpy flatbuffers`.

```python
{loading().rstrip()}
```

```python
import exported

embed, distances = exported.load("FOLDER")
points = embed(items)  # (n, {shape}), {stored}; any n
distances(points, points)  # (n, n)
```

`model.safetensors` holds the trained weights. The programs take any number of
items, on {platforms}. jax guarantees to read programs for six
months after they were written, and usually reads them for longer. Points equal
those of `run.embed` bit for bit on the same device with the same jax. This is
tested on a CPU, and on a GPU by
`experiments.benchmarks.accelerator --parts=export` of metric-learning."""


def _embeddings_of(run: Any) -> Mapping[str, np.ndarray]:
  """The embeddings of the selected checkpoint, if the run has them."""
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
    f" {data['train_on']}. The terms of use of the data also apply to this"
    " model.",
    "",
  ]
  for part in PARTS:
    if f"{part}_labels" in arrays:
      labels = arrays[f"{part}_labels"]
      names = arrays.get(f"{part}_class_names")
      count = len(np.unique(labels)) if names is None else len(names)
      unit = (
        "items, in explicit pairs"
        if f"{part}_same" in arrays
        else (f"items of {count} classes")
      )
      lines.append(f"- {part}: {len(labels)} {unit}")
  return "\n".join(lines)


def _scores(
  run: Any, fields: Mapping[str, Any], arrays: Mapping[str, np.ndarray]
) -> str:
  """A table of the columns of the config, on validation and test."""
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
    f"The checkpoint was chosen by {fields['eval']['select']} on validation, so"
    " the validation scores are slightly too good. [ ] is a 95 % bootstrap"
    " interval over classes, for scores that are means over queries."
  )
  if not path.exists():
    note += " Test classes were not scored: a report of the study scores them."
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


def _thresholds(thresholds: Sequence[Mapping[str, Any]]) -> str:
  """A table with a line for each false-accept rate."""
  lines = [
    "Two items count as the same up to this distance. Rates come from"
    " validation pairs; [ ] is a 95 % interval.",
    "",
    "| requested FAR | distance | FAR | FRR |",
    "| --- | --- | --- | --- |",
  ]
  reasons = []
  for one in thresholds:
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
  sources = [one["from"] for one in thresholds if "from" in one]
  if not sources:
    lines = ["There are no thresholds:", ""]
  elif reasons:
    heading = f"From {sources[0]}. There is no threshold for"
    reasons = ["", heading, "", *reasons]
  else:
    lines += ["", f"From {sources[0]}."]
  return "\n".join([*lines, *reasons])


def _not_tested(
  data: Mapping[str, Any], spec: Any, thresholds: Sequence[Mapping[str, Any]]
) -> str:
  lowest = min(
    (one["asked"] for one in thresholds if "distance" in one), default=None
  )
  rare = (
    "any false-accept rate"
    if lowest is None
    else f"false-accept rates below {lowest:g}"
  )
  closed = data["protocol"] != "open-set"
  return "\n".join(
    [
      f"- items from other sources than `{data['name']}`: other cameras,"
      " sensors, light, ages or places",
      f"- {spec} that were made from other sizes or crops",
      *(["- classes that the model was not trained on"] if closed else []),
      f"- {rare}",
      "- whether error rates differ between groups of people or kinds of items",
      "- adversarial items, made to deceive the model",
    ]
  )
