"""Finds the nearest gallery items of each query.

python -m experiments.search --run=runs/birds --gallery=PHOTOS --queries=NEW \
  --output=hits.csv --page=hits.html

PHOTOS and NEW are inputs or outputs of experiments.embed. Without --queries,
each gallery item is a query to the other items. A query that is a file of the
gallery does not find itself, unless --noexclude_self is given. The CSV file has
a line for each query and rank; the page shows a strip of images for each query.
"""

from pathlib import Path

from absl import flags

from experiments import cli, using
from metric_learning import inference

_GALLERY = cli.define_path("gallery", None, "The items to search.")
_QUERIES = cli.define_path("queries", None, "The items to search for.")
_K = flags.DEFINE_integer("k", 5, "The number of hits of each query.")
_EXCLUDE_SELF = flags.DEFINE_bool(
  "exclude_self", True, "Whether a query never finds its own file."
)
_OUTPUT = cli.define_path("output", None, "A .csv file.")
_PAGE = cli.define_path("page", None, "An .html file; only for images.")
_ROWS = flags.DEFINE_integer("page_rows", 100, "The most queries on the page.")
flags.adopt_module_key_flags(using)


def main() -> None:
  """Searches the gallery that --gallery names."""
  source = using.needed(_GALLERY, "which gallery?", "photos")
  output = using.needed(_OUTPUT, "which output file?", "hits.csv")
  inference.check_output(output, (".csv",))
  if _PAGE.value:
    inference.check_output(_PAGE.value, (".html",))
  run = using.loaded()
  gallery = using.embedded(run, source)
  queries = using.embedded(run, _QUERIES.value) if _QUERIES.value else gallery
  own = inference.own_indices(queries, gallery)
  hits = run.index(gallery.points, gallery.labels).search(
    queries.points,
    _K.value,
    exclude_self=own if _EXCLUDE_SELF.value else False,
  )
  rows = [
    (
      query,
      rank,
      gallery.names[i],
      distance,
      gallery.labels and gallery.labels[i],
    )
    for query, indices, distances in zip(
      queries.names, hits.indices, hits.distances.tolist(), strict=True
    )
    for rank, (i, distance) in enumerate(
      zip(indices, distances, strict=True), 1
    )
  ]
  names = ("query", "rank", "hit", "distance", "label")
  inference.write_csv(output, names, rows)
  print(f"Hits: {output}")
  if _PAGE.value:
    from metric_learning.report.search_page import write_search

    write_search(Path(_PAGE.value), queries, gallery, hits, _ROWS.value)
    print(f"Page: {_PAGE.value}")


if __name__ == "__main__":
  cli.run(main, __doc__)
