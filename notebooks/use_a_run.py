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
# # Use a run
#
# What can be done with a finished run and a folder of photographs: search,
# same or different, who is it. The same as commands: `docs/use_a_run.md`.
#
# The environment variable `RUN` names the folder of a run, or of a study, whose
# best run is taken; without it that is `runs/one`, of `python -m
# experiments.train --config=configs/glyphs.py --workdir=runs/one`. `PHOTOS`
# names a folder of class folders with images; without it these are the letters
# of `bring_your_own_images`.
#
# It is paired: `use_a_run.ipynb` and `use_a_run.py` say the same, and after a
# change to one, `jupytext --sync notebooks/use_a_run.py` changes the other.
# The outputs that are kept are those of these two.

# %%
# %matplotlib inline
# %xmode Minimal
import os
from pathlib import Path

import numpy as np

from metric_learning import figures, inference
from metric_learning.data import imaging

# %% [markdown]
# ## The run, and the photographs
#
# Embedded, each is a point; a learned metric is in the points.

# %%
if Path.cwd().name == "notebooks":  # paths are relative to the repository
  os.chdir("..")
run = inference.load(os.environ.get("RUN", "runs/one"))
photos = inference.embed_input(run, os.environ.get("PHOTOS", "runs/letters"))
print(run.folder, run.input_spec, run.metric, photos.points.shape)

# %% [markdown]
# ## Search
#
# The nearest others of each photograph, and how far they are. How often does
# the nearest one have the same label?

# %%
index = run.index(photos.points, photos.labels)
hits = index.search(photos.points, k=3, exclude_self=True)
labels = np.array(photos.labels)
np.mean(hits.labels[:, 0] == labels)

# %% [markdown]
# The same as a picture. (`python -m experiments.search --page=hits.html` writes
# a page.)

# %%
names, numbers = np.unique(labels, return_inverse=True)
space = figures.Space(
  "photographs", photos.points, numbers, run.metric, names.tolist()
)
size = run.input_spec.shape[:2]
images = imaging.read_images([Path(name) for name in photos.names], size)
queries = np.linspace(0, len(numbers) - 1, 4).astype(int)
figures.neighbor_strip(space, images, queries)

# %% [markdown]
# ## Same or different
#
# At a threshold that accepts at most a fifth of the impostor pairs of the run's
# validation classes. It says what to expect, and from how many pairs it is.

# %%
verdict = run.verify(photos.points[:-1], photos.points[1:], far=0.2)
print(verdict.threshold)
print(verdict.same)
