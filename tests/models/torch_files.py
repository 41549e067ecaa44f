"""Files in the format of `torch.save`, made without torch.

If torch is installed, `test_weights.py` compares our reading of them with that
of torch.
"""

import io
import struct
import zipfile

import numpy as np

STORAGES = {
  "float32": "FloatStorage",
  "float64": "DoubleStorage",
  "float16": "HalfStorage",
  "bfloat16": "BFloat16Storage",
  "int64": "LongStorage",
}


def text(value):
  return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def number(value):
  return b"J" + struct.pack("<i", value)


def name(module, attribute):
  return f"c{module}\n{attribute}\n".encode()


def many(*parts):
  """A pickled tuple."""
  return b"(" + b"".join(parts) + b"t"


def storage(key, dtype, count, legacy=False):
  parts = [text("storage"), name("torch", STORAGES[dtype]), text(key)]
  parts += [text("cpu"), number(count), *([b"N"] if legacy else [])]
  return many(*parts) + b"Q"


def tensor(of, shape, strides, offset=0):
  """A call of the torch function that rebuilds a tensor from a storage."""
  sizes = (many(*map(number, each)) for each in (shape, strides))
  hooks = name("collections", "OrderedDict") + b")R"
  return (
    name("torch._utils", "_rebuild_tensor_v2")
    + many(of, number(offset), *sizes, b"\x89", hooks)
    + b"R"
  )


def mapping(items):
  """An OrderedDict from strings to pickles."""
  inner = b"".join(text(key) + value for key, value in items.items())
  return name("collections", "OrderedDict") + b")R(" + inner + b"u"


def whole(pickle):
  return b"\x80\x02" + pickle + b"."


def steps(array):
  return [step // array.itemsize for step in array.strides]


def tensors_of(arrays, legacy):
  """The pickle of each array, with its strides; and the storages."""
  pickles, blobs = {}, {}
  for number_, (key, array) in enumerate(arrays.items()):
    # The whole memory: that of an array that this one may be a view of.
    memory = np.ravel(array if array.base is None else array.base, "K")
    of = storage(str(number_), array.dtype.name, memory.size, legacy)
    pickles[key] = tensor(of, array.shape, steps(array))
    blobs[str(number_)] = memory
  return pickles, blobs


def zip_of(pickle, blobs):
  """The zip around a pickle."""
  file = io.BytesIO()
  with zipfile.ZipFile(file, "w") as archive:
    archive.writestr("weights/data.pkl", whole(pickle))
    archive.writestr("weights/version", "3\n")
    archive.writestr("weights/byteorder", "little")
    for key, memory in blobs.items():
      archive.writestr(f"weights/data/{key}", memory.tobytes())
  return file.getvalue()


def legacy_of(pickle, blobs):
  """The file of torch before 1.6 around a pickle."""
  system = b"}(" + text("little_endian") + b"\x88" + b"u"
  keys = b"](" + b"".join(map(text, blobs)) + b"e"
  magic = 0x1950A86A20F9469CFC6C.to_bytes(10, "little")
  parts = [b"\x8a\x0a" + magic, number(1001), system, pickle, keys]
  numbers = [struct.pack("<q", x.size) + x.tobytes() for x in blobs.values()]
  return b"".join(map(whole, parts)) + b"".join(numbers)


def saved(arrays, *, legacy=False):
  """The bytes of a state dict of these arrays."""
  pickles, blobs = tensors_of(arrays, legacy)
  return (legacy_of if legacy else zip_of)(mapping(pickles), blobs)
