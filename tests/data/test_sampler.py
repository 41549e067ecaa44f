import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metric_learning.data.sampler import make_sampler
from metric_learning.errors import InputError


@st.composite
def problems(draw):
  """Labels (shuffled, with gaps between their values), P, K, and a seed."""
  sizes = draw(st.lists(st.integers(1, 9), min_size=1, max_size=8))
  classes = draw(st.integers(1, len(sizes)))
  images = draw(st.integers(1, min(sizes)))
  seed = draw(st.integers(0, 2**32))
  labels = np.repeat(3 * np.arange(len(sizes)) + 1, sizes)
  return np.random.default_rng(0).permutation(labels), classes, images, seed


def assert_shuffled_cycles(stream, items):
  """Each stretch as long as `items` holds each item once; the last, at most."""
  for start in range(0, len(stream), len(items)):
    cycle = stream[start : start + len(items)]
    assert len(set(cycle)) == len(cycle)
    assert set(cycle) <= set(items)


@settings(deadline=None, max_examples=60)
@given(problem=problems(), steps=st.integers(1, 40))
def test_classes_and_images_come_in_whole_cycles(problem, steps):
  labels, classes, images, seed = problem
  sample = make_sampler(labels, classes, images, seed)
  batches = [sample(step) for step in range(steps)]
  class_stream, image_streams = [], {}
  for batch in batches:
    assert batch.shape == (classes * images,) and batch.dtype == np.int32
    assert len(set(batch.tolist())) == len(batch)
    groups = batch.reshape(classes, images)
    assert (labels[groups] == labels[groups[:, :1]]).all()
    drawn = labels[groups[:, 0]].tolist()
    assert len(set(drawn)) == classes
    class_stream += drawn
    for label, group in zip(drawn, groups.tolist(), strict=True):
      image_streams.setdefault(label, []).extend(group)
  assert_shuffled_cycles(class_stream, np.unique(labels).tolist())
  for label, stream in image_streams.items():
    assert_shuffled_cycles(stream, np.flatnonzero(labels == label).tolist())


@settings(deadline=None, max_examples=60)
@given(problem=problems(), steps=st.lists(st.integers(0, 10**6), max_size=8))
def test_batch_depends_on_seed_and_step_alone(problem, steps):
  labels, classes, images, seed = problem
  walked = make_sampler(labels, classes, images, seed)
  there = [walked(step) for step in steps]
  back = [walked(step) for step in reversed(steps)][::-1]
  fresh = [make_sampler(labels, classes, images, seed)(step) for step in steps]
  np.testing.assert_array_equal(there, back)
  np.testing.assert_array_equal(there, fresh)


LABELS = np.repeat(np.arange(20), 13)


def test_orders_differ_between_seeds_cycles_rounds_and_classes():
  # P and K are all there is, so that a batch is one cycle of everything.
  one, other = (make_sampler(LABELS, 20, 13, seed) for seed in (0, 1))
  batches = [one(0), one(1), one(260), other(0)]  # 260: 13 and 20 rounds on
  class_orders = {tuple(LABELS[batch[::13]]) for batch in batches}
  image_orders = {
    tuple(group % 13) for batch in batches for group in batch.reshape(20, 13)
  }
  assert len(class_orders) == 4
  assert len(image_orders) == 4 * 20


def test_every_image_is_drawn_about_equally_often():
  # 13 batches of 20 classes give each class 13 visits × 4 = 52 draws: 4 each.
  sample = make_sampler(LABELS, 20, 4, seed=0)
  drawn = np.concatenate([sample(step) for step in range(13)])
  assert np.bincount(drawn).tolist() == [4] * 260


def test_pairs_of_classes_meet_equally_often():
  # P = 3 of 4: the window over two cycles must not favour a class. Each of the
  # 6 pairs is in half of the batches; a standard deviation is 0.009 there.
  labels = np.repeat(np.arange(4), 2)
  sample = make_sampler(labels, 3, 1, seed=0)
  batches = np.stack([labels[sample(step)] for step in range(3000)])
  present = (batches[:, :, None] == np.arange(4)).any(axis=1)
  together = np.mean(present[:, :, None] & present[:, None], axis=0)
  np.testing.assert_allclose(together[np.triu_indices(4, 1)], 0.5, atol=0.045)


@pytest.mark.parametrize(
  ("classes", "images", "message"),
  [
    (21, 4, "classes_per_batch=21, but there are 20 classes.*at most 20"),
    (4, 14, r"images_per_class=14.*\(label 7\) has 12 images.*at most 12"),
    (0, 4, "classes_per_batch=0 and images_per_class=4 must both be"),
    (4, 0, "must both be at least 1"),
  ],
)
def test_batches_that_cannot_be(classes, images, message):
  labels = np.delete(LABELS, 7 * 13)
  with pytest.raises(InputError, match=message):
    make_sampler(labels, classes, images, 0)
