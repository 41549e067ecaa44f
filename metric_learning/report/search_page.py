"""A search as a page: each query with its hits beside it."""

from pathlib import Path

from metric_learning.data import imaging
from metric_learning.errors import InputError
from metric_learning.inference import Hits, Items
from metric_learning.report.pages import Picture, picture, write_page


def write_search(
  path: Path, queries: Items, gallery: Items, hits: Hits, rows: int
) -> None:
  """Writes one HTML file with the first `rows` queries and their images.

  If queries and gallery have labels, a hit with the label of the query has a
  solid frame, and any other hit a dashed one. The page is light or dark, as the
  reader's system is.

  Raises:
    InputError: if queries or gallery are not image files.
  """
  for items in (queries, gallery):
    if not items.are_files:
      raise InputError(
        f"{path} would show images, but {items.names[0]!r} is not an image"
        " file: leave --page out."
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
  """Whether a hit is right or wrong, in a word; "" if a label is unknown."""
  if queries.labels is None or gallery.labels is None:
    return ""
  return "right" if queries.labels[row] == gallery.labels[i] else "wrong"


def _picture(
  items: Items, index: int, caption: str, role: str, kind: str = ""
) -> Picture:
  """An image with its label (or its file name if unlabeled) and a caption."""
  path = Path(items.names[index])
  label = path.name if items.labels is None else items.labels[index]
  pixels = imaging.read_images([path])[0]
  return picture(pixels, label, caption, role, kind, path.name)
