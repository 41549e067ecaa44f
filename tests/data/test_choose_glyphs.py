import pathlib
import runpy

import numpy as np

SCRIPT = pathlib.Path(__file__).parents[2] / "experiments" / "choose_glyphs.py"
rule = runpy.run_path(str(SCRIPT))


def test_candidates_are_plain_letters_and_digits():
  letters = rule["candidates"]()
  for letter in "AzßЖĸ7א":
    assert letter in letters
  for letter in "é½+ _ﬁ²":  # decomposes, a number, a sign, space, …
    assert letter not in letters


def test_distance_is_the_median_over_shared_fonts():
  rng = np.random.default_rng(0)
  images = rng.random((5, 3, 16)).astype(np.float32)
  images[:2, 1] = np.nan
  found = rule["distances"](images)
  for i in range(3):
    for j in range(3):
      known = [
        np.sum((a[i] - a[j]) ** 2) / (np.sum(a[i] ** 2) + np.sum(a[j] ** 2))
        for a in images.astype(float)
        if not np.isnan(a[[i, j]]).any()
      ]
      np.testing.assert_allclose(found[i, j], np.median(known), atol=1e-6)


def test_rule_drops_look_alikes_small_forms_and_rare_letters():
  # c and o are C and O again, Greek Alpha is A, Hebrew alef is in few fonts;
  # e and E differ enough, and so do Ж and what came before.
  assert rule["choose"]("ACEOceoΑЖжא") == "ACEOeЖ"
