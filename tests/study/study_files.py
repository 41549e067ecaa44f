"""Finds the files of a study."""

BY_QUERY = ("own/recall_at_1", "own/map_at_r")


def results_of(folder):
  return sorted(folder.glob("runs/*/result.json"))
