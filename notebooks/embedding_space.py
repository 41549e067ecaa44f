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
# # The embedding space of one run
#
# Which classes did a run keep apart, and which does it mix up? This notebook
# looks at a finished run and trains nothing. It shows validation classes:
# test classes are for the table, and what one has looked at, one has chosen.
#
# The environment variable `RUN` names the folder of the run; without it the
# first finished one in `runs/` is taken.
#
# It is paired: `embedding_space.ipynb` and `embedding_space.py` say the same,
# and after a change to one, `jupytext --sync notebooks/embedding_space.py`
# changes the other. Outputs are not kept in git.

# %%
# %matplotlib inline
# %xmode Minimal
import os
from pathlib import Path

import numpy as np

from metric_learning import data, figures
from metric_learning.training import run_files
from metric_learning.training.config import from_dict

# %% [markdown]
# ## The run

# %%
if Path.cwd().name == "notebooks":  # paths are relative to the repository
  os.chdir("..")
folder = Path(os.environ.get("RUN") or figures.finished_runs("runs")[0])
space = figures.read_space(folder, "validation")
fields = run_files.read_json(folder / run_files.CONFIG)
result = run_files.read_json(folder / run_files.RESULT)
print(folder)

# %% [markdown]
# Its config, each field by the name that overrides it on the command line, and
# the numbers of the loss in absolute units.

# %%
run_files.flatten(fields)

# %%
result["numbers"]

# %% [markdown]
# Its scores on validation classes, at the checkpoint that they selected.

# %%
{
  name: result["validation_selected"][name]
  for name in fields["eval"]["columns"]
}

# %% [markdown]
# ## The map
#
# Two dimensions are drawn as they are, more of them by t-SNE of the distances
# that the run compares: near is near, but far says little.

# %%
config = from_dict(fields)
splits = data.load(config.data)
figures.embedding_maps([space], "validation")

# %% [markdown]
# ## Distances
#
# Where the two histograms overlap, a threshold errs. The dashed line is the
# threshold that decides most validation pairs rightly; different pairs are
# many more than same ones, so it lies where hardly any of them is accepted.

# %%
figures.distance_histograms([space], "validation")

# %%
figures.roc_curves([space], "validation")

# %% [markdown]
# ## Neighbors
#
# A few images, and those that lie nearest to them.

# %%
queries = np.linspace(0, len(space.labels) - 1, 6).astype(int)
figures.neighbor_strip(space, splits.validation.inputs, queries)

# %% [markdown]
# ## The hardest classes
#
# A row is a class whose images have the fewest nearest neighbors of their own
# class; its numbers say whose they are instead.

# %%
figures.confusion(space)
