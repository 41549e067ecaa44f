"""Names the class of each image by a gallery, or leaves it unknown.

python -m experiments.identify --run=runs/faces --gallery=KNOWN --probes=NEW \
  --far=0.1 --output=names.csv

KNOWN is a folder of class folders, or another labeled input of
experiments.embed; NEW is any input of experiments.embed. A probe gets the label
of its nearest gallery item, if that is near enough. The threshold names at most
a share --far of unknown probes, as estimated on the validation classes of the
run. A share too small for this validation part is refused. In the CSV file,
`label` is empty and `unknown` is 1 for a probe without a name.
"""

from absl import flags

from experiments import cli, using
from metric_learning import inference

_GALLERY = cli.define_path("gallery", None, "The known items, with labels.")
_PROBES = cli.define_path("probes", None, "The items to name.")
_FAR = flags.DEFINE_float(
  "far", 0.01, "The share of unknown probes that may get a name."
)
_OUTPUT = cli.define_path("output", None, "A .csv file.")
flags.adopt_module_key_flags(using)


def main() -> None:
  """Identifies the items of --probes."""
  known = using.needed(_GALLERY, "which gallery?", "people")
  new = using.needed(_PROBES, "which probes?", "photos")
  output = using.needed(_OUTPUT, "which output file?", "names.csv")
  inference.check_output(output, (".csv",))
  run = using.loaded()
  gallery, probes = using.embedded(run, known), using.embedded(run, new)
  index = run.index(gallery.points, gallery.labels)
  identified = index.identify(probes.points, far=_FAR.value)
  print(identified.threshold)
  rows = [
    (name, label, int(label is None), gallery.names[i], distance)
    for name, label, i, distance in zip(
      probes.names,
      identified.labels,
      identified.indices,
      identified.distances.tolist(),
      strict=True,
    )
  ]
  names = ("probe", "label", "unknown", "nearest", "distance")
  inference.write_csv(output, names, rows)
  unknown = identified.labels.count(None)
  print(f"{len(rows) - unknown} named, {unknown} unknown. Names: {output}")


if __name__ == "__main__":
  cli.run(main, __doc__)
