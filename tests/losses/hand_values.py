"""The value of a loss on a few points, to compare with values by hand."""

import functools

import jax
import loss_cases as cases
import numpy as np
import pytest

import metric_learning as ml
from tests.quick import quick_jit

SIZE = (9, 2)


@functools.cache
def jitted(loss, names):
  return quick_jit(cases.value_of(loss, **dict(names)))


def padded(x, labels, size):
  """Points padded to at least this size: small batches share a program."""
  x, labels = np.asarray(x, np.float64), np.asarray(labels)
  rows, columns = (
    max(0, least - there) for least, there in zip(size, x.shape, strict=True)
  )
  where = np.arange(len(x) + rows) < len(x)
  x = np.pad(x, ((0, rows), (0, columns)))
  return x, np.pad(labels, (0, rows)), where


def evaluate(loss, x, labels, params=None, **options):
  """The value of one batch; options are names, numbers, or both."""
  numbers = {k: v for k, v in options.items() if isinstance(v, float)}
  names = {k: v for k, v in options.items() if k not in numbers}
  names, params = not_default(loss, names), params or {}
  # All numbers are given: those of a test alone would be another program.
  default = ml.LOSSES[loss].hyper
  numbers = {k: default[k] for k in cases.settings(loss)[0]} | numbers
  static = known_static(loss, names)
  if static is not None and can_share(loss, x, params, numbers, static):
    batch = padded(x, labels, (cases.N, cases.DIM))
    value, _ = cases.compiled(loss, static=static)(numbers, params, *batch)
  else:
    x, labels, where = padded(x, labels, SIZE)
    # What the other tests of a loss choose is its default here.
    names = {k: default[k] for k in cases.STATIC.get(loss, {})} | names
    run = jitted(loss, tuple(sorted(names.items())))
    value = run(numbers, params, x, labels, where=where)
  return float(value)


def not_default(loss, names):
  """The names that differ from the defaults of the loss."""
  entry = ml.LOSSES[loss]
  metric, normalize, reduction = cases.defaults(loss)
  own = {"metric": metric, "normalize": normalize, "reduction": reduction}
  own |= {name: entry.hyper[name] for name in entry.static}
  return {k: v for k, v in names.items() if k not in own or own[k] != v}


def known_static(loss, names):
  """The variant of the other tests of a loss with these names; or None."""
  variants = [
    s for name, metric, s in cases.VARIANTS if (name, metric) == (loss, None)
  ]
  for static in ({}, *variants):
    if not_default(loss, cases.STATIC.get(loss, {}) | static) == names:
      return tuple(static.items())
  return None


def can_share(loss, x, params, numbers, static):
  """Whether the program of the other tests of a loss can compute this."""
  shapes = lambda tree: jax.tree.map(np.shape, tree)
  shape = np.shape(x)
  return (
    len(shape) == 2
    and shape[0] <= cases.N
    # More coordinates, all zero: the same points. Not the same statistics.
    and (
      shape[1] == cases.DIM
      or (shape[1] < cases.DIM and (cases.defaults(loss)[0] or "snr") != "snr")
    )
    and shapes(params) == shapes(cases.params(loss, static=static))
    and set(numbers) == set(cases.settings(loss)[0])
    and None not in numbers.values()
  )


def near(expected, digits=6):
  return pytest.approx(expected, abs=0.6 * 10**-digits)


@functools.cache
def jitted_pair_loss():
  names = ("name", "reduction", "half", "similarity")
  return quick_jit(ml.pair_loss, static_argnames=names)


def pair_loss(name, distances, **keywords):
  return jitted_pair_loss()(name, distances, **keywords)
