"""A search as a page: each query, and beside it what it found."""

import base64
import html
import io
from pathlib import Path

from metric_learning.data import imaging
from metric_learning.errors import InputError
from metric_learning.inference import Hits, Items
from metric_learning.training import run_files

# Pixels of the longer side of an image on the page.
_SIDE = 128
_STYLE = (
  "body{font:14px sans-serif;margin:1em}"
  "div{display:flex;gap:.5em;margin-bottom:1em;overflow-x:auto}"
  "figure{margin:0;width:9em;flex:none;overflow-wrap:anywhere}"
  "img{height:8em;width:9em;object-fit:contain;background:#eee}"
  "figure:first-child{border-right:3px solid #000;padding-right:.5em}"
)


def write_page(
  path: Path, queries: Items, gallery: Items, hits: Hits, rows: int
) -> None:
  """Writes one HTML file that holds its images, of the first `rows` queries.

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
  lines = [
    "<!doctype html><meta charset=utf-8><title>Search</title>",
    f"<style>{_STYLE}</style>",
    f"<p>{shown} of {len(queries.names)} queries, each with its nearest"
    f" {hits.indices.shape[1]} of {len(gallery.names)} images, nearest first.",
  ]
  for row in range(shown):
    strip = [_figure(queries, row, "query")]
    for i, distance in zip(hits.indices[row], hits.distances[row], strict=True):
      strip.append(_figure(gallery, i, f"{distance:.4g}"))
    lines.append(f"<div>{''.join(strip)}</div>")
  text = "\n".join(lines) + "\n"
  run_files.write_atomically(path, lambda file: file.write(text.encode()))


def _figure(items: Items, index: int, caption: str) -> str:
  """An image with its label, or its name, and a caption."""
  from PIL import Image

  name = items.names[index]
  pixels = imaging.read_images([Path(name)])[0]
  image = Image.fromarray(pixels.squeeze())
  image.thumbnail((_SIDE, _SIDE))
  file = io.BytesIO()
  image.save(file, "PNG")
  code = base64.b64encode(file.getvalue()).decode()
  label = Path(name).name if items.labels is None else items.labels[index]
  return (
    f'<figure title="{html.escape(name)}">'
    f'<img src="data:image/png;base64,{code}" alt="{html.escape(label)}">'
    f"<figcaption>{html.escape(label)}<br>{caption}</figcaption></figure>"
  )
