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
# Which classes do the runs of a study keep apart, which do they mix up, and do
# L1 and L2 give different neighbors? This notebook looks at a finished study
# and trains nothing. It shows validation classes. Test classes are only for the
# table: if you look at them, they influence your choices.
#
# The environment variable `STUDY` names the folder of the study. Without it,
# the notebook uses the study of `make compare`.
#
# The notebook is paired: `embedding_space.ipynb` and `embedding_space.py` hold
# the same cells. After a change to one of them,
# `jupytext --sync notebooks/embedding_space.py` updates the other. The stored
# outputs are those of `make compare` at commit 8877b9f345be.

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
# Each line is a cell of the study, with the margin or temperature that
# validation chose, the mean score over seeds, and half the width of its 95 %
# interval.

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
# Each map shows the first seed of a cell. Embeddings of two dimensions are
# drawn as they are; others are drawn by t-SNE of the distances under the metric
# of the run. Points that are close on the map are usually close under the
# metric, but large distances on the map mean little.

# %%
spaces = figures.spaces_of(study, "validation")
figures.embedding_maps(spaces, "validation")

# %% [markdown]
# ## Distances
#
# Where the two histograms overlap, any threshold makes errors. The dashed line
# is the threshold that decides the most validation pairs correctly. There are
# many more different pairs than same pairs, so at this threshold hardly any
# different pair is accepted.

# %%
figures.distance_histograms(spaces, "validation")

# %%
figures.roc_curves(spaces, "validation")

# %% [markdown]
# ## L1 against L2
#
# The curves show the score of each margin and temperature under both metrics,
# in units of the mean distance at initialization.

# %%
figures.tuning_curves(study)

# %% [markdown]
# Take two embedding spaces of one loss, one for each metric. How many of the
# ten nearest neighbors of an image are the same in both?

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
# The same query images in both spaces, each with its nearest neighbors.

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
# Each row is a class whose images rarely have a nearest neighbor of their own
# class. The numbers in the row show to which classes the nearest neighbors
# belong.

# %%
figures.confusion(one)
