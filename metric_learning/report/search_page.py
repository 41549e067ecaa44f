"""A search as a page: each query, and beside it what it found."""

from pathlib import Path

from metric_learning.data import imaging
from metric_learning.errors import InputError
from metric_learning.inference import Hits, Items
from metric_learning.report.pages import Picture, picture, write_page


def write_search(
  path: Path, queries: Items, gallery: Items, hits: Hits, rows: int
) -> None:
  """Writes one HTML file that holds its images, of the first `rows` queries.

  Where both sides have labels, a hit has a whole frame if its label is that of
  the query, and a dashed one if it is another. Light or dark, as the reader's
  system is.

  Raises:
    InputError: if queries or gallery are no image files.
  """
  for items in (queries, gallery):
    if not items.are_files:
      raise InputError(
        f"{path} would show images, and {items.names[0]!r} is no image file:"
        " leave --page out."
      )
  shown = min(rows, len(queries.names))
  strips = [
    [
      _picture(queries, row, "query", "query"),
      *(
        _picture(
          gallery,
          i,
          f"{distance:.3g}",
          f"hit {rank}",
          _kind(queries, row, gallery, i),
        )
        for rank, (i, distance) in enumerate(
          zip(hits.indices[row], hits.distances[row], strict=True), 1
        )
      ),
    ]
    for row in range(shown)
  ]
  write_page(
    path,
    "search.html",
    shown=shown,
    queries=len(queries.names),
    nearest=hits.indices.shape[1],
    gallery=len(gallery.names),
    judged=bool(_kind(queries, 0, gallery, 0)),
    strips=strips,
  )


def _kind(queries: Items, row: int, gallery: Items, i: int) -> str:
  """Whether a hit has the label of its query; empty where nobody knows."""
  if queries.labels is None or gallery.labels is None:
    return ""
  return "right" if queries.labels[row] == gallery.labels[i] else "wrong"


def _picture(
  items: Items, index: int, caption: str, role: str, kind: str = ""
) -> Picture:
  """An image with its label, or its name, and a caption."""
  path = Path(items.names[index])
  label = path.name if items.labels is None else items.labels[index]
  pixels = imaging.read_images([path])[0]
  return picture(pixels, label, caption, role, kind, path.name)
