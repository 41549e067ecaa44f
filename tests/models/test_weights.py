"""Weights files: each format, damage, hostile content, names and axes."""

import io
import json
import os
import pickle
import struct

import ml_dtypes
import numpy as np
import pytest

from metric_learning.errors import InputError
from metric_learning.models import weights
from metric_learning.models.weights import Layout
from tests.models import torch_files as tf

RNG = np.random.default_rng(0)
ARRAYS = {
  "conv.weight": RNG.normal(size=(4, 3, 2, 2)).astype(np.float32),
  "fc.weight": RNG.normal(size=(5, 4)).astype(np.float32).T,
  "double": RNG.normal(size=3),
  "half": RNG.normal(size=(2, 2)).astype(np.float16),
  "brain": RNG.normal(size=6).astype(ml_dtypes.bfloat16),
  "count": np.array(7),
  "none": np.zeros((0, 3), np.float32),
}


def npz_of(arrays):
  file = io.BytesIO()
  np.savez(file, **arrays)
  return file.getvalue()


def safetensors_of(arrays, tmp_path):
  weights.write(tmp_path / "made", arrays)
  return (tmp_path / "made").read_bytes()


def read(data, tmp_path):
  (tmp_path / "file").write_bytes(data)
  return weights.read(tmp_path / "file")


MAKERS = {
  "zip": lambda arrays, _: tf.saved(arrays),
  "legacy": lambda arrays, _: tf.saved(arrays, legacy=True),
  # NumPy writes bfloat16 as nameless bytes.
  "npz": lambda arrays, _: npz_of(arrays),
  "safetensors": lambda arrays, _: safetensors_of(_without_brain(arrays), _),
}


def _without_brain(arrays):
  return {k: x for k, x in arrays.items() if k != "brain"}


@pytest.mark.parametrize("kind", MAKERS)
def test_every_format_gives_the_numbers_types_and_shapes(kind, tmp_path):
  arrays = ARRAYS if kind in ("zip", "legacy") else _without_brain(ARRAYS)
  found = read(MAKERS[kind](arrays, tmp_path), tmp_path)
  assert set(found) == set(arrays)
  for name, array in arrays.items():
    assert found[name].dtype == array.dtype, name
    assert found[name].shape == array.shape, name
    np.testing.assert_array_equal(found[name], array, name)


def test_bfloat16_of_safetensors(tmp_path):
  numbers = ARRAYS["brain"]
  header = json.dumps(
    {"x": {"dtype": "BF16", "shape": [2, 3], "data_offsets": [0, 12]}}
  ).encode()
  data = struct.pack("<Q", len(header)) + header + numbers.tobytes()
  found = read(data, tmp_path)["x"]
  np.testing.assert_array_equal(found, numbers.reshape(2, 3))


def test_views_share_a_storage(tmp_path):
  memory = np.arange(12, dtype=np.float32)
  of = tf.storage("0", "float32", 12)
  pickles = {
    "all": tf.tensor(of, (3, 4), (4, 1)),
    "column": tf.tensor(of, (3,), (4,), offset=1),
  }
  found = read(tf.zip_of(tf.mapping(pickles), {"0": memory}), tmp_path)
  np.testing.assert_array_equal(found["all"], memory.reshape(3, 4))
  np.testing.assert_array_equal(found["column"], [1, 5, 9])


@pytest.mark.parametrize("legacy", [False, True])
def test_the_state_dict_of_a_checkpoint_is_found(legacy, tmp_path):
  pickles, blobs = tf.tensors_of({"a": np.ones(2, np.float32)}, legacy)
  whole = {"epoch": tf.number(3), "state_dict": tf.mapping(pickles)}
  form = tf.legacy_of if legacy else tf.zip_of
  assert list(read(form(tf.mapping(whole), blobs), tmp_path)) == ["a"]


# --- What is not read --------------------------------------------------------

ONE = {"0": np.ones(4, np.float32)}
RUNS = tf.name("os", "system") + tf.many(tf.text("touch harm")) + b"R"
STORAGE = tf.storage("0", "float32", 4)
HOSTILE = {
  "a function of os": (RUNS, "'os.system', which could run code"),
  "a function of builtins": (tf.name("builtins", "eval"), "'builtins.eval'"),
  "a class of ours": (
    tf.name("metric_learning.models.weights.pickled", "_NAMES"),
    "could run code",
  ),
  "a submodule by dots": (
    tf.name("collections", "OrderedDict.fromkeys"),
    "could run code",
  ),
  "another torch function": (
    tf.name("torch._utils", "_rebuild_qtensor"),
    "'torch._utils._rebuild_qtensor'",
  ),
  "a name from the stack": (
    tf.text("os") + tf.text("system") + b"\x93",
    "instruction STACK_GLOBAL",
  ),
  "an instance": (b"(ios\nsystem\n", "instruction INST"),
  "an extension": (b"\x82\x01", "instruction EXT1"),
  "state of a function": (
    tf.name("torch._utils", "_rebuild_tensor_v2")
    + b"N}("
    + tf.text("__call__")
    + tf.number(1)
    + b"u\x86b",
    "damaged",
  ),
  "state of a storage type": (
    tf.name("torch", "FloatStorage") + tf.many(tf.number(1)) + b"b",
    "damaged",
  ),
  "a table that fills the memory": (b"Nr\xff\xff\xff\x7f", "damaged"),
  "one number a billion times": (
    tf.mapping({"x": tf.tensor(STORAGE, (1 << 30, 1 << 30), (0, 0))}),
    "larger than its storage",
  ),
  "beyond its storage": (
    tf.mapping({"x": tf.tensor(STORAGE, (2,), (1,), offset=3)}),
    "larger than its storage",
  ),
  "before its storage": (
    tf.mapping({"x": tf.tensor(STORAGE, (2,), (1,), offset=-1)}),
    "an invalid tensor",
  ),
  "a storage without end": (
    tf.mapping({"x": tf.tensor(tf.storage("0", "float32", 99), (99,), (1,))}),
    "damaged",
  ),
  "no dict": (tf.number(1), "no state_dict"),
  "a number among tensors": (tf.mapping({"x": tf.number(1)}), "x in it are no"),
}


@pytest.mark.parametrize("form", [tf.zip_of, tf.legacy_of])
@pytest.mark.parametrize("case", HOSTILE)
def test_what_is_not_tensors_is_refused_by_name(
  case, form, tmp_path, monkeypatch
):
  monkeypatch.chdir(tmp_path)
  pickle, message = HOSTILE[case]
  blobs = ONE if tf.text("storage") in pickle else {}
  with pytest.raises(InputError, match=message) as caught:
    read(form(pickle, blobs), tmp_path)
  assert str(tmp_path / "file") in str(caught.value)
  assert not (tmp_path / "harm").exists()


def test_a_tensor_of_no_numbers_may_lie_anywhere(tmp_path):
  empty = tf.tensor(STORAGE, (1, 0), (2**31 - 1, 2**31 - 1))
  found = read(tf.zip_of(tf.mapping({"x": empty}), ONE), tmp_path)
  assert found["x"].shape == (1, 0)


@pytest.mark.parametrize(
  ("data", "message"),
  [
    (b"", "not a weights file"),
    (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
    (b"<!DOCTYPE html>", "not a weights file"),
    (b"\x89HDF\r\n\x1a\n", "not a weights file"),
    (struct.pack("<Q", 2**40) + b"{", "damaged"),
    (b"\x80\x02}.", "a pickle, but neither one of torch.save nor"),
    (b"PK\x03\x04", "damaged"),
  ],
)
def test_other_files_are_refused(data, message, tmp_path):
  with pytest.raises(InputError, match=message):
    read(data, tmp_path)


def test_an_npz_of_objects_and_a_bomb_are_refused(tmp_path):
  with pytest.raises(InputError, match="objects"):
    read(npz_of({"x": np.array([{}], object)}), tmp_path)
  np.savez_compressed(tmp_path / "bomb.npz", x=np.zeros(10**6, np.float32))
  with pytest.raises(InputError, match="would unpack"):
    weights.read(tmp_path / "bomb.npz")
  with pytest.raises(InputError, match="cannot be read"):
    weights.read(tmp_path / "absent.npz")


@pytest.mark.parametrize("kind", MAKERS)
def test_damage_is_said_and_nothing_else_happens(kind, tmp_path):
  """Truncated or flipped anywhere: arrays, or a single `InputError`."""
  rng = np.random.default_rng(1)
  data = MAKERS[kind](_without_brain(ARRAYS), tmp_path)
  for cut in rng.integers(0, len(data), 60):
    with pytest.raises(InputError):
      read(data[:cut], tmp_path)
  for _ in range(150):
    flipped = bytearray(data)
    for place in rng.integers(0, len(data), rng.integers(1, 4)):
      flipped[place] ^= 1 << rng.integers(8)
    try:
      found = read(bytes(flipped), tmp_path)
    except InputError:
      continue
    assert all(isinstance(array, np.ndarray) for array in found.values())


def test_the_digest_goes_by_content(tmp_path):
  first, second = tmp_path / "a", tmp_path / "b"
  first.write_bytes(b"abc")
  second.write_bytes(b"abc")
  assert weights.digest_of(first) == weights.digest_of(second) == "ba7816bf8f01"
  second.write_bytes(b"abcd")
  assert weights.digest_of(second) != weights.digest_of(first)
  with pytest.raises(InputError, match="cannot be read"):
    weights.digest_of(tmp_path / "c")


@pytest.mark.parametrize("legacy", [False, True])
def test_files_of_torch_itself(legacy, tmp_path):
  torch = pytest.importorskip("torch")
  saved = {
    "matrix": torch.arange(12.0).reshape(3, 4).t(),
    "row": torch.arange(12.0).reshape(3, 4)[1],
    "half": torch.arange(3).to(torch.bfloat16),
    "count": torch.tensor(7),
    "parameter": torch.nn.Parameter(torch.ones(2, 2)),
  }
  path = tmp_path / "file.pth"
  torch.save(saved, path, _use_new_zipfile_serialization=not legacy)
  found = weights.read(path)
  for name, tensor in saved.items():
    expected = tensor.detach().to(torch.float64).numpy()
    np.testing.assert_array_equal(found[name].astype(float), expected, name)
  torch.save(torch.nn.Linear(2, 2), path)
  with pytest.raises(InputError, match=r"'torch\.nn\.modules\.linear\.Linear'"):
    weights.read(path)


# --- Other forms -------------------------------------------------------------


def numpys(value):
  """A pickle by NumPy itself, without frames, as other programs write it."""
  return pickle.dumps(value, protocol=3)


def test_a_pickle_of_arrays_is_read_without_running_it(tmp_path):
  arrays = {
    "conv": [RNG.normal(size=(2, 3)).astype(np.float32), np.arange(3)],
    "by columns": np.asfortranarray(RNG.normal(size=(2, 3))),
    "flags": np.array([True, False]),
  }
  found = read(numpys(arrays), tmp_path)
  assert list(found) == ["conv.0", "conv.1", "by columns", "flags"]
  for name, array in (
    ("conv.0", arrays["conv"][0]),
    ("conv.1", arrays["conv"][1]),
    ("by columns", arrays["by columns"]),
    ("flags", arrays["flags"]),
  ):
    np.testing.assert_array_equal(found[name], array)
    assert found[name].dtype == array.dtype


class Harm:
  def __reduce__(self):
    return os.system, ("touch harm",)


@pytest.mark.parametrize(
  ("value", "message"),
  [
    (Harm(), r"'(posix|nt)\.system', which could run code"),
    ({"x": np.array([{}], object)}, "damaged"),
    ({"x": np.array(["text"])}, "damaged"),
    ({"x": 1.5}, "neither one of torch.save nor a dict of NumPy"),
    ({}, "neither"),
    ({"x": np.zeros(3, [("a", "f4")])}, "damaged"),
    ({"x": np.arange(3).astype("datetime64[s]")}, "damaged"),
  ],
)
def test_pickles_of_other_things_are_refused(
  value, message, tmp_path, monkeypatch
):
  monkeypatch.chdir(tmp_path)
  with pytest.raises(InputError, match=message):
    read(numpys(value), tmp_path)
  assert not (tmp_path / "harm").exists()


def manifest(tmp_path, **changes):
  """A manifest of three tensors in two files, the second tensor in 8 bits."""
  numbers = RNG.normal(size=(2, 3)).astype("<f4")
  small = np.arange(4, dtype=np.uint8)
  scale = {"dtype": "uint8", "scale": 0.5, "min": -1.0}
  group = {
    "paths": ["one.bin", "two.bin"],
    "weights": [
      {"name": "a", "shape": [2, 3], "dtype": "float32"},
      {"name": "b", "shape": [4], "dtype": "float32", "quantization": scale},
      {"name": "c", "shape": [], "dtype": "int32"},
    ],
  }
  data = numbers.tobytes() + small.tobytes() + np.int32(7).tobytes()
  (tmp_path / "one.bin").write_bytes(data[:10])
  (tmp_path / "two.bin").write_bytes(data[10:])
  path = tmp_path / "x-weights_manifest.json"
  path.write_text(json.dumps([{**group, **changes}]))
  return path, numbers


def test_a_manifest_of_tensorflow_js(tmp_path):
  path, numbers = manifest(tmp_path)
  found = weights.read(path)
  np.testing.assert_array_equal(found["a"], numbers)
  np.testing.assert_array_equal(found["b"], [-1, -0.5, 0, 0.5])
  assert found["c"] == 7
  before = weights.digest_of(path)
  (tmp_path / "two.bin").write_bytes(bytes(len(numbers.tobytes()) - 2))
  path.touch()
  assert weights.digest_of(path) != before


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"paths": ["../one.bin"]}, r"names '\.\./one\.bin', which is not beside"),
    ({"paths": ["gone.bin"]}, r"in gone\.bin, which cannot .*beside it"),
    ({"paths": ["one.bin"]}, "its numbers end within 'a': fetch it again"),
    ({"weights": []}, "32 bytes follow its last tensor"),
    ({"weights": [{"name": "a", "shape": [-1], "dtype": "int32"}]}, "damaged"),
    ({"weights": [{"name": "a", "shape": [1], "dtype": "text"}]}, "damaged"),
  ],
)
def test_a_manifest_that_does_not_fit_its_files_is_refused(
  changes, message, tmp_path
):
  path, _ = manifest(tmp_path, **changes)
  with pytest.raises(InputError, match=message):
    weights.read(path)
  path.write_text('[{"weights": 1}')
  with pytest.raises(InputError, match=r"no manifest of TensorFlow\.js"):
    weights.read(path)


# --- Names and axes ----------------------------------------------------------

LAYOUT = Layout(
  {"conv": "features.0", r"block(\d)\.norm": r"bn\1"}, (r"fc\..*",)
)


def trees():
  shape = lambda *sizes: np.zeros(sizes, np.float32)
  params = {
    "conv": {"kernel": shape(2, 3, 4, 5)},
    "block1": {"norm": {"scale": shape(5), "bias": shape(5)}},
    "head": {"kernel": shape(5, 7)},
  }
  return params, {"block1": {"norm": {"mean": shape(5), "var": shape(5)}}}


def tensors():
  rng = np.random.default_rng(2)
  sizes = {
    "features.0.weight": (5, 4, 2, 3),
    "bn1.weight": (5,),
    "bn1.bias": (5,),
    "bn1.running_mean": (5,),
    "bn1.running_var": (5,),
    "fc.weight": (1000, 5),
  }
  return {name: rng.normal(size=size) for name, size in sizes.items()}


def test_names_and_axes_of_a_file_become_ours():
  given = tensors()
  params, stats = weights.fill(LAYOUT, trees(), given, "x")
  kernel = params["conv"]["kernel"]
  for i, j, cin, cout in np.ndindex(2, 3, 4, 5):
    theirs = given["features.0.weight"][cout, cin, i, j]
    assert kernel[i, j, cin, cout] == np.float32(theirs)
  norm = params["block1"]["norm"]
  np.testing.assert_allclose(norm["scale"], given["bn1.weight"], rtol=1e-6)
  np.testing.assert_allclose(norm["bias"], given["bn1.bias"], rtol=1e-6)
  moved = stats["block1"]["norm"]
  np.testing.assert_allclose(
    moved["mean"], given["bn1.running_mean"], rtol=1e-6
  )
  np.testing.assert_allclose(moved["var"], given["bn1.running_var"], rtol=1e-6)
  assert "head" not in params
  wrapped = {f"module.{name}": x for name, x in given.items()}
  again, _ = weights.fill(LAYOUT, trees(), wrapped, "x")
  np.testing.assert_array_equal(again["conv"]["kernel"], kernel)


def test_all_faults_are_in_one_message():
  given = tensors()
  del given["bn1.running_var"]
  given["bn1.bias"] = np.zeros(6)
  given["features.0.weight"][0, 0, 0, 0] = np.nan
  given["extra.weight"] = np.zeros(3)
  with pytest.raises(InputError) as caught:
    weights.fill(LAYOUT, trees(), given, "w.pth and some_net")
  message = str(caught.value)
  assert message.startswith("w.pth and some_net do not fit")
  assert "missing (1): bn1.running_var 5" in message
  assert "left over (1): extra.weight" in message
  assert "another shape (1): bn1.bias (6 there, 5 wanted)" in message
  assert "not finite (1): features.0.weight" in message
  assert "fc." not in message


def test_the_file_of_another_network_has_no_name_that_fits():
  with pytest.raises(InputError, match="no name fits"):
    weights.fill(LAYOUT, trees(), {"a": np.zeros(1)}, "x")


# --- In a package ------------------------------------------------------------


@pytest.fixture
def install(tmp_path, monkeypatch):
  """A function that installs a package of this name with these files."""
  monkeypatch.syspath_prepend(tmp_path)

  def done(name, files):
    folder = tmp_path / f"{name}-1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(
      f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n"
    )
    for path, content in files.items():
      (tmp_path / path).write_bytes(content)
    (folder / "RECORD").write_text("".join(f"{path},,\n" for path in files))

  return done


def test_the_file_in_a_package_is_read(install, tmp_path):
  arrays = _without_brain(ARRAYS)
  install("trunk", {"trunk.npz": npz_of(arrays), "readme.txt": b"of it"})
  found = weights.read("package:trunk")
  assert found.keys() == arrays.keys()
  np.testing.assert_array_equal(found["double"], arrays["double"])
  digest = weights.digest_of(tmp_path / "trunk.npz")
  assert weights.digest_of("package:trunk") == digest


@pytest.mark.parametrize(
  ("name", "said"),
  [
    ("missing", "package:missing: no package 'missing' is installed: pip inst"),
    ("", "package:: no package '' is installed"),
    ("two", r"one weights file, and it holds a\.pth, b\.pth: give the path"),
    ("code", "one weights file, and it holds none"),
  ],
)
def test_a_package_without_one_file_is_refused(install, name, said):
  install("two", {"a.pth": b"", "b.pth": b""})
  install("code", {"code.py": b""})
  for function in (weights.read, weights.digest_of):
    with pytest.raises(InputError, match=said):
      function(f"package:{name}")
