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
# # Margins and seeds in one program
#
# Margins, temperatures, learning rates and seeds are inputs of a compiled
# program, not part of its code. So runs that differ only in these numbers can
# train as one program, in which each run is a member of a population. This
# notebook trains margins × seeds of the contrastive loss on handwritten digits,
# and draws the score of each margin.
#
# The environment variable `STEPS` is the number of training steps, 200 by
# default.
#
# The notebook is paired: `margins.ipynb` and `margins.py` hold the same cells.
# After a change to one of them, `jupytext --sync notebooks/margins.py` updates
# the other. Its outputs are stored.

# %%
# %matplotlib inline
# %xmode Minimal
import os
import tempfile

from metric_learning import figures
from metric_learning.study import (
  make_specs,
  read_study,
  run_study,
  score_chosen,
)
from metric_learning.training import base_config, override, with_model

# %% [markdown]
# ## The runs
#
# Margins are in units of d̄, the mean distance of training images under the
# untrained network. Each margin is trained with two seeds.

# %%
steps = int(os.environ.get("STEPS", "200"))
config = base_config()
config.data.update(name="digits", split="images", protocol="closed-set")
config.batch.update(classes_per_batch=10, images_per_class=4)
with_model(config, "mlp", embedding_dim=8)
config.margin_unit = "initial_mean"
config.train.update(steps=steps, eval_every=steps, save_every=steps)
config = override(config.lock(), {"loss.name": "contrastive"})
rows = [
  {"metric.name": "l2", "loss.margin": margin, "seed": seed}
  for margin in (0.5, 1.0, 2.0)
  for seed in (0, 1)
]
specs = make_specs(config, rows)
[spec.name for spec in specs]

# %% [markdown]
# ## One program
#
# `population="on"` trains all six at once. On a GPU this is how hundreds of
# settings fit into the time of a few.

# %%
folder = tempfile.TemporaryDirectory()
run_study(config, specs, folder.name, population="on")
study = score_chosen(read_study(folder.name))
{
  setting.tuned["loss.margin"]: setting.validation.mean
  for setting in study.cells[0].settings
}

# %% [markdown]
# The ring marks the margin that validation chose. Only this one is scored on
# test images.

# %%
figures.tuning_curves(study)

# %%
study.cells[0].chosen.runs[0].tested.selected["own/map_at_r"]

# %%
folder.cleanup()
