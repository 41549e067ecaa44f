"""The fields of a config: their defaults and meanings.

The options of losses, networks, metrics and other named things
(`sections.CHOICES`) are not listed here: they are the keyword arguments of the
named function.
"""

import textwrap
from typing import Any, NamedTuple


class Field(NamedTuple):
  """The default of a field, and its meaning."""

  default: Any
  about: str


_DATA = {
  "name": Field("glyphs", "A key of data.DATASETS, or tfds:NAME."),
  "data_dir": Field("", "The file or folder that holds the set."),
  "split": Field(
    "random", "How the set is cut into parts: a split of the data set."
  ),
  "split_seed": Field(
    0, "The seed of the random assignment of classes to parts."
  ),
  "fold": Field(0, "The fold that is tested, for a split that has several."),
  "validation_folds": Field(
    1,
    "2 or more: training and validation classes are pooled and divided into "
    "this many folds, one of which is the validation part.",
  ),
  "validation_fold": Field(0, "The number of that fold, from 0."),
  "validation_draw": Field(
    0, "Which random division into folds is used; split_seed is its seed."
  ),
  "train_on": Field(
    "train",
    "train, or train+validation. The latter leaves no classes to choose a "
    "checkpoint by, so that the last one is selected.",
  ),
  "image_size": Field((), "(height, width), or () for the native size."),
  "short_side": Field(
    None,
    "For image files: the short side is resized to this, and image_size is cut "
    "from the middle. None stretches the whole image to image_size.",
  ),
  "random_crop": Field(
    0.0,
    "The largest share of an image's area that is cut away at random in "
    "training; the rest is resized to image_size. It needs stream.",
  ),
  "background": Field(255, "The gray level that transparent pixels show."),
  "standardize": Field(
    False,
    "Whether features are scaled to mean 0 and deviation 1, as measured on the "
    "training part.",
  ),
  "label_column": Field(
    "label", "For the data set `table`: the column of the labels."
  ),
  "drop_columns": Field(
    (), "For the data set `table`: columns that are not features."
  ),
  "protocol": Field(
    "open-set",
    "open-set: test classes are not seen in training; closed-set: they are.",
  ),
  "small_classes": Field(
    "refuse",
    "What to do with classes that have fewer items than "
    "batch.images_per_class. refuse: an error; repeat: items repeat in a "
    "batch; drop: the class is in no batch. repeat and drop also admit classes "
    "of a single item.",
  ),
  "stream": Field(
    False,
    "Whether items stay on the host (files on disk) and are read ahead of the "
    "steps: for sets that do not fit on the device.",
  ),
}

_BATCH = {
  "sampler": Field(
    "classes",
    "How a batch of classes_per_batch × images_per_class items is drawn. "
    "classes: by class; hierarchical: classes of superclasses_per_batch "
    "super-classes; uniform: any items; pairs: the pairs of the data, or "
    "num_pairs drawn once; triplets: num_triplets drawn once.",
  ),
  "classes_per_batch": Field(32, "P, the number of classes in a batch."),
  "images_per_class": Field(4, "K, the number of items of each class."),
  "superclasses_per_batch": Field(
    2, "The number of super-classes in a batch of the sampler `hierarchical`."
  ),
  "num_triplets": Field(
    10_000, "The number of triplets that the sampler `triplets` draws."
  ),
  "num_pairs": Field(
    10_000,
    "The number of pairs that the sampler `pairs` draws, if the data has none.",
  ),
  "views": Field(
    1,
    "How many times each image is in the batch, each time with a new "
    "augmentation. With 2 or more, each image is its own class and labels are "
    "not used.",
  ),
}

_AUGMENT = {
  "flip": Field(
    False, "Whether images are mirrored left to right with probability ½."
  ),
  "shift": Field(0.0, "The largest shift, as a share of the image's side."),
  "rotate": Field(0.0, "The largest rotation, in radians."),
  "scale": Field(0.0, "The largest change of the logarithm of the scale."),
  "shear": Field(0.0, "The largest shear, in pixels per pixel."),
  "stretch": Field(
    0.0, "The largest deviation from 1 of the stretch along each axis."
  ),
  "skip": Field(
    0.0, "The probability that a change is skipped, for each of the above."
  ),
  "crop": Field(0.0, "The largest share of the image's area that is cut away."),
  "brightness": Field(
    0.0, "The largest deviation from 1 of the factor on all pixels."
  ),
  "contrast": Field(
    0.0, "The largest deviation from 1 of the factor on contrasts."
  ),
  "saturation": Field(
    0.0, "The largest deviation from 1 of the factor on saturation."
  ),
}

_GROUP = {
  "factor": Field(1.0, "A factor on the learning rate; it can be tuned."),
  "weight_decay": Field(0.0, "The weight decay, decoupled as in AdamW."),
  "freeze": Field(False, "Whether these parameters are not trained."),
}

_TRUNK = {
  **_GROUP,
  "last_layers": Field(
    None,
    "How many layers before the head are trained; None: all. Earlier layers do"
    " not change, except running statistics: see model.frozen_norm.",
  ),
  "layer_decay": Field(
    1.0,
    "Multiplies the learning rate by layer_decay^k in the layer that is k "
    "layers before the last.",
  ),
}

_OPTIMIZER = {
  "learning_rate": Field(3e-3, "The learning rate at the end of the warm-up."),
  "decay": Field(
    "kernels", "What weight decay acts on: kernels, or all parameters."
  ),
  "clip": Field(
    None,
    "Gradients with a larger norm (over all parameters) are scaled down "
    "to this. None: never.",
  ),
  "ema": Field(
    0.0,
    "Above 0, a running mean of the weights is kept: the newest weights count "
    "1, those one step older ema, two steps older ema², and so on. The mean is "
    "scored beside the weights.",
  ),
}
_SCHEDULE = {
  "warmup": Field(
    0.05, "The share of the steps over which the learning rate rises from 0."
  ),
}

_MEMORY = {
  "size": Field(
    0, "How many embeddings of earlier batches are kept as candidates; 0: none."
  ),
  "enqueue_first": Field(
    True,
    "Whether a batch is written into the memory before it is compared. If so, "
    "it is also compared with its copies, but no item with its own copy.",
  ),
  "warmup": Field(0, "The number of steps before the memory is used."),
}

_TRAIN = {
  "steps": Field(400, "The number of steps of training."),
  "chunks": Field(
    1,
    "The number of parts in which a batch passes through the network. The loss "
    "still sees the whole batch: the gradient is the same, and only the "
    "activations of one part are in memory, at the cost of a second forward "
    "pass.",
  ),
  "log_every": Field(20, "The number of steps between lines of the log."),
  "eval_every": Field(
    200, "The number of steps between scores of the validation classes."
  ),
  "save_every": Field(
    200, "The number of steps between checkpoints: a multiple of eval_every."
  ),
  "not_finite": Field(
    "stop",
    "What happens at a loss or gradient that is not finite. stop: the run "
    "ends; skip: the step is skipped, and the result counts such steps.",
  ),
}

_MESH = {
  "batch": Field(
    1,
    "The number of devices that share each batch; each embeds and compares its "
    "own items. A run can be resumed with another number.",
  ),
}

_EVAL = {
  "select": Field(
    "own/map_at_r",
    "The score on validation classes that chooses checkpoints "
    "and hyperparameters.",
  ),
  "averaged": Field(
    False,
    "Whether the running mean of the weights (optimizer.ema) is selected, "
    "embedded and tested. The weights themselves are then scored beside it in "
    "metrics.jsonl.",
  ),
  "columns": Field(
    (
      "own/recall_at_1",
      "own/map_at_r",
      "cosine/recall_at_1",
      "cosine/map_at_r",
    ),
    "The scores shown in tables, named as in evaluation.evaluate; slow scores "
    "are computed for tables only.",
  ),
}

_IDENTIFICATION = {
  "unknown": Field(
    0.5, "The share of the test classes that are unknown: not in the gallery."
  ),
  "gallery": Field(
    1,
    "The number of gallery images of each known class; other images are "
    "queries.",
  ),
  "draws": Field(
    20, "How many times the known classes and their gallery are drawn."
  ),
}

_STUDY = {
  "reference": Field(
    {},
    "A section of fields of a run, such as study.reference.metric.name=l2. "
    "Each cell is compared with the cell that has these values and is "
    "otherwise identical; if the section is empty, with the first cell of the "
    "sweep. A number named here makes its own cell and is not chosen on "
    "validation.",
  ),
  "choose": Field(
    True,
    "Whether the hyperparameters of a cell are chosen on validation. False: "
    "each value makes a cell; cells are compared at equal values, and their "
    "difference is drawn as a curve along the hyperparameter of the loss.",
  ),
  "columns": Field(
    ("own/map_at_r",),
    "The scores that are compared; the correction for multiple comparisons "
    "covers all of them together.",
  ),
  "delta": Field(
    0.01, "δ: the largest difference that does not matter, in units of scores."
  ),
}

_TUNE = {
  "searches": Field(
    10,
    "The number of independent searches of each cell. A search draws its own "
    "trials, training seeds and validation folds, chooses the best trial, and "
    "makes final runs with it; the mean of the final runs is compared.",
  ),
  "trials": Field(12, "The number of settings that each search tries."),
  "sampler": Field("tpe", "How settings are drawn: tpe, random or grid."),
  "searched": Field(
    1,
    "How many hyperparameters of the loss are searched beside the learning "
    "rate, the most important first. With 1 the search is equally wide for all "
    "losses; many losses have no second one.",
  ),
  "ranges": Field(
    {},
    "A section: ranges that replace those that the losses declare. "
    "margin=(0.0, 2.0, False) is uniform from 0 to 2, and with True uniform in "
    "the logarithm; num_bins=(5, 10, 20) is a grid; learning_rate holds for "
    "all losses, and triplet.margin for one. optimizer.head.factor, or that of "
    "trunk or loss, is searched only if it is given here.",
  ),
  "folds": Field(
    2,
    "The number of validation folds over which the score of a trial is "
    "averaged; 1 uses the validation part of the split.",
  ),
  "prune": Field(
    False,
    "Whether to stop a trial whose mean score after a fold is worse than the "
    "median of the other trials at that fold; it still counts as a trial.",
  ),
  "finalists": Field(
    3,
    "The number of best trials of a search that run again, on other folds with "
    "other seeds; the best mean over both stages is chosen. 0: no second "
    "stage.",
  ),
  "repeats": Field(2, "How many times the finalists run again on all folds."),
  "final_seeds": Field(
    2, "The number of final runs of a search: its best trial, with fresh seeds."
  ),
  "final_on": Field("train", "The data.train_on of the final runs."),
}

# By section; the fields of the top level are under "".
FIELDS: dict[str, dict[str, Field]] = {
  "": {
    "seed": Field(0, "The seed of initialization, batches and augmentation."),
    "margin_unit": Field(
      "absolute",
      "absolute or initial_mean. With initial_mean, numbers that are distances "
      "are multiplied by the mean distance at initialization, and numbers that "
      "multiply a distance are divided by it. This holds for the loss, for "
      "each loss of `also` (with the mean under its own metric), and for their "
      "miners.",
    ),
    "imports": Field(
      (),
      "Modules to import first. A config can then name the losses, scores and "
      "other things that they register. It can also name a thing as "
      "MODULE:ATTRIBUTE, such as loss.name=my_module:my_loss.",
    ),
    "normalize": Field(
      None, "The normalization of embeddings; None takes that of the loss."
    ),
    "block_size": Field(
      "auto",
      "How many rows of the distance matrix exist at a time: auto, None for "
      "all, or a whole number. In blocks, memory is linear in the batch size "
      "and the value is the same.",
    ),
  },
  "data": _DATA,
  "batch": _BATCH,
  "augment": _AUGMENT,
  "model": {
    "embedding_dim": Field(64, "The length of an embedding."),
    "dtype": Field(
      "float32",
      "The type that the network computes in: float32 or bfloat16. Parameters, "
      "embeddings and losses are float32 in both cases.",
    ),
    "weights": Field(
      None,
      "A file of pretrained weights (.safetensors, .npz, or .pth, which is "
      "read without torch), or package:NAME for the file in an installed "
      "package. Everything but the head starts from it. None: random "
      "initialization.",
    ),
  },
  "regularizer": {
    "weight": Field(1.0, "The weight of the regularizer, if there is one.")
  },
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

# Fields that have moved: the old name, and what replaces it.
MOVED: dict[str, str] = {
  **{f"data.{name}": f"batch.{name}" for name in _BATCH},
  **{f"data.{name}": f"augment.{name}" for name in _AUGMENT},
  "optimizer.warmup": "optimizer.schedule.warmup",
  "optimizer.weight_decay": "optimizer.trunk.weight_decay, of each group",
  "optimizer.loss_factor": "optimizer.loss.factor",
}


def described() -> str:
  """All fields with their defaults and meanings, as text.

  >>> described().splitlines()[:2]
  ['seed = 0', '  The seed of initialization, batches and augmentation.']
  """
  lines = []
  for section, fields in FIELDS.items():
    for name, field in fields.items():
      lines.append(f"{section}.{name} = {field.default!r}".lstrip("."))
      lines += textwrap.wrap(
        field.about, initial_indent="  ", subsequent_indent="  "
      )
  return "\n".join(lines)
