"""Retrieval by super-class equals retrieval with super-classes as classes."""

import numpy as np
import pytest

from metric_learning.errors import InputError
from metric_learning.evaluation import evaluate, retrieval, why_no_choice

RNG = np.random.default_rng(0)
POINTS = RNG.normal(size=(24, 3)).astype(np.float32)
LABELS = RNG.permutation(24) // 3
NAMES = tuple("zyxzyxzy")
NUMBERS = np.array(["xyz".index(name) for name in NAMES])[LABELS]
ASKED = ("own/superclass_recall_at_3", "cosine/superclass_map_at_r")


def test_the_right_answers_are_of_the_super_class():
  scores = evaluate(POINTS, LABELS, "l1", asked=ASKED, superclasses=NAMES)
  own = retrieval(POINTS, NUMBERS, metric="l1", ks=(3,))
  cosine = retrieval(POINTS, NUMBERS, metric="cosine")
  assert scores[ASKED[0]] == own["recall_at_3"]
  assert scores[ASKED[1]] == cosine["map_at_r"]
  assert scores["own/map_at_r"] != scores["own/superclass_map_at_r"]
  quick = evaluate(POINTS, LABELS, "l1", superclasses=NAMES)
  assert not any("superclass" in name for name in quick)


def test_they_are_looked_for_in_a_gallery():
  gallery = {"references": POINTS[9:], "reference_labels": LABELS[9:]}
  scores = evaluate(
    POINTS[:9],
    LABELS[:9],
    "l1",
    asked=ASKED,
    superclasses=NAMES,
    **gallery,
  )
  gallery["reference_labels"] = NUMBERS[9:]
  expected = retrieval(POINTS[:9], NUMBERS[:9], metric="l1", ks=(3,), **gallery)
  assert scores[ASKED[0]] == expected["recall_at_3"]


def test_without_super_classes_the_scores_are_left_out():
  scores = evaluate(POINTS, LABELS, "l1", asked=ASKED)
  assert not any("superclass" in name for name in scores)


def test_whether_they_can_choose():
  assert why_no_choice(ASKED[1], LABELS, superclasses=NAMES) is None
  alone = "z" * 8
  assert "all neighbors are right" in why_no_choice(
    ASKED[1], LABELS, superclasses=alone
  )
  with pytest.raises(InputError, match="did you mean 'own/superclass_map_at_r"):
    why_no_choice("own/superclass_map_at_t", LABELS)


@pytest.mark.parametrize("labels", [LABELS + 1, LABELS - 1])
def test_each_class_has_a_super_class(labels):
  with pytest.raises(InputError, match=r"of 8 classes: give .* 0 to 7"):
    evaluate(POINTS, labels, "l1", asked=ASKED, superclasses=NAMES)
