"""Shared parts of pages: templates, inlined figures, and strips of pictures."""

import base64
import functools
import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
import numpy as np
from jaxtyping import UInt8
from markupsafe import Markup

from metric_learning.figures import style
from metric_learning.training import run_files

# Pixels of the longer side of an image on a page. This is twice its length in
# CSS pixels, for high-density screens.
SIDE = 224
# The colors of figures on a dark page; colors not listed suit both pages.
_DARK = {
  style.BLACK: "#ececec",
  "#ffffff": "#161616",
  style.BLUE: "#4fb0ef",
  style.VERMILION: "#ff8a3d",
  style.GREEN: "#2fd0a0",
  style.GRAY: "#a0a0a0",
  "#b2b2b2": "#5a5a5a",
  "#e5e5e5": "#333333",
  "#e6e6e6": "#333333",
  "#eeeeee": "#2b2b2b",
}


@functools.cache
def _templates() -> jinja2.Environment:
  return jinja2.Environment(
    loader=jinja2.PackageLoader("metric_learning.report"),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
  )


def write_page(path: Path, template: str, **values: Any) -> Path:
  """Fills a template and writes the page, completely or not at all.

  The template gets `values`, and `dark`: the colors of figures on a dark page.
  """
  dark = {_variable(color): other for color, other in _DARK.items()}
  text = _templates().get_template(template).render(dark=dark, **values)
  run_files.write_atomically(path, lambda file: file.write(text.encode()))
  return path


def _variable(color: str) -> str:
  """The name of a color in the style sheet.

  >>> _variable("#0072B2")
  '--c-0072b2'
  """
  return f"--c-{color[1:].lower()}"


class Figure(NamedTuple):
  """A figure on a page: its SVG, and a description in words."""

  name: str
  svg: Markup
  words: str


def inlined(path: Path) -> Figure:
  """Reads an SVG file of `figures.save`, for a page with several figures.

  Its ids get the name of the file as a prefix, so that they stay unique. Its
  colors follow the page, light or dark. Its metadata becomes its `words`.
  """
  text = path.read_text()
  name = re.sub(r"\W", "-", path.stem)
  description = re.search(
    r"<dc:description>(.*?)</dc:description>", text, re.DOTALL
  )
  text = text[text.index("<svg") :]
  text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
  text = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", text)
  text = re.sub(
    r"(?<=: )#([0-9a-f]{6})\b",
    lambda match: f"var({_variable(match[0])}, {match[0]})",
    text,
  )
  # The page sets the width of the figure.
  text = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text, count=1)
  text = re.sub(
    r'(<svg[^>]*?) width="([\d.]+)pt"',
    r'\1 style="max-width: \2pt" role="img" focusable="false"',
    text,
    count=1,
  )
  words = Markup(description[1]).unescape() if description else path.stem
  label = f' aria-label="{Markup.escape(words)}"'
  text = text.replace("<svg", f"<svg{label}", 1)
  return Figure(path.stem, Markup(text), words)


def squared(pixels: UInt8[np.ndarray, "h w c"], side: int) -> Any:
  """An image in the middle of a black square; it shrinks but never grows.

  >>> squared(np.full((2, 4, 1), 9, np.uint8), 4).tobytes()[3:9]
  b'\\x00\\t\\t\\t\\t\\t'
  """
  from PIL import Image

  image = Image.fromarray(pixels.squeeze())
  image.thumbnail((side, side))
  square = Image.new(image.mode, (side, side))
  corner = ((side - image.width) // 2, (side - image.height) // 2)
  square.paste(image, corner)
  return square


def data_url(pixels: UInt8[np.ndarray, "h w c"], side: int = SIDE) -> str:
  """The data URL of an image: PNG for small images, WebP for large ones."""
  from PIL import Image

  image = Image.fromarray(pixels.squeeze())
  image.thumbnail((side, side))
  file = io.BytesIO()
  kind = "webp" if max(pixels.shape[:2]) > 64 else "png"
  image.save(file, kind, quality=85)
  code = base64.b64encode(file.getvalue()).decode()
  return f"data:image/{kind};base64,{code}"


class Picture(NamedTuple):
  """An image in a strip.

  kind: "query"; or for a hit "right", "wrong", or "" if labels are unknown.
  title: the text that a pointer shows, such as a path.
  alt: the text that a screen reader reads.
  """

  url: str
  label: str
  caption: str
  kind: str
  title: str
  alt: str


_LABEL_NOTES = {"right": ", the same label", "wrong": ", another label"}


def picture(
  pixels: UInt8[np.ndarray, "h w c"],
  label: str,
  caption: str,
  role: str,
  kind: str = "",
  name: str = "",
) -> Picture:
  """Makes the `Picture` of a strip; `role` is "query", "hit 1", "hit 2", …"""
  about = f"{label}, {name}" if name else label
  return Picture(
    data_url(pixels),
    label,
    caption,
    kind or role.split()[0],
    name or label,
    f"{role}: {about}{_LABEL_NOTES.get(kind, '')}",
  )


Strip = Sequence[Picture]
