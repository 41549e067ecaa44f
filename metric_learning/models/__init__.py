"""Networks behind one boundary: `create` gives pure functions and pytrees.

Flax modules stay inside this package. Outside, a model is `apply` and two
nested dicts of arrays, to which `jax.jit`, `jax.grad` and `jax.vmap` (a
population: parameters stacked along a new axis) apply as to anything else.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Key

from metric_learning.errors import InputError, check_choice
from metric_learning.models.chopra2005 import Chopra2005
from metric_learning.models.conv import Conv3, Conv4
from metric_learning.models.mlp import MLP
from metric_learning.signatures import Kind, keywords, kinds

__all__ = ["MODELS", "Model", "create", "kinds_of", "options_of"]

MODELS: dict[str, type[nnx.Module]] = {
  "chopra2005": Chopra2005,
  "conv3": Conv3,
  "conv4": Conv4,
  "mlp": MLP,
}


class Model(NamedTuple):
  """A network as a function and what it has learned.

  apply: (params, stats, images [n, h, w, c], train=) to embeddings
    [n, embedding_dim] and new stats. Images are float32 in [0, 1].
  params: what a gradient moves; a nested dict.
  stats: what training carries along, such as batch statistics; {} for most.
  """

  apply: Callable[..., tuple[Array, dict]]
  params: dict[str, Any]
  stats: dict[str, Any]


def create(
  name: str,
  *,
  seed: int | Key[Array, ""],
  image_shape: tuple[int, int, int],
  embedding_dim: int,
  **options: Any,
) -> Model:
  """Initialises a network.

  Calls that differ in the seed alone share one `apply`, so that a function
  compiled around it is compiled once.

  >>> model = create("conv3", seed=0, image_shape=(24, 24, 1), embedding_dim=64)
  >>> sum(x.size for x in jax.tree.leaves(model.params))
  60224
  >>> images = jax.numpy.zeros((2, 24, 24, 1))
  >>> model.apply(model.params, model.stats, images, train=False)[0].shape
  (2, 64)

  Args:
    name: a name in `MODELS`.
    seed: an integer or a key of jax.random; fixes the parameters.
    image_shape: height, width and channels.
    embedding_dim: length of an embedding.
    options: keywords of the network, such as `hidden` of the MLP.

  Raises:
    InputError: for an unknown name or option, or a shape that the network
      cannot see.
  """
  check_options(name, **options)
  if len(image_shape) != 3 or min(*image_shape, embedding_dim) < 1:
    raise InputError(
      f"image_shape={image_shape}, embedding_dim={embedding_dim}: give height, "
      "width and channels, and a dimension, each 1 or more."
    )
  # Lists, as configs may hold them, cannot be part of a key.
  fixed = tuple(
    (key, tuple(value) if isinstance(value, list) else value)
    for key, value in sorted(options.items())
  )
  init, apply = _functions(name, tuple(image_shape), embedding_dim, fixed)
  key = seed if isinstance(seed, jax.Array) else jax.random.key(seed)
  params, stats = init(key)
  return Model(apply, params, stats)


def check_options(name: str, **options: Any) -> None:
  """Raises `InputError` for an unknown network or option.

  >>> check_options("conv3", normalization="batch")
  Traceback (most recent call last):
  ...
  metric_learning.errors.InputError: model 'conv3' has no options; remove ...
  """
  known = options_of(name)
  for option in options:
    if not known:
      raise InputError(f"model {name!r} has no options; remove {option!r}.")
    check_choice(f"option of model {name!r}", option, known)


def options_of(name: str) -> dict[str, Any]:
  """The options of a model and their defaults.

  >>> options_of("mlp"), options_of("conv3")
  ({'hidden': (256, 256)}, {})

  Raises:
    InputError: for an unknown name.
  """
  check_choice("model", name, MODELS)
  options = keywords(MODELS[name].__init__)
  del options["rngs"]
  return options


def kinds_of(name: str) -> dict[str, Kind]:
  """What the options of a model take.

  >>> kinds_of("mlp")["hidden"].item
  <class 'int'>
  """
  return kinds(MODELS[name].__init__)


@functools.cache
def _functions(
  name: str,
  image_shape: tuple[int, int, int],
  embedding_dim: int,
  options: tuple[tuple[str, Any], ...],
) -> tuple[Callable, Callable]:
  """`init` and `apply` of one architecture."""

  def build(key):
    return MODELS[name](
      image_shape, embedding_dim, rngs=nnx.Rngs(key), **dict(options)
    )

  def split(network):
    graphdef, params, stats = nnx.split(network, nnx.Param, ...)
    return graphdef, nnx.to_pure_dict(params), nnx.to_pure_dict(stats)

  # Traced and not run: the structure alone, without numbers.
  graphdef, _, _ = split(nnx.eval_shape(lambda: build(jax.random.key(0))))

  def init(key):
    return split(build(key))[1:]

  def apply(params, stats, images, *, train):
    images = jnp.asarray(images)
    if images.shape[1:] != image_shape:
      raise InputError(
        f"model {name!r} was made for images of {image_shape}, not "
        f"{tuple(images.shape[1:])}; create it with that image_shape."
      )
    # copy=True: variables of this call alone, so that batch statistics may
    # change under any transformation of jax.
    network = nnx.merge(graphdef, params, stats, copy=True)
    embeddings = network(images, train=train)
    return embeddings, split(network)[2]

  return init, apply
