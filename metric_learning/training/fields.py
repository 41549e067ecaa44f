"""The fields of a config: their defaults, and what each means.

Fields of what has a name and options (`sections.CHOICES`) stand at that thing:
they are the keywords of the loss, the network, the metric, …
"""

import textwrap
from typing import Any, NamedTuple


class Field(NamedTuple):
  """The default of a field, and what it means."""

  default: Any
  about: str


_DATA = {
  "name": Field("glyphs", "A key of data.DATASETS, or tfds:NAME."),
  "data_dir": Field("", "The file or folder that holds the set."),
  "split": Field("random", "How it is cut into parts."),
  "split_seed": Field(0, "Draws who is in which part."),
  "fold": Field(0, "Of a split that has several."),
  "validation_folds": Field(
    1,
    "2 or more: training and validation classes are put together, and one of so"
    " many folds of them validates, in place of the split's own part.",
  ),
  "validation_fold": Field(0, "Which one."),
  "validation_draw": Field(
    0, "Which draw of the folds: with another number, others, by split_seed."
  ),
  "train_on": Field(
    "train",
    "train; or train+validation, which leaves nothing to choose by: the last"
    " checkpoint is the selected one.",
  ),
  "image_size": Field((), "(height, width), or () for the native size."),
  "short_side": Field(
    None,
    "Of image files: the short side becomes this, and image_size is cut from"
    " the middle. None stretches the whole image.",
  ),
  "random_crop": Field(
    0.0,
    "Above 0 a random part of each file trains, resized to image_size: the"
    " largest share of its area that is cut away. It needs stream.",
  ),
  "background": Field(255, "The gray level that transparent pixels show."),
  "standardize": Field(
    False,
    "Whether features get mean 0 and deviation 1, by the training part alone.",
  ),
  "label_column": Field("label", "Of the set table: where its labels stand."),
  "drop_columns": Field((), "Of the set table: columns that are no features."),
  "protocol": Field(
    "open-set",
    "open-set: test classes are unseen in training; closed-set: they are not.",
  ),
  "small_classes": Field(
    "refuse",
    "Of classes with fewer items than batch.images_per_class: refuse; repeat,"
    " they fill their places more than once; drop, they are in no batch. The"
    " last two also load classes of one item, which no other answers.",
  ),
  "stream": Field(
    False,
    "Items stay on the host, or on disk where they are files, and are read"
    " ahead of the steps: for sets that do not fit on the device.",
  ),
}

_BATCH = {
  "sampler": Field(
    "classes",
    "Who is in a batch of classes_per_batch × images_per_class: classes;"
    " hierarchical, of superclasses_per_batch super-classes; uniform; pairs,"
    " those of the data, or num_pairs drawn once; triplets, of num_triplets"
    " drawn once.",
  ),
  "classes_per_batch": Field(32, "P."),
  "images_per_class": Field(4, "K."),
  "superclasses_per_batch": Field(2, "Of the sampler hierarchical."),
  "num_triplets": Field(10_000, "Of the sampler triplets."),
  "num_pairs": Field(10_000, "Of the sampler pairs."),
  "views": Field(
    1,
    "How often each image is in the batch, each time augmented anew; with 2 or"
    " more an image is its own class, and labels are not used.",
  ),
}

_AUGMENT = {
  "flip": Field(False, "Left and right, with probability ½."),
  "shift": Field(0.0, "Largest, in sides of the image."),
  "rotate": Field(0.0, "Largest, in radians."),
  "scale": Field(0.0, "Largest change of the logarithm of the size."),
  "shear": Field(0.0, "Largest, in pixels for each pixel."),
  "stretch": Field(0.0, "Largest change of a factor from 1, along each axis."),
  "skip": Field(0.0, "The probability that one of these is left out."),
  "crop": Field(0.0, "Largest share of the area that is cut away."),
  "brightness": Field(0.0, "Largest change of a factor from 1."),
  "contrast": Field(0.0, "Largest change of a factor from 1."),
  "saturation": Field(0.0, "Largest change of a factor from 1."),
}

_GROUP = {
  "factor": Field(1.0, "On the learning rate; it can be tuned."),
  "weight_decay": Field(0.0, "Decoupled, as in AdamW."),
  "freeze": Field(False, "Whether it stays as it is."),
}

_TRUNK = {
  **_GROUP,
  "last_layers": Field(
    None,
    "How many layers before the head are trained; None: all. Those before them"
    " stay as they are, but for statistics of batches: model.frozen_norm.",
  ),
  "layer_decay": Field(
    1.0,
    "The rate of a layer is times layer_decay^k, k layers before the last.",
  ),
}

_OPTIMIZER = {
  "learning_rate": Field(3e-3, "At the end of the warm-up."),
  "decay": Field("kernels", "What weight decay acts on: kernels, or all."),
  "clip": Field(
    None, "The largest norm of the gradient of all together; None: any."
  ),
  "ema": Field(
    0.0,
    "Above 0 the weights after each step are averaged, the last with 1, those"
    " before with ema, ema², …; the mean is scored beside the weights.",
  ),
}
_SCHEDULE = {
  "warmup": Field(0.05, "The share of the steps over which the rate rises."),
}

_MEMORY = {
  "size": Field(0, "Embeddings of earlier batches as candidates; 0: none."),
  "enqueue_first": Field(True, "Whether a batch meets copies of itself."),
  "warmup": Field(0, "Steps in which the batch alone is compared."),
}

_TRAIN = {
  "steps": Field(400, "In all."),
  "chunks": Field(
    1,
    "Parts of a batch that pass through the network one after another, while"
    " the loss still sees the whole batch: the same gradient with the"
    " activations of one part in memory, at the cost of a second forward pass.",
  ),
  "log_every": Field(20, "Steps."),
  "eval_every": Field(200, "Steps between scores of the validation classes."),
  "save_every": Field(200, "Steps; a multiple of eval_every."),
  "not_finite": Field(
    "stop",
    "What a loss or gradient does that is not finite: stop ends the run; skip"
    " leaves the state as it was, and the result says how many steps it was.",
  ),
}

_MESH = {
  "batch": Field(
    1,
    "Devices that share each batch, of which each embeds and compares its own"
    " items. No part of what a run is: it goes on with another number.",
  ),
}

_EVAL = {
  "select": Field(
    "own/map_at_r", "Chooses checkpoints and numbers, on validation classes."
  ),
  "averaged": Field(
    False,
    "Whether the mean of the weights (optimizer.ema) chooses, is embedded and"
    " is tested; the other is scored beside it, in metrics.jsonl.",
  ),
  "columns": Field(
    (
      "own/recall_at_1",
      "own/map_at_r",
      "cosine/recall_at_1",
      "cosine/map_at_r",
    ),
    "The scores in tables, by the names of evaluation.evaluate; slow ones are"
    " computed for tables only.",
  ),
}

_IDENTIFICATION = {
  "unknown": Field(
    0.5, "The share of the test classes that are not in the gallery."
  ),
  "gallery": Field(1, "Images of each known class that are; others probe."),
  "draws": Field(20, "How often known classes and their gallery are drawn."),
}

_STUDY = {
  "reference": Field(
    {},
    "A section of fields of a run, such as study.reference.metric.name=l2. Each"
    " cell is compared with the cell that has these values and is otherwise the"
    " same; empty: with the first of the sweep. A number that is named here"
    " makes a cell, and is not chosen on validation.",
  ),
  "choose": Field(
    True,
    "Whether a cell's numbers are chosen on validation. False: each value makes"
    " a cell; cells are compared at equal numbers, and their difference is a"
    " curve along the number of the loss.",
  ),
  "columns": Field(
    ("own/map_at_r",),
    "The scores that are compared; all comparisons are one family.",
  ),
  "delta": Field(0.01, "A difference that does not matter, in their units."),
}

_TUNE = {
  "searches": Field(
    10,
    "Independent searches of each cell. A search draws its own trials, training"
    " seeds and validation folds, chooses, and gives final runs; what is"
    " compared is the mean of these.",
  ),
  "trials": Field(12, "Settings that each search tries."),
  "sampler": Field("tpe", "tpe, random or grid."),
  "searched": Field(
    1,
    "How many numbers of the loss, the most important first, beside the rate."
    " With 1 the search is as wide for all; many have no second.",
  ),
  "ranges": Field(
    {},
    "A section: ranges instead of those that the losses declare. margin=(0.0,"
    " 2.0, False) is from 0 to 2, with True even in the logarithm;"
    " num_bins=(5, 10, 20) is a grid; learning_rate is of all losses, and"
    " triplet.margin is of one. optimizer.head.factor, or that of trunk or"
    " loss, is searched only if it is here.",
  ),
  "folds": Field(
    2,
    "Validation folds over which a trial's score is averaged; 1 takes the"
    " split's own validation part.",
  ),
  "prune": Field(
    False,
    "Stop a trial whose mean after a fold is worse than the median of the"
    " others there; it counts as one of the trials.",
  ),
  "finalists": Field(
    3,
    "The best trials of a search run again, on other folds with other seeds,"
    " and the best mean over both stages is chosen; 0 chooses at once.",
  ),
  "repeats": Field(2, "How many times more finalists run on all folds."),
  "final_seeds": Field(2, "Runs with what a search chose, with fresh seeds."),
  "final_on": Field("train", "Their data.train_on."),
}

# By section; what is of the top stands under "".
FIELDS: dict[str, dict[str, Field]] = {
  "": {
    "seed": Field(0, "Initialization, batches and augmentation."),
    "margin_unit": Field(
      "absolute",
      "absolute; or initial_mean: numbers that are distances are multiplied by"
      " the mean distance at initialization, and those that multiply a distance"
      " are divided by it: of the loss, of each of `also` under its own metric,"
      " and of their miners.",
    ),
    "imports": Field(
      (),
      "Modules that are imported first: what they enter into registries, such"
      " as a score, can be named. A thing of a section is also named as"
      " MODULE:ATTRIBUTE, such as loss.name=my_module:my_loss.",
    ),
    "normalize": Field(None, "Of embeddings; None takes the loss's own."),
    "block_size": Field(
      "auto",
      "Rows of the distance matrix that exist at a time: auto, None for all, or"
      " a whole number (memory linear in the batch, same value).",
    ),
  },
  "data": _DATA,
  "batch": _BATCH,
  "augment": _AUGMENT,
  "model": {
    "embedding_dim": Field(64, "The length of an embedding."),
    "dtype": Field(
      "float32",
      "What the network computes in: float32 or bfloat16. Parameters,"
      " embeddings and losses are float32 with both.",
    ),
    "weights": Field(
      None,
      "A file of pretrained weights (.safetensors, .npz, or .pth, which is read"
      " without torch), or package:NAME for the file in an installed package;"
      " all but the head begins from it. None draws it.",
    ),
  },
  "regularizer": {"weight": Field(1.0, "Of the regularizer, if one is named.")},
  "memory": _MEMORY,
  "optimizer": _OPTIMIZER,
  "optimizer.schedule": _SCHEDULE,
  "optimizer.trunk": _TRUNK,
  "optimizer.head": _GROUP,
  "optimizer.loss": _GROUP,
  "train": _TRAIN,
  "mesh": _MESH,
  "eval": _EVAL,
  "eval.identification": _IDENTIFICATION,
  "study": _STUDY,
  "tune": _TUNE,
}

# Where a field is that has moved: by its old spelling, what it says now.
MOVED: dict[str, str] = {
  **{f"data.{name}": f"batch.{name}" for name in _BATCH},
  **{f"data.{name}": f"augment.{name}" for name in _AUGMENT},
  "optimizer.warmup": "optimizer.schedule.warmup",
  "optimizer.weight_decay": "optimizer.trunk.weight_decay, of each group",
  "optimizer.loss_factor": "optimizer.loss.factor",
}


def described() -> str:
  """All fields, their defaults and what they mean.

  >>> described().splitlines()[:2]
  ['seed = 0', '  Initialization, batches and augmentation.']
  """
  lines = []
  for section, fields in FIELDS.items():
    for name, field in fields.items():
      lines.append(f"{section}.{name} = {field.default!r}".lstrip("."))
      lines += textwrap.wrap(
        field.about, initial_indent="  ", subsequent_indent="  "
      )
  return "\n".join(lines)
