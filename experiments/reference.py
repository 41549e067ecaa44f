"""Writes the pages of the manual that are generated from the code.

python -m experiments.reference

This writes docs/losses.md, docs/choices.md, docs/configuration.md and
docs/commands.md from the registries, the fields of a config and the scripts,
and docs/loss_pictures/ from the losses. Run it again when one of these changes.
"""

import html
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from experiments import __main__ as commands
from experiments import list as listing
from experiments import loss_pictures
from metric_learning.evaluation import scores
from metric_learning.losses import (
  Loss,
  angular,
  classifiers,
  integer_margins,
  listwise,
  pairs,
  proxies,
  quadruplets,
  ranking,
  triplets,
  views,
)
from metric_learning.losses.search import Grid, Range
from metric_learning.signatures import REQUIRED, Kind
from metric_learning.study.formats import as_markdown
from metric_learning.training import fields, run_files
from metric_learning.training.sections import CHOICES

DOCS = Path(__file__).parents[1] / "docs"
FAMILIES: dict[str, Mapping[str, Loss]] = {
  "Pairs": pairs.PAIR_LOSSES,
  "Triplets": triplets.TRIPLET_LOSSES | quadruplets.QUADRUPLET_LOSSES,
  "Lists of candidates": angular.ANGULAR_LOSSES | listwise.LISTWISE_LOSSES,
  "Ranking": ranking.RANKING_LOSSES,
  "Classification": classifiers.CLASSIFIER_LOSSES
  | integer_margins.INTEGER_MARGIN_LOSSES,
  "Proxies and centers": proxies.PROXY_LOSSES,
  "Two views": views.VIEW_LOSSES,
}
_MADE = "<!-- Written by python -m experiments.reference. -->\n\n"
_UNITS = {1: "distance", 2: "distance²", -1: "1 / distance"}
# The sections whose name has options: the field, and the kind in `listing`.
_NAMED = {
  "Metrics": ("metric", "metrics"),
  "Miners": ("miner", "miners"),
  "Reductions": ("reduction", "reductions"),
  "Regularizers": ("regularizer", "regularizers"),
  "Relations": ("relation", "relations"),
  "Networks": ("model", "models"),
  "Optimizers": ("optimizer", "optimizers"),
  "Schedules": ("optimizer.schedule", "schedules"),
}


def pages() -> dict[str, str]:
  """The text of each page, by its name."""
  return {
    "losses.md": _losses(),
    "choices.md": _choices(),
    "configuration.md": _configuration(),
    "commands.md": _commands(),
  }


def _losses() -> str:
  names = sum(len(family) for family in FAMILIES.values())
  text = [
    f"{_MADE}# The losses",
    f"There are {names} losses. D is the distance of two items under the metric"
    " that you choose. s is a similarity: −D, or the cosine for losses that"
    " allow only cosine. The metrics that are counted as more are in"
    " [choices](choices.md#metrics). a is an anchor, p an item of its class,"
    " and n an item of another class; P and N are the sets of all p and all n."
    " [x]₊ is max(x, 0), σ the logistic function, LSE the logarithm of a sum of"
    " exponentials.",
    "If the unit of a hyperparameter is a distance, it follows"
    ' `margin_unit="initial_mean"`: it is then a multiple of the mean distance'
    " at initialization. *Searched* is the range that `experiments.tune` draws"
    " from. `help(ml.LOSSES[NAME].terms)` has an example to check by hand, and"
    " each departure from the source.",
    "The pictures show forces for an anchor with one positive and one negative,"
    f" at distances from {loss_pictures.NEAREST:g} to"
    f" {loss_pictures.FARTHEST:g}. Blue is the pull on the positive: ∂L/∂D_p"
    " while the negative is at distance 1. Orange, dashed, is the push on the"
    " negative: −∂L/∂D_n while the positive is at distance 1. The gray line is"
    " 0; each picture has its own scale. A loss without a picture depends on"
    " more than these two distances.",
  ]
  for title, family in FAMILIES.items():
    table = [
      [f"[`{name}`](#{name})", _equation(loss), _metrics(loss)]
      for name, loss in family.items()
    ]
    text += [f"## {title}", as_markdown(["loss", "", "metrics"], table)]
    text += [_loss(name, loss) for name, loss in family.items()]
  return "\n\n".join(text) + "\n"


def _equation(loss: Loss) -> str:
  """The first line of a loss, with indices and exponents as HTML.

  A page then shows it without scripts or extra fonts.
  """
  text = html.escape(listing.first_line(loss), quote=False)
  text = text.replace("|", "∣").replace("*", "\\*").replace("&lt;=", "≤")
  text = re.sub(r"_([^\W²³]+'?)", r"<sub>\1</sub>", text)
  text = text.replace("]+", "]<sub>+</sub>")
  for sign, tag in (("_", "sub"), (r"\^", "sup")):
    text = re.sub(sign + r"\{([^{}]*)\}", rf"<{tag}>\1</{tag}>", text)
  return text


def _metrics(loss: Loss) -> str:
  if not loss.metrics:
    return loss.fixed_metric or "its own"
  common = [m for m in ("l2", "l1", "cosine") if m in loss.metrics]
  rest = len(loss.metrics) - len(common)
  if not common:
    return ", ".join(loss.metrics)
  return ", ".join(common) + (f", {rest} more" if rest else "")


def _loss(name: str, loss: Loss) -> str:
  lines = [
    [
      f"`{number}`",
      _default(loss, number, default),
      _values(loss.kinds.get(number)),
      _unit(loss, number),
      _searched(loss.search.get(number)),
    ]
    for number, default in loss.hyper.items()
  ]
  text = [f"### `{name}`", _equation(loss)]
  if loss_pictures.has_picture(loss):
    text.append(f"![Pull and push of {name}](loss_pictures/{name}.svg)")
  if lines:
    heads = ["hyperparameter", "default", "values", "unit", "searched"]
    text.append(as_markdown(heads, lines))
  of_scores = "Default metric" if loss.metrics else "Metric of scores"
  notes = [f"{of_scores}: {loss.metric}, normalization: {loss.normalize}."]
  if loss.two_views:
    notes.append("Compares two views of each item.")
  if loss.state is not None:
    notes.append("Keeps a state from batch to batch.")
  if loss.logits is not None:
    notes.append("Has class scores: `objective.logits`.")
  notes.append(f"Source: {loss.source}.")
  return "\n\n".join([*text, " ".join(notes)])


def _default(loss: Loss, number: str, value: Any) -> str:
  """A default as Python writes it; an angle in degrees, too."""
  if _unit(loss, number) == "radians":
    return f"`{value:.4g}` ({math.degrees(value):.4g}°)"
  return f"`{value!r}`"


def _values(kind: Kind | None) -> str:
  """The values that a parameter may take, in words."""
  if kind is None:
    return ""
  if kind.interval is not None:
    return str(kind.interval)
  return ", ".join(one.__name__ for one in kind.types if one is not type(None))


def _unit(loss: Loss, number: str) -> str:
  if number in loss.scaled:
    return _UNITS[loss.scaled[number]]
  interval = getattr(loss.kinds.get(number), "interval", None)
  return "radians" if getattr(interval, "radians", False) else ""


def _searched(search: Range | Grid | None) -> str:
  if search is None:
    return ""
  if isinstance(search, Grid):
    return ", ".join(f"{value:g}" for value in search.values)
  return f"{search.low:g} to {search.high:.4g}" + " (log)" * search.log


def _choices() -> str:
  text = [
    f"{_MADE}# Choices",
    "The names that each section of a config can choose, with their options."
    ' In Python, a choice with options is a pair: `metric=("lp", {"p": 3})`.'
    " On the command line, each option is a field:"
    " `--config.metric.name=lp --config.metric.p=3`.",
  ]
  for title, (section, kind) in _NAMED.items():
    choice, (entries, describe) = CHOICES[section], listing.KINDS[kind]
    lines = [
      [f"`{name}`", _plain(describe(entry)), _options(choice.options(name))]
      for name, entry in entries.items()
    ]
    text += [
      f"## {title}",
      f"`config.{section}.name`",
      as_markdown(["name", "", "options and defaults"], lines),
    ]
  for title, kind in (
    ("Normalizations", "normalizations"),
    ("Data sets", "data"),
    ("Sweeps", "sweeps"),
    ("Figures", "figures"),
  ):
    entries, describe = listing.KINDS[kind]
    lines = [[f"`{n}`", _plain(describe(e))] for n, e in entries.items()]
    text += [f"## {title}", as_markdown(["name", ""], lines)]
  return "\n\n".join([*text, *_scores()]) + "\n"


def _scores() -> Iterator[str]:
  """The table of scores, where `own` stands for `cosine` too."""
  yield "## Scores"
  yield (
    "Scores of `own` compare items under the trained metric. Each of them but"
    " the last three has a partner under `cosine`, such as `cosine/map_at_r`."
    " K and N are numbers, as in `own/recall_at_4`. The rates: FAR is the share"
    " of impostor pairs that are accepted, FRR that of genuine pairs that are"
    " rejected. Scores that are marked as slow are computed only if they are"
    " named. A score without a better direction cannot choose a checkpoint."
  )
  lines = [
    [
      f"`{name}`",
      _plain(score.about),
      score.better or "",
      "slow" * score.slow,
    ]
    for name, score in scores.SCORES.items()
    if score.family != "cosine"
  ]
  yield as_markdown(["name", "", "better", ""], lines)


def _plain(text: str) -> str:
  return text.replace("|", "∣").replace("*", "\\*")


def _options(options: Mapping[str, Any]) -> str:
  return ", ".join(
    f"`{name}`" if value is REQUIRED else f"`{name}={value!r}`"
    for name, value in options.items()
  )


def _configuration() -> str:
  text = [
    f"{_MADE}# Configuration",
    "Every field of a config, with its default. Each field is a flag of the"
    " commands: `--config.train.steps=300`. Some sections name a choice"
    " (`loss`, `metric`, `miner`, `reduction`, `relation`, `regularizer`,"
    " `model`, `optimizer`, `optimizer.schedule`). The options of the choice"
    " are fields beside the name: [the losses](losses.md) and"
    " [choices](choices.md) list them.",
  ]
  for section, section_fields in fields.FIELDS.items():
    lines = [
      [f"`{name}`", f"`{field.default!r}`", _plain(field.about)]
      for name, field in section_fields.items()
    ]
    title = f"`config.{section}`" if section else "`config`"
    text += [f"## {title}", as_markdown(["field", "default", ""], lines)]
  return "\n\n".join(text) + "\n"


def _commands() -> str:
  texts = commands.docstrings()
  table = [
    [f"[`{name}`](#{_anchor(name)})", _plain(text.split("\n")[0])]
    for name, text in texts.items()
  ]
  text = [
    f"{_MADE}# Commands",
    "`python -m experiments.COMMAND --help` lists the flags of a command, and"
    " `python -m experiments` all commands. A misspelt command, flag or field"
    " is answered with the nearest one.",
    as_markdown(["command", ""], table),
  ]
  for name, docstring in texts.items():
    text += [f"## `{name}`", *_paragraphs(docstring)]
  return "\n\n".join(text) + "\n"


def _anchor(command: str) -> str:
  return command.replace(".", "")


def _paragraphs(docstring: str) -> Iterator[str]:
  """The paragraphs of a docstring; commands and columns as blocks of code."""
  for paragraph in docstring.split("\n\n"):
    if re.match(r"(python|pip) ", paragraph):
      # A backslash at the end of a line joins it with the next one.
      yield "```\n" + re.sub(r" {2,}(?=-)", " \\\n  ", paragraph) + "\n```"
    elif "   " in paragraph:
      yield f"```\n{paragraph}\n```"
    else:
      yield _plain(paragraph)


def main() -> None:
  """Writes the pages and the pictures."""
  for name, text in pages().items():
    run_files.write_atomically(
      DOCS / name, lambda file, text=text: file.write(text.encode())
    )
    print(f"Wrote docs/{name}")
  loss_pictures.write(DOCS / "loss_pictures")
  print("Wrote docs/loss_pictures/")


if __name__ == "__main__":
  main()
