"""A search as a page: each query, and beside it what it found."""

import base64
import html
import io
from pathlib import Path

from metric_learning.data import imaging
from metric_learning.errors import InputError
from metric_learning.inference import Hits, Items
from metric_learning.training import run_files

# Pixels of the longer side of an image on the page, twice as many as it has
# points there, for screens that have as many.
_SIDE = 224
_STYLE = """
:root {
  color-scheme: light dark;
  --ink: #1c1c1c; --faint: #5f5f5f; --paper: #fff; --frame: #f0f0f0;
  --line: #d8d8d8; --right: #00745c; --wrong: #b34700;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ink: #ececec; --faint: #a8a8a8; --paper: #161616; --frame: #262626;
    --line: #3a3a3a; --right: #4fd1b0; --wrong: #ff9f5a;
  }
}
body {
  font: 14px/1.35 system-ui, sans-serif; color: var(--ink);
  background: var(--paper); margin: 1.5rem;
}
h1 { font-size: 1.3rem; margin: 0 0 .25rem }
p { color: var(--faint); margin: 0 0 1.25rem; max-width: 60em }
section {
  display: flex; gap: .75rem; overflow-x: auto; padding: .75rem 0;
  border-top: 1px solid var(--line);
}
figure { margin: 0; width: 7.5rem; flex: none }
figure.query { padding-right: .75rem; border-right: 2px solid var(--ink) }
img {
  display: block; width: 7rem; height: 7rem; object-fit: contain;
  background: var(--frame); border: 3px solid transparent; border-radius: 4px;
}
.right img { border-color: var(--right) }
.wrong img { border: 3px dashed var(--wrong) }
figcaption { margin-top: .25rem; font-size: .85rem }
figcaption b, figcaption span {
  display: block; overflow: hidden; text-overflow: ellipsis;
  white-space: nowrap;
}
figcaption span { color: var(--faint) }
"""


def write_page(
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
  about = (
    f"{shown} of {len(queries.names)} queries, each with its nearest"
    f" {hits.indices.shape[1]} of {len(gallery.names)} images, nearest first;"
    " below an image its label and its distance."
  )
  if _kind(queries, 0, gallery, 0):
    about += " Whole frame: the label of the query. Dashed: another."
  lines = [
    "<!doctype html>",
    '<html lang="en"><meta charset="utf-8"><title>Search</title>',
    '<meta name="viewport" content="width=device-width">',
    f"<style>{_STYLE}</style>",
    f"<h1>Search</h1>\n<p>{about}</p>",
  ]
  for row in range(shown):
    strip = [_figure(queries, row, "query", "query")]
    for rank, (i, distance) in enumerate(
      zip(hits.indices[row], hits.distances[row], strict=True), 1
    ):
      kind = _kind(queries, row, gallery, i)
      strip.append(_figure(gallery, i, f"{distance:.3g}", f"hit {rank}", kind))
    lines.append(f"<section>{''.join(strip)}</section>")
  text = "\n".join([*lines, "</html>"]) + "\n"
  run_files.write_atomically(path, lambda file: file.write(text.encode()))


def _kind(queries: Items, row: int, gallery: Items, i: int) -> str:
  """Whether a hit has the label of its query; empty where nobody knows."""
  if queries.labels is None or gallery.labels is None:
    return ""
  return "right" if queries.labels[row] == gallery.labels[i] else "wrong"


def _figure(
  items: Items, index: int, caption: str, role: str, kind: str = ""
) -> str:
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
  says = {"right": ", the same label", "wrong": ", another label"}.get(kind, "")
  alt = html.escape(f"{role}: {label}, {Path(name).name}{says}")
  return (
    f'<figure class="{kind or role.split()[0]}" title="{html.escape(name)}">'
    f'<img src="data:image/png;base64,{code}" alt="{alt}">'
    f"<figcaption><b>{html.escape(label)}</b><span>{caption}</span>"
    "</figcaption></figure>"
  )
