import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metric_learning.data.base import Dataset, Pairs
from metric_learning.data.samplers import (
  SAMPLERS,
  make_batches,
  make_hierarchical_sampler,
  make_sampler,
)
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
  """Each cycle of `items` draws has each item once; the last, at most once."""
  for start in range(0, len(stream), len(items)):
    cycle = stream[start : start + len(items)]
    assert len(set(cycle)) == len(cycle)
    assert set(cycle) <= set(items)


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
def test_pairs_of_classes_meet_equally_often():
  # P = 3 of 4: the window over two cycles must not favor a class. Each of the
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
    (4, 14, r"images_per_class=14.*: label 7 \(12\), .*at most 12"),
    (0, 4, "classes_per_batch=0 and images_per_class=4 must both be"),
    (4, 0, "must both be at least 1"),
  ],
)
def test_batches_that_cannot_be(classes, images, message):
  labels = np.delete(LABELS, 7 * 13)
  with pytest.raises(InputError, match=message):
    make_sampler(labels, classes, images, 0)


# --- Super-classes ----------------------------------------------------------


@st.composite
def trees(draw):
  """Labels of classes in super-classes, and S, P/S and K."""
  classes = draw(st.lists(st.integers(1, 4), min_size=1, max_size=4))
  superclasses = [f"s{i}" for i, n in enumerate(classes) for _ in range(n)]
  images = draw(st.integers(1, 3))
  sizes = draw(
    st.lists(
      st.integers(images, 5), min_size=sum(classes), max_size=sum(classes)
    )
  )
  labels = np.repeat(np.arange(sum(classes)), sizes)
  above = draw(st.integers(1, len(classes)))
  each = draw(st.integers(1, min(classes)))
  return labels, superclasses, above, each, images


@settings(deadline=None, max_examples=15)
@given(tree=trees(), steps=st.integers(1, 12), seed=st.integers(0, 9))
def test_superclasses_classes_and_images_come_in_whole_cycles(
  tree, steps, seed
):
  labels, superclasses, above, each, images = tree
  arguments = (labels, superclasses, above, above * each, images, seed)
  sample = make_hierarchical_sampler(*arguments)
  tops, classes, members = [], {}, {}
  for step in range(steps):
    batch = sample(step)
    groups = batch.reshape(above, each, images)
    names = np.array(superclasses)[labels[groups]]
    assert (names == names[:, :1, :1]).all()
    assert (labels[groups] == labels[groups[:, :, :1]]).all()
    assert len(set(batch.tolist())) == above * each * images
    for group, name in zip(groups, names[:, 0, 0], strict=True):
      tops.append(name)
      for some in group:
        classes.setdefault(name, []).append(labels[some[0]])
        members.setdefault(labels[some[0]], []).extend(some.tolist())
  assert_shuffled_cycles(tops, sorted(set(superclasses)))
  of = np.array(superclasses)
  for name, stream in classes.items():
    assert_shuffled_cycles(stream, np.flatnonzero(of == name).tolist())
  for label, stream in members.items():
    assert_shuffled_cycles(stream, np.flatnonzero(labels == label).tolist())
  again = make_hierarchical_sampler(*arguments)
  np.testing.assert_array_equal(again(steps - 1), batch)


# --- By name ----------------------------------------------------------------

RANDOM = np.random.default_rng(0)


def dataset_of(labels, **more):
  labels = np.asarray(labels, np.int32)
  images = np.zeros((len(labels), 1, 1, 1), np.uint8)
  names = tuple(f"class {i}" for i in range(labels.max() + 1))
  return Dataset("some", images, labels, names, **more)


def pairs_of(same=None, similarity=None, images=12):
  count = len(similarity if same is None else same)
  first = RANDOM.integers(images, size=count).astype(np.int32)
  second = RANDOM.integers(images, size=count).astype(np.int32)
  return dataset_of(range(images), pairs=Pairs(first, second, same, similarity))


def config_of(sampler, classes=4, images=2, **more):
  fields = {
    "superclasses_per_batch": 2,
    "num_triplets": 50,
    "num_pairs": 50,
  } | more
  return SimpleNamespace(
    sampler=sampler,
    classes_per_batch=classes,
    images_per_class=images,
    **fields,
  )


def some_dataset(sampler):
  if sampler == "pairs":
    return pairs_of(np.arange(20) % 2 == 0)
  return dataset_of(np.arange(40) % 8, superclasses=tuple("aabbccdd"))


@pytest.mark.parametrize("sampler", sorted(SAMPLERS))
def test_every_sampler_is_a_function_of_seed_and_step(sampler):
  data, config = some_dataset(sampler), config_of(sampler)
  walked, fresh = (make_batches(data, config, 3) for _ in range(2))
  other = make_batches(data, config, 4)
  batches = [walked(step) for step in range(12)]
  for step in (11, 0, 5):
    assert fresh(step).indices.dtype == np.int32
    for one, two in zip(fresh(step), batches[step], strict=True):
      np.testing.assert_array_equal(one, two)
  assert any(
    (other(step).indices != batches[step].indices).any() for step in range(12)
  )


def test_uniform_batches_are_shuffled_cycles_of_all_images():
  sample = make_batches(some_dataset("uniform"), config_of("uniform", 3, 4), 0)
  batches = [sample(step) for step in range(50)]
  assert all(batch.affinity is None for batch in batches)
  assert all(len(set(batch.indices)) == 12 for batch in batches)
  stream = np.concatenate([batch.indices for batch in batches]).tolist()
  assert_shuffled_cycles(stream, list(range(40)))


SAME = np.arange(21) % 3 == 0


@pytest.mark.parametrize("similarity", [False, True])
def test_pairs_are_balanced_and_alone_in_the_affinity(similarity):
  values = np.where(SAME, 0.5, 0.25).astype(np.float32)
  values += 0.01 * np.arange(21, dtype=np.float32)
  values[~SAME] = np.minimum(values[~SAME], 0.4)
  targets = values if similarity else SAME.astype(np.float32)
  kind = {"similarity": values} if similarity else {"same": SAME}
  data = pairs_of(**kind, images=400)  # few images are in two pairs
  sample = make_batches(data, config_of("pairs", 4, 3), 0)
  drawn = []
  for step in range(14):
    indices, affinity = sample(step)
    first, second = np.split(indices, 2)
    known = {
      (a, b): i
      for i, (a, b) in enumerate(
        zip(data.pairs.first.tolist(), data.pairs.second.tolist(), strict=True)
      )
    }
    chosen = [known[pair] for pair in zip(first, second, strict=True)]
    assert len(chosen) == 6 and SAME[chosen].sum() == 3
    expected = np.full((12, 12), np.nan, np.float32)
    for i, pair in enumerate(chosen):
      expected[i, 6 + i] = expected[6 + i, i] = targets[pair]
    np.testing.assert_array_equal(affinity, expected)
    drawn.append(chosen)
  for half in (SAME, ~SAME):
    stream = [pair for chosen in drawn for pair in chosen if half[pair]]
    assert_shuffled_cycles(stream, np.flatnonzero(half).tolist())


def test_pairs_are_drawn_once_where_there_are_none():
  labels = np.repeat(np.arange(7), [1, 2, 3, 4, 5, 6, 7])
  config = config_of("pairs", 5, 4, num_pairs=60)
  sample = make_batches(dataset_of(labels), config, 0)
  drawn = []
  for step in range(12):
    first, second = np.split(sample(step).indices, 2)
    assert np.sum(labels[first] == labels[second]) == 5
    assert (first != second).all()
    drawn += zip(first.tolist(), second.tolist(), strict=True)
  # 30 of each kind, 5 at a time: the last six batches are the first six again.
  assert sorted(drawn[:60]) == sorted(drawn[60:])


def test_triplets_are_fixed_and_alone_in_the_affinity():
  labels = np.array([0, 0, 0, 1, 1, 2, 3, 3])  # class 2 has no pair
  data, config = dataset_of(labels), config_of("triplets", 5, 3)
  sample = make_batches(data, config, 0)
  drawn = []
  for step in range(20):
    indices, affinity = sample(step)
    anchor, positive, negative = indices.reshape(3, 5)
    assert (labels[anchor] == labels[positive]).all()
    assert (labels[anchor] != labels[negative]).all()
    assert (anchor != positive).all()
    expected = np.full((15, 15), np.nan, np.float32)
    for i in range(5):
      expected[i, 5 + i], expected[i, 10 + i] = 1, 0
    np.testing.assert_array_equal(affinity, expected)
    drawn += map(tuple, indices.reshape(3, 5).T.tolist())
  # 50 of them, 5 at a time: the second ten batches are the first ten again.
  assert sorted(drawn[:50]) == sorted(drawn[50:])
  assert len(set(drawn[:50])) > 25
  assert {triplet[0] for triplet in drawn} == {0, 1, 2, 3, 4, 6, 7}
  assert {triplet[2] for triplet in drawn} == set(range(8))


@pytest.mark.parametrize(
  ("config", "message"),
  [
    (config_of("clases"), "did you mean 'classes'"),
    (config_of("hierarchical", 5), "superclasses_per_batch=2 must divide"),
    (
      config_of("hierarchical", superclasses_per_batch=8, classes=8),
      "there are 4 super-classes",
    ),
    (config_of("hierarchical", 6), "3 classes of each.*'a' has 2"),
    (config_of("uniform", 41, 1), "takes 41 images.*there are 40.*1 to 40"),
    (
      config_of("pairs", num_pairs=3),
      "takes 2 pairs that are the same.* there are 1",
    ),
    (config_of("triplets", num_triplets=0), "num_triplets=0 must be at least"),
    (config_of("triplets", 2, 1), "takes 0 triplets.*from 3 to 152"),
    (config_of("uniform", 0), "must both be at least 1"),
  ],
)
def test_what_a_sampler_cannot_do(config, message):
  with pytest.raises(InputError, match=message):
    make_batches(some_dataset("classes"), config, 0)


def test_sets_that_do_not_fit_a_sampler():
  plain, pairs = dataset_of(np.arange(8) % 4), some_dataset("pairs")
  with pytest.raises(InputError, match="some has no super-classes"):
    make_batches(plain, config_of("hierarchical"), 0)
  with pytest.raises(InputError, match="no classes: set sampler='pairs'"):
    make_batches(pairs, config_of("classes", 2, 1), 0)
  with pytest.raises(
    InputError, match=r"there are no pairs that are the same to train"
  ):
    make_batches(pairs_of(np.zeros(9, bool)), config_of("pairs"), 0)
  with pytest.raises(InputError, match="4 classes, and the largest has 1"):
    make_batches(dataset_of(range(4)), config_of("triplets"), 0)


# --- Small classes ----------------------------------------------------------

# Classes of 1, 2, 3, 7 and 4 images.
tail = np.random.default_rng(0).permutation(
  np.repeat(np.arange(5), [1, 2, 3, 7, 4])
)


def test_images_of_small_classes_are_repeated_evenly(steps=60):
  sample = make_sampler(tail, 3, 4, seed=2, small_classes="repeat")
  stream = {label: [] for label in range(5)}
  for step in range(steps):
    for group in sample(step).reshape(3, 4):
      (label,) = set(tail[group].tolist())
      members = np.flatnonzero(tail == label)
      counts = [group.tolist().count(i) for i in members]
      assert max(counts) - min(counts) <= 1
      stream[label] += group.tolist()
  # The classes as often as each other, and so the images of each.
  assert {len(drawn) for drawn in stream.values()} == {4 * 3 * steps // 5}
  for label, drawn in stream.items():
    counts = np.bincount(drawn, minlength=17)[tail == label]
    assert max(counts) - min(counts) <= 1
  again = make_sampler(tail, 3, 4, seed=2, small_classes="repeat")
  np.testing.assert_array_equal(again(57), sample(57))


def test_small_classes_are_dropped_and_counted():
  names = ("one", "two", "three", "seven", "four")
  drop = {"class_names": names, "small_classes": "drop"}
  message = r"3 of 5 classes .* in no batch: 'one' \(1\), 'two' \(2\), 'three' "
  with pytest.warns(UserWarning, match=message):
    sample = make_sampler(tail, 2, 4, 0, **drop)
  drawn = np.concatenate([sample(step) for step in range(14)])
  wanted = np.flatnonzero(tail >= 3)
  assert set(drawn.tolist()) == set(wanted.tolist())
  with (
    pytest.warns(UserWarning, match="in no batch"),
    pytest.raises(InputError, match="are 2 classes to train on without 3 that"),
  ):
    make_sampler(tail, 3, 4, 0, **drop)
  make_sampler(tail, 2, 1, 0, **drop)  # none is small: no warning


@pytest.mark.parametrize("sampler", ["classes", "hierarchical"])
def test_small_classes_are_refused_by_name(sampler):
  dataset = dataset_of(tail, superclasses=tuple("aabbb"))
  names = ("one", "two", "three", "seven", "four")
  dataset = dataclasses.replace(dataset, class_names=names)
  config = config_of(sampler, 2, 4)
  message = (
    r"images_per_class=4.*: 'one' \(1\), 'two' \(2\), 'three' \(3\); low"
  )
  with pytest.raises(InputError, match=message):
    make_batches(dataset, config, 0)
  assert len(make_batches(dataset, config, 0, "repeat")(0).indices) == 8
  with pytest.raises(InputError, match="unknown small_classes 'keep'"):
    make_batches(dataset, config, 0, "keep")
