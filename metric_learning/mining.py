"""Miners: Row → Row. They narrow or weigh positives and negatives."""

from collections.abc import Callable

from metric_learning.rows import Row


def all_pairs(row: Row) -> Row:
  """Every positive and every negative: the row as it is."""
  return row


MINERS: dict[str, Callable[[Row], Row]] = {"all": all_pairs}
