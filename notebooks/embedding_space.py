# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#       jupytext_version: 1.19.6
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # The embedding spaces of a study
#
# Which classes do its runs keep apart, which do they mix up, and do L1 and L2
# make other neighbors? This notebook looks at a finished study and trains
# nothing. It shows validation classes: test classes are for the table, and what
# one has looked at, one has chosen.
#
# The environment variable `STUDY` names the folder of the study; without it
# that of `make compare` is taken.
#
# It is paired: `embedding_space.ipynb` and `embedding_space.py` say the same,
# and after a change to one, `jupytext --sync notebooks/embedding_space.py`
# changes the other. The outputs that are kept are those of `make compare`
# at commit 8877b9f345be.

# %%
# %matplotlib inline
# %xmode Minimal
import os
from pathlib import Path

import numpy as np

from metric_learning import InputError, data, evaluation, figures
from metric_learning.study import read_study
from metric_learning.training.config import from_dict

# %% [markdown]
# ## The study
#
# Its cells, each with the number that validation chose, the mean score over
# seeds, and half of its 95 % interval.

# %%
if Path.cwd().name == "notebooks":  # paths are relative to the repository
  os.chdir("..")
folder = Path(os.environ.get("STUDY", "runs/glyphs_compare"))
if not folder.exists():
  raise InputError(f"{folder} is not there: run make compare, or set STUDY.")
study = read_study(folder)
for cell in study.cells:
  score = cell.chosen.validation
  words = [*cell.name.values(), *cell.chosen.tuned.values()]
  print(*words, f"{score.mean:.3f} ± {score.half_width:.3f}", sep=", ")

# %% [markdown]
# ## The maps
#
# Of the first seed of each cell. Two dimensions are drawn as they are, more of
# them by t-SNE of the distances that the run compares: near is near, but
# distances in t-SNE are not the metric, and far says little.

# %%
spaces = figures.spaces_of(study, "validation")
figures.embedding_maps(spaces, "validation")

# %% [markdown]
# ## Distances
#
# Where the two histograms overlap, a threshold errs. The dashed line is the
# threshold that decides most validation pairs rightly; different pairs are
# many more than same ones, so it lies where hardly any of them is accepted.

# %%
figures.distance_histograms(spaces, "validation")

# %%
figures.roc_curves(spaces, "validation")

# %% [markdown]
# ## L1 against L2
#
# What each margin and temperature gave under either metric, in units of the
# mean distance at initialization.

# %%
figures.tuning_curves(study)

# %% [markdown]
# Two spaces of one loss, one of each metric: how many of the ten neighbors of
# an image are the same images in both?

# %%
one = spaces[0]
other = next(s for s in spaces if s.loss == one.loss and s.metric != one.metric)
found = [
  evaluation.neighbors(
    space.embeddings,
    space.embeddings,
    10,
    metric=space.metric,
    exclude_self=True,
  )[0]
  for space in (one, other)
]
shared = [len(np.intersect1d(*pair)) for pair in zip(*found, strict=True)]
print(f"{one.title} and {other.title}: {np.mean(shared):.2f} of 10 neighbors")

# %% [markdown]
# ## Neighbors
#
# The same images in both, and those that lie nearest to them.

# %%
config = from_dict(study.config)
images = data.load(config.data).validation.inputs
queries = np.linspace(0, len(one.labels) - 1, 4).astype(int)
figures.neighbor_strip(one, images, queries)

# %%
figures.neighbor_strip(other, images, queries)

# %% [markdown]
# ## The hardest classes
#
# A row is a class whose images have the fewest nearest neighbors of their own
# class; its numbers say whose they are instead.

# %%
figures.confusion(one)
