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
# This notebook shows what you can do with a finished run and a folder of
# photographs: search, and decide whether two photographs show the same class.
# `docs/use_a_run.md` does the same with commands, and also identifies.
#
# The environment variable `RUN` names the folder of a run, or of a study, whose
# best run is used. By default it is `runs/one`, which
# `python -m experiments.train --config=configs/glyphs.py --workdir=runs/one`
# makes. `PHOTOS` names a folder that holds a folder of images for each class.
# By default it is the folder of letters that `bring_your_own_images` writes.
#
# The notebook is paired: `use_a_run.ipynb` and `use_a_run.py` hold the same
# cells. After a change to one of them, `jupytext --sync notebooks/use_a_run.py`
# updates the other. The stored outputs are those of the default folders.

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
# Each photograph is embedded as a point. If the run learned a metric, the
# points already include it, so plain distances between points are those of the
# learned metric.

# %%
if Path.cwd().name == "notebooks":  # paths are relative to the repository
  os.chdir("..")
run = inference.load(os.environ.get("RUN", "runs/one"))
photos = inference.embed_input(run, os.environ.get("PHOTOS", "runs/letters"))
print(run.folder, run.input_spec, run.metric, photos.points.shape)

# %% [markdown]
# ## Search
#
# For each photograph, find the nearest other photographs and their distances.
# How often does the nearest one have the same label?

# %%
index = run.index(photos.points, photos.labels)
hits = index.search(photos.points, k=3, exclude_self=True)
labels = np.array(photos.labels)
np.mean(hits.labels[:, 0] == labels)

# %% [markdown]
# This shows some of the hits as a picture.
# (`python -m experiments.search --page=hits.html` writes a page.)

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
# The threshold accepts at most a fifth of the impostor pairs of the run's
# validation classes. Printed, it shows the expected error rates and the number
# of pairs that it is based on.

# %%
verdict = run.verify(photos.points[:-1], photos.points[1:], far=0.2)
print(verdict.threshold)
print(verdict.same)
