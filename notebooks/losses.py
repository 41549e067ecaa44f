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
# It is paired: `losses.ipynb` and `losses.py` say the same, and after a change
# to one, `jupytext --sync notebooks/losses.py` changes the other. Its
# outputs are kept.

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
# Solid: two images of one class. Dashed: of different classes.

# %%
figures.pair_potentials()

# %% [markdown]
# ## What moves it
#
# The cost alone does not say what happens: a pair moves by the slope.

# %%
figures.pair_forces()

# %% [markdown]
# ## Where m² − D² stalls, and why 1/D never rests
#
# Two different images that fall on one place, D = 0, cost the most under
# `contrastive_sq_margin`, m² − D². Yet its slope is 2D: at 0 nothing pushes
# them apart. It pushes hardest just inside the margin, and then stops at once.
# `contrastive`, (m − D)², pushes hardest at 0 and comes to rest at the margin.
# `contrastive_inverse`, 1/D, pushes with 1/D²: without bound near 0, and at
# every distance, so that no pair is ever done. `contrastive_2005` falls off
# as exp(−2.77 D/Q), and does not end either.
#
# The force on a different pair, at five distances:

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
# What this means for a table is a question for a study: the sweep
# `repulsions` of each config compares these laws on one data set, with their
# margins in units of the mean distance at initialization:
#
# `python -m experiments.sweep --config=configs/glyphs.py --sweep=repulsions`
