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
# # Bring your own images
#
# All you need is a folder that holds a folder of images for each class. This
# notebook reads such a folder, trains a small network on some of the classes,
# and looks at classes that the network has never seen.
#
# The environment variable `PHOTOS` names the folder. `STEPS` is the number of
# training steps, 300 by default. Without `PHOTOS`, the notebook writes and
# reads a folder of letters.
#
# The notebook is paired: `bring_your_own_images.ipynb` and
# `bring_your_own_images.py` hold the same cells. After a change to one of them,
# `jupytext --sync notebooks/bring_your_own_images.py` updates the other. The
# stored outputs are those for the letters.

# %%
# %matplotlib inline
# %xmode Minimal
import os
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from metric_learning import data, figures
from metric_learning.training import base_config, override, train, with_model

# %% [markdown]
# ## What is there
#
# Some classes are for training, some for validation, and the rest for the test.
# The network never sees test classes in training.

# %%
if Path.cwd().name == "notebooks":  # paths are relative to the repository
  os.chdir("..")
photos = Path(os.environ.get("PHOTOS", "runs/letters"))
if "PHOTOS" not in os.environ:
  section = override(base_config(), {"data.name": "glyphs"}).data
  letters = data.load(section).test
  for place in np.flatnonzero(letters.labels < 40):
    label = letters.labels[place]
    name = f"{label:02} {letters.class_names[label]}"
    (photos / name).mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(letters.inputs[place].squeeze())
    image.save(photos / name / f"{place}.png")
steps = int(os.environ.get("STEPS", "300"))
config = base_config()
config.data.update(
  name="image_folder",
  data_dir=str(photos),
  image_size=(32, 32),
  split="classes",
  protocol="open-set",
)
config.batch.update(classes_per_batch=4, images_per_class=2)
with_model(config, "conv3")
config.train.update(steps=steps, eval_every=steps, save_every=steps)
config = override(config.lock(), {"loss.name": "supcon", "normalize": "l2"})
splits = data.load(config.data)
{
  part: (len(getattr(splits, part).labels), getattr(splits, part).class_names)
  for part in ("train", "validation", "test")
}

# %% [markdown]
# ## Training
#
# A run is stored in a folder, here a temporary one. The score is computed on
# validation classes: it is the share of images whose nearest neighbor is of the
# same class.

# %%
folder = tempfile.TemporaryDirectory()
result = train(config, folder.name, splits=splits, progress=False)
result["validation_selected"]["own/recall_at_1"]

# %% [markdown]
# ## Classes that it has never seen
#
# These are validation images and their nearest neighbors. A dotted frame marks
# a neighbor of another class.

# %%
space = figures.read_space(folder.name, "validation", "supcon")
queries = np.linspace(0, len(space.labels) - 1, 3).astype(int)
figures.neighbor_strip(space, splits.validation.inputs, queries, k=4)

# %% [markdown]
# These classes are mistaken for each other:

# %%
figures.confusion(space)

# %% [markdown]
# Two commands do the same from the command line; the second is a study of
# losses:
#
# `python -m experiments.train --config=configs/image_folder.py
# --config.data.data_dir=photos --workdir=runs/photos`
#
# `python -m experiments.sweep --config=configs/image_folder.py
# --config.data.data_dir=photos --sweep=losses`

# %%
folder.cleanup()
