"""Networks: `create` turns a Flax module into pure functions of pytrees.

Flax modules stay inside this package. Outside, a model is a set of functions of
two nested dicts of arrays. `jax.jit`, `jax.grad` and `jax.vmap` apply to them
as usual; a population stacks its parameters along a new axis.
"""

import functools
import logging
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from metric_learning.errors import InputError, check_choice
from metric_learning.models.chopra2005 import Chopra2005
from metric_learning.models.conv import Conv3, Conv4
from metric_learning.models.dense import MLP, Identity, Linear
from metric_learning.models.dlib_face import DlibFace
from metric_learning.models.efficientnet import (
  EfficientNetLite0,
  EfficientNetLite1,
  EfficientNetLite2,
)
from metric_learning.models.resnet import ResNet18, ResNet50
from metric_learning.models.squeezenet import SqueezeNet
from metric_learning.models.vit import ViTB16, ViTS16
from metric_learning.models.weights import digest_of, fill, read
from metric_learning.signatures import Kind, keywords, kinds
from metric_learning.specs import InputSpec, spec_of

__all__ = ["DTYPES", "MODELS", "Model", "create", "kinds_of", "options_of"]

_log = logging.getLogger(__name__)

# Each class takes the shape of an item and the dimension of an embedding, and
# its options as keywords. Its attribute `sees` holds the kinds of items that it
# accepts, and `head` is its last layer. These attributes are optional:
# `preprocess` brings items to the scale of the network, `layout` says how files
# of pretrained weights name its parameters, and `features` is the number of its
# features before the head.
MODELS: dict[str, type[Any]] = {
  "chopra2005": Chopra2005,
  "conv3": Conv3,
  "conv4": Conv4,
  "dlib_face": DlibFace,
  "efficientnet_lite0": EfficientNetLite0,
  "efficientnet_lite1": EfficientNetLite1,
  "efficientnet_lite2": EfficientNetLite2,
  "identity": Identity,
  "linear": Linear,
  "mlp": MLP,
  "resnet18": ResNet18,
  "resnet50": ResNet50,
  "squeezenet": SqueezeNet,
  "vit_b16": ViTB16,
  "vit_s16": ViTS16,
}


# The types in which a network can compute.
DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}


Init = Callable[[Array], tuple[dict[str, Any], dict[str, Any]]]


class Model(NamedTuple):
  """A network as pure functions of its parameters.

  init: maps a key to (params, stats), two nested dicts. Gradients update
    params; stats are the other state of training, such as batch statistics.
  apply: maps (params, stats, inputs, train=, key=) to (embeddings
    [n, embedding_dim], new stats). Networks that draw at random need `key`.
  preprocess: maps items to the inputs of `apply`, with the mean and deviation
    of this network. The items are images in [0, 1] or raw features, which come
    from `specs.as_numbers` and may have been augmented since.
  input_spec: the spec of the items.
  layers: names of the parts of params, such as "conv1" or "hidden.dense1", in
    the order in which an input passes through them; the last is the head, if
    there is one.
  """

  init: Init
  apply: Callable[..., tuple[Array, dict[str, Any]]]
  preprocess: Callable[[Array], Array]
  input_spec: InputSpec
  layers: tuple[str, ...]


def create(
  name: str,
  *,
  input_spec: InputSpec,
  embedding_dim: int,
  dtype: str = "float32",
  weights: str | None = None,
  **options: Any,
) -> Model:
  """Creates the network of a name, with options, for items of a spec.

  Equal arguments give identical function objects, so that programs that use
  them are compiled only once.

  >>> model = create(
  ...   "conv3", input_spec=InputSpec((24, 24, 1), "image"), embedding_dim=64
  ... )
  >>> params, stats = model.init(jax.random.key(0))
  >>> sum(x.size for x in jax.tree.leaves(params))
  60224
  >>> inputs = model.preprocess(jax.numpy.zeros((2, 24, 24, 1)))
  >>> model.apply(params, stats, inputs, train=False)[0].shape
  (2, 64)

  Args:
    name: a name in `MODELS`.
    input_spec: what one item is.
    embedding_dim: length of an embedding.
    dtype: the type to compute in, a name in `DTYPES`. Parameters, batch
      statistics and embeddings are always float32.
    weights: a file from which `init` takes all parameters, except those of the
      head and of the pool; its digest is `weights.digest_of`.
    options: keywords of the network, such as `hidden` of the MLP.

  Raises:
    InputError: for an unknown name or option, items that the network does not
      accept, or weights of a network without known files. `init` raises it for
      a file that does not fit.
  """
  check_options(name, **options)
  check_weights(name, weights, options.get("inputs"))
  check_choice("dtype of a model", dtype, DTYPES)
  if min(*input_spec.shape, embedding_dim) < 1:
    raise InputError(
      f"input_spec={input_spec}, embedding_dim={embedding_dim}: give sizes of 1"
      " or more."
    )
  if input_spec.kind not in MODELS[name].sees:
    fit = ", ".join(n for n, m in MODELS.items() if input_spec.kind in m.sees)
    raise InputError(
      f"model {name!r} does not see {input_spec}: choose one of {fit} by"
      " config.model.name."
    )
  # Configs may hold lists, which cannot be part of the key of a cache.
  fixed = tuple(
    (key, tuple(value) if isinstance(value, list) else value)
    for key, value in sorted(options.items())
  )
  return _model(name, input_spec, embedding_dim, dtype, weights, fixed)


def check_weights(
  name: str, weights: str | None, inputs: str | None = None
) -> None:
  """Raises `InputError` for weights of a network without known files.

  It also raises for `inputs` without a file: they are the scale of the images
  on which the network of a file was trained.
  """
  if weights is None and inputs is not None:
    raise InputError(
      f"config.model.inputs={inputs!r} is the scale of the images of a weights"
      " file: give config.model.weights, or set config.model.inputs=None."
    )
  if weights is None or hasattr(MODELS[name], "layout"):
    return
  fit = ", ".join(n for n, m in MODELS.items() if hasattr(m, "layout"))
  raise InputError(
    f"config.model.weights={weights!r}: no files of {name} are known. Choose"
    f" one of {fit} by config.model.name, or set config.model.weights=None."
  )


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
  """The kinds of the options of a model.

  >>> kinds_of("mlp")["hidden"].item
  <class 'int'>
  """
  return kinds(MODELS[name].__init__)


@functools.cache
def _model(
  name: str,
  input_spec: InputSpec,
  embedding_dim: int,
  dtype: str,
  weights: str | None,
  options: tuple[tuple[str, Any], ...],
) -> Model:
  network = MODELS[name]
  preprocess = getattr(network, "preprocess", _identity)
  items = jax.ShapeDtypeStruct((1, *input_spec.shape), jnp.float32)
  seen = jax.eval_shape(preprocess, items).shape[1:]
  if seen != input_spec.shape:
    _log.warning("%s sees %s, repeated as RGB.", name, input_spec)
  draws = "key" in keywords(network.__call__)

  def build(key: Array) -> Any:
    return network(
      input_spec.shape, embedding_dim, rngs=nnx.Rngs(key), **dict(options)
    )

  (graphdef, params, stats), layers = _structure(build)

  def init(key: Array) -> tuple[dict[str, Any], dict[str, Any]]:
    return _split(build(key))[1:]

  if weights is not None:
    what, inputs = f"{weights} and {name}", dict(options).get("inputs")
    fill_from = functools.partial(
      fill, network.layout, (params, stats), what=what, inputs=inputs
    )
    init = cast(Any, _from_file(init, network.layout.own, fill_from, weights))

  def apply(
    params: Any,
    stats: Any,
    inputs: Any,
    *,
    train: bool,
    key: Array | None = None,
  ) -> tuple[Array, dict[str, Any]]:
    inputs = jnp.asarray(inputs)
    if inputs.shape[1:] != seen:
      raise InputError(
        f"model {name!r} was made for {input_spec}, not"
        f" {spec_of(inputs)._replace(kind=input_spec.kind)}: create it with"
        " that input_spec."
      )
    # copy=True gives this call its own variables, so that batch statistics can
    # change under any transformation of jax.
    params, inputs = (_cast(x, DTYPES[dtype]) for x in (params, inputs))
    merged = nnx.merge(graphdef, params, stats, copy=True)
    more = {"key": key} if draws else {}
    embeddings = merged(inputs, train=train, **more)
    return _cast((embeddings, _split(merged)[2]), jnp.float32)

  return Model(init, apply, preprocess, input_spec, layers)


def _structure(build: Callable[[Array], Any]) -> tuple[Any, tuple[str, ...]]:
  """The result of `_split` without numbers, and the layers with parameters.

  The network is traced, not run.
  """
  defined: list[str] = []

  def traced() -> Any:
    network = build(jax.random.key(0))
    for name, part in vars(network).items():  # in the order of the definition
      inner = [*part] if isinstance(part, nnx.Dict) else []
      if isinstance(part, nnx.List):
        inner = [*range(len(part))]
      defined.extend([f"{name}.{each}" for each in inner] or [name])
    return network

  parts = _split(nnx.eval_shape(traced))
  layers = tuple(name for name in defined if name.split(".")[0] in parts[1])
  return parts, layers


def _split(network: Any) -> tuple[Any, dict[str, Any], dict[str, Any]]:
  """The structure of a network, its params and its stats."""
  graphdef, params, stats = cast(Any, nnx.split(network, nnx.Param, ...))
  return graphdef, nnx.to_pure_dict(params), nnx.to_pure_dict(stats)


def _from_file(
  init: Init,
  drawn_parts: tuple[str, ...],
  fill_from: Callable[..., Any],
  path: str,
) -> Init:
  """An init that takes parameters from a file, and draws the other parts."""

  @jax.jit  # Parts that it does not return are not drawn.
  def draw(key: Array) -> list[dict[str, Any]]:
    return [
      {part: value for part, value in tree.items() if part in drawn_parts}
      for tree in init(key)
    ]

  def filled(key: Array) -> tuple[dict[str, Any], dict[str, Any]]:
    trees = fill_from(tensors=_tensors_of(path, digest_of(path)))
    params, stats = (
      {**jax.tree.map(jnp.array, tree), **drawn}
      for tree, drawn in zip(trees, draw(key), strict=True)
    )
    return params, stats

  return filled


@functools.lru_cache(maxsize=1)
def _tensors_of(path: str, digest: str) -> dict[str, np.ndarray]:
  """The tensors of a file; all runs that start from it read it once."""
  del digest  # A part of the key: a file that has changed is read again.
  return read(path)


def _cast(tree: Any, dtype: Any) -> Any:
  """Casts the floating-point arrays of a tree, except those of float64."""

  def cast(x: Any) -> Any:
    is_real = jnp.issubdtype(x.dtype, jnp.floating)
    return x.astype(dtype) if is_real and x.dtype != jnp.float64 else x

  return jax.tree.map(cast, tree)


def _identity(numbers: Float[Array, " n *item"]) -> Float[Array, " n *item"]:
  return numbers
