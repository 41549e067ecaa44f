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
# # The losses, as laws of force
#
# A pair loss is two curves: what a pair of one class costs at each distance,
# and what a pair of two classes costs. Their slopes are the forces that move
# embeddings. This notebook draws both; it trains nothing and needs no data.
#
# The notebook is paired: `losses.ipynb` and `losses.py` hold the same cells.
# After a change to one of them, `jupytext --sync notebooks/losses.py` updates
# the other. Its outputs are stored.

# %%
# %matplotlib inline
# %xmode Minimal
import functools

import jax
import jax.numpy as jnp

from metric_learning import figures
from metric_learning.losses import PAIR_POTENTIALS

# %% [markdown]
# ## What a pair costs
#
# Solid lines are pairs of images of one class, and dashed lines are pairs of
# different classes.

# %%
figures.pair_potentials()

# %% [markdown]
# ## What moves a pair
#
# The cost alone does not show what happens: the slope of the curve is the force
# that moves a pair.

# %%
figures.pair_forces()

# %% [markdown]
# ## Where m² − D² stalls, and why 1/D never rests
#
# Under `contrastive_sq_margin`, m² − D², two images of different classes cost
# the most when their embeddings coincide, at D = 0. Yet the slope, 2D, is 0
# there: nothing pushes them apart. The push is strongest just inside the
# margin, and then stops at once. `contrastive`, (m − D)², pushes hardest at 0
# and comes to rest at the margin. `contrastive_inverse`, 1/D, pushes with force
# 1/D²: this grows without bound near 0, and never becomes 0 at any distance.
# The push of `contrastive_2005` falls off as exp(−2.77 D/Q), and never becomes
# 0 either.
#
# This is the force on a pair of different classes, at five distances:

# %%
distances = jnp.array([0.01, 0.1, 0.5, 0.99, 1.5])
laws = {
  "contrastive": {"margin": 1.0},
  "contrastive_sq_margin": {"margin": 1.0},
  "contrastive_inverse": {},
  "contrastive_2005": {"upper_bound": 2.0},
}
{
  name: [
    round(float(force), 3) + 0.0
    for force in -jax.vmap(
      jax.jacfwd(functools.partial(PAIR_POTENTIALS[name], **numbers))
    )(distances)[1]
  ]
  for name, numbers in laws.items()
}

# %% [markdown]
# ## In training
#
# Only a study can show what this means for retrieval scores. The sweep
# `repulsions` compares these losses on one data set, with margins in units of
# the mean distance at initialization:
#
# `python -m experiments.sweep --config=configs/glyphs.py --sweep=repulsions`
