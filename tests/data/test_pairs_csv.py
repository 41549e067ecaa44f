import numpy as np
import pytest
from PIL import Image

from metric_learning import data
from metric_learning.data.sets.pairs_csv import read_pairs
from metric_learning.errors import InputError


@pytest.fixture
def folder(tmp_path):
  """Images a.png, b.png and far/c.png whose pixels are all 1, 2 and 3."""
  (tmp_path / "far").mkdir()
  for i, name in enumerate(("a.png", "b.png", "far/c.png"), start=1):
    Image.new("L", (4, 3), i).save(tmp_path / name)
  return tmp_path


def write(folder, *lines):
  path = folder / "pairs.csv"
  path.write_text("\n".join(lines) + "\n", encoding="utf-8")
  return path


def shown(dataset):
  """(pixel of the first image, pixel of the second) for each pair."""
  pixels, pairs = dataset.inputs[:, 0, 0, 0], dataset.pairs
  both = pixels[pairs.first], pixels[pairs.second]
  return [tuple(pair) for pair in np.transpose(both).tolist()]


def test_same_and_different(folder):
  lines = ("a.png,b.png,1", "a.png,far/c.png,0", "b.png, ./a.png,True")
  found = read_pairs(write(folder, "first,second,same", *lines))
  assert shown(found) == [(1, 2), (1, 3), (2, 1)]
  assert found.inputs.shape == (3, 3, 4, 1)  # each image once
  pairs = found.pairs
  assert pairs.same.tolist() == [True, False, True]
  assert pairs.similarity is None


def test_similarity_and_columns_in_any_order(folder):
  header = "\ufeffsimilarity,note,second,first"
  lines = ('0.25,"far, far",far/c.png,a.png', "1,,b.png,b.png")
  found = read_pairs(write(folder, header, *lines))
  assert shown(found) == [(1, 3), (2, 2)]
  pairs = found.pairs
  assert pairs.similarity.tolist() == [0.25, 1]
  assert pairs.similarity.dtype == np.float32
  assert pairs.same is None


@pytest.mark.parametrize(
  "lines",
  [
    ("first, second, same", "a.png, b.png, 1", "b.png, far/c.png, 0"),
    ("First,SECOND,Same", "a.png,b.png,TRUE", "b.png,far/c.png,False"),
    ("first;second;same", "a.png;b.png;1", "b.png;far/c.png;0"),
    ("first\tsecond\tsame", "a.png\tb.png\t1.0", "b.png\tfar/c.png\t0.0"),
    ("note,first,second,same", "x;y;z;w,a.png,b.png,1", ",b.png,far/c.png,0"),
    ("first , second,same ", '"a.png",b.png ,1 ', 'b.png, "far/c.png",0'),
  ],
)
def test_what_spreadsheets_and_tables_write_is_read(folder, lines):
  found = read_pairs(write(folder, *lines))
  assert shown(found) == [(1, 2), (2, 3)]
  assert found.pairs.same.tolist() == [True, False]


def test_gray_files_beside_colored_ones(folder, data_config):
  """Like gray images among color images: resizing gives them three channels."""
  Image.new("RGB", (4, 3), (9, 8, 7)).save(folder / "d.png")
  for part, other in (("train", "b"), ("validation", "b"), ("test", "d")):
    lines = ["first,second,same", f"a.png,{other}.png,1"]
    (folder / f"{part}.csv").write_text("\n".join(lines))
  with_gray = {"data_dir": str(folder), "image_size": (3, 4)}
  config = data_config("pairs_csv", "files", "open-set", **with_gray)
  with pytest.warns(UserWarning, match="also in"):  # a.png is in all
    splits = data.load(config)
  assert splits.train.inputs.shape == (2, 3, 4, 3)
  assert splits.train.inputs[1].max() == 2 == splits.train.inputs[1].min()
  (folder / "test.csv").write_text("first,second,same\nd.png,d.png,1\n")
  config = data_config("pairs_csv", "files", "open-set", data_dir=str(folder))
  with pytest.raises(InputError, match="three channels"):
    data.load(config)


def test_sizes_that_differ_need_a_size(folder):
  Image.new("L", (8, 8), 9).save(folder / "b.png")
  path = write(folder, "first,second,same", "a.png,b.png,1")
  with pytest.raises(
    InputError, match=r"a\.png is 3×4 gray, .*b\.png is 8×8 gray"
  ):
    read_pairs(path)
  assert read_pairs(path, (2, 2)).inputs.shape == (2, 2, 2, 1)


@pytest.mark.parametrize(
  ("lines", "message"),
  [
    (
      ["first,second,same", "a.png,b.png,1", "a.png,d.png,1"],
      r"line 3.*d\.png",
    ),
    (["first,second,same", "a.png,far,1"], r"line 2: there is no image .*far"),
    (["first,second,same", "a.png,b.png,2"], "line 2: same='2'; it takes 1 or"),
    (
      ["first,second,similarity", "a.png,b.png,1.5"],
      "line 2: similarity='1.5'",
    ),
    (["first,second,similarity", "a.png,b.png,-.1"], "from 0 to 1"),
    (["first,second,similarity", "a.png,b.png,nan"], "from 0 to 1"),
    (["first,second,similarity", "a.png,b.png,high"], "from 0 to 1"),
    (["first,second", "a.png,b.png"], "columns first, second; it takes"),
    (["first,same", "a.png,1"], "columns first, same; it takes"),
    (["a.png,b.png,1"], r"columns a\.png, b\.png, 1; it takes"),
    (["first,second,same,similarity", "a.png,b.png,1,1"], "one of same and"),
    (
      ["first,second,same", "a.png,b.png"],
      "line 2: it takes one value in each",
    ),
    (["first,second,same", "a.png,,1"], "line 2: it takes one value in each"),
    (["first,second,same", "a.png,b.png,1,0"], "line 2: it takes one value"),
    (["first,second,same"], "holds no pairs"),
    (["First,first,second,same", "a,a,b,1"], "the column first twice"),
    (["first|second|same", "a.png|b.png|1"], "columns first|second|same; it"),
    ([], r"columns \(none\)"),
    (["first,second,same", '"a.png,b.png,1'], "cannot read the pairs"),
  ],
)
def test_a_line_that_cannot_be_used_is_named(folder, lines, message):
  with pytest.raises(InputError, match=message):
    read_pairs(write(folder, *lines))


def test_files_that_cannot_be_read(folder):
  with pytest.raises(InputError, match=r"cannot read the pairs .*none\.csv"):
    read_pairs(folder / "none.csv")
  (folder / "pairs.csv").write_bytes(b"first,second,same\n\xff\xfe,b.png,1\n")
  with pytest.raises(InputError, match=r"cannot read the pairs .*pairs\.csv"):
    read_pairs(folder / "pairs.csv")
