"""Forward passes in float64 NumPy, from papers, with the names of the files.

Weights are drawn when they are first used; the used weights make up the file.
"""

import math

import numpy as np


class Drawn(dict):
  """The tensors of a file, each drawn at random when it is first used."""

  def __init__(self, seed):
    super().__init__()
    self.rng = np.random.default_rng(seed)

  def take(self, name, shape, low=None, high=None):
    if low is None:
      high = (3 / math.prod(shape[1:])) ** 0.5  # a variance of 1 / inputs
      low = -high
    self[name] = self.rng.uniform(low, high, shape).astype(np.float32)
    return self[name].astype(np.float64)


def convolve(x, kernel, stride, pads, groups=1):
  """[n, c, h, w] with OIHW; `pads` is (before, after) for height and width."""
  x = np.pad(x, ((0, 0), (0, 0), *pads))
  size = kernel.shape[2:]
  if x.shape[2] < size[0] or x.shape[3] < size[1]:  # there is no place for it
    places = (
      max(0, (x.shape[i + 2] - size[i]) // stride + 1) for i in range(2)
    )
    return np.zeros((len(x), len(kernel), *places))
  windows = np.lib.stride_tricks.sliding_window_view(x, size, (2, 3))
  windows = windows[:, :, ::stride, ::stride]
  if groups == 1:
    return np.einsum("nchwij,ocij->nohw", windows, kernel, optimize=True)
  return np.einsum("nchwij,cij->nchw", windows, kernel[:, 0], optimize=True)


def same(length, size, stride):
  """TensorFlow's padding: the least for ⌈length / stride⌉, less before."""
  whole = max((math.ceil(length / stride) - 1) * stride + size - length, 0)
  return whole // 2, whole - whole // 2


def normalize(x, drawn, name, epsilon):
  c = x.shape[1]
  mean = drawn.take(f"{name}.running_mean", (c,), -0.5, 0.5)
  var = drawn.take(f"{name}.running_var", (c,), 0.2, 1.0)
  scale = drawn.take(f"{name}.weight", (c,), 0.5, 1.5)
  bias = drawn.take(f"{name}.bias", (c,), -0.5, 0.5)
  drawn[f"{name}.num_batches_tracked"] = np.array(3)
  at = lambda values: values[:, None, None]
  return (x - at(mean)) / np.sqrt(at(var) + epsilon) * at(scale) + at(bias)


def relu6(x):
  return np.clip(x, 0, 6)


def efficientnet_lite0(values, drawn):
  """[n, 1280, h, w] from values 0 to 255, [n, 3, h, w]."""

  def conv(x, name, norm, cout, size, stride, groups=1):
    shape = (cout, x.shape[1] // groups, size, size)
    pads = [same(length, size, stride) for length in x.shape[2:]]
    kernel = drawn.take(f"{name}.weight", shape)
    x = convolve(x, kernel, stride, pads, groups)
    return normalize(x, drawn, norm, 1e-3)

  x = relu6(conv((values - 127) / 128, "_conv_stem", "_bn0", 32, 3, 2))
  # Tan & Le, table 1: blocks, kernel, stride, expansion, channels.
  table = """1 3 1 1 16, 2 3 2 6 24, 2 5 2 6 40, 3 3 2 6 80,
             3 5 1 6 112, 4 5 2 6 192, 1 3 1 6 320"""
  number = 0
  for row in table.split(","):
    count, size, stride, expansion, channels = map(int, row.split())
    for i in range(count):
      at, y = f"_blocks.{number}.", x
      wide = x.shape[1] * expansion
      if expansion > 1:
        y = relu6(conv(y, f"{at}_expand_conv", f"{at}_bn0", wide, 1, 1))
      by = 1 if i else stride
      names = f"{at}_depthwise_conv", f"{at}_bn1"
      y = relu6(conv(y, *names, wide, size, by, groups=wide))
      y = conv(y, f"{at}_project_conv", f"{at}_bn2", channels, 1, 1)
      x = x + y if by == 1 and x.shape == y.shape else y
      number += 1
  drawn.take("_fc.weight", (1000, 1280))
  drawn.take("_fc.bias", (1000,), 0, 1)
  return relu6(conv(x, "_conv_head", "_bn1", 1280, 1, 1))


def affine(x, weight, bias):
  return x * weight[:, None, None] + bias[:, None, None]


def standard(values):
  column = lambda numbers: np.array(numbers)[:, None, None]
  return (values / 255 - column([0.485, 0.456, 0.406])) / column(
    [0.229, 0.224, 0.225]
  )


def largest(x):
  """The maximum of 3×3 at every second position inside; 0 beyond the edge."""
  beyond = [(0, 1 - length % 2) for length in x.shape[2:]]
  x = np.pad(x, ((0, 0), (0, 0), *beyond))
  windows = np.lib.stride_tricks.sliding_window_view(x, (3, 3), (2, 3))
  return windows[:, :, ::2, ::2].max((-1, -2))


def squeezenet(values, drawn):
  """[n, 512, h, w]; Iandola et al., version 1.1; torchvision's names."""

  def conv(x, name, cout, size, stride=1):
    # Twice the usual variance: no normalization undoes what ReLU takes away.
    shape = (cout, x.shape[1], size, size)
    spread = (6 / math.prod(shape[1:])) ** 0.5
    kernel = drawn.take(f"{name}.weight", shape, -spread, spread)
    bias = drawn.take(f"{name}.bias", (cout,), -0.1, 0.1)
    pads = [(size // 2 if stride == 1 else 0,) * 2] * 2
    x = convolve(x, kernel, stride, pads)
    return np.maximum(x + bias[:, None, None], 0)

  x = conv(standard(values), "features.0", 64, 3, 2)
  rows = ((3, 16), (4, 16)), ((6, 32), (7, 32))
  for row in (*rows, ((9, 48), (10, 48), (11, 64), (12, 64))):
    x = largest(x)
    for number, narrow in row:
      at = f"features.{number}."
      y = conv(x, f"{at}squeeze", narrow, 1)
      sides = [
        conv(y, f"{at}expand{size}x{size}", 4 * narrow, size) for size in (1, 3)
      ]
      x = np.concatenate(sides, axis=1)
  drawn.take("classifier.1.weight", (1000, 512, 1, 1))
  drawn.take("classifier.1.bias", (1000,), 0, 1)
  return x


def dlib_face(values, drawn):
  """[n, 128, 1, 1]; faceRecognitionNet of face-api.js, its names and axes."""

  def conv(x, name, cout, size, stride=1):
    spread = (3 / (x.shape[1] * size**2)) ** 0.5
    shape = (size, size, x.shape[1], cout)
    kernel = drawn.take(f"{name}/conv/filters", shape, -spread, spread)
    pads = [(size // 2 if stride == 1 else 0,) * 2] * 2
    x = convolve(x, kernel.transpose(3, 2, 0, 1), stride, pads)
    x = x + drawn.take(f"{name}/conv/bias", (cout,), -0.1, 0.1)[:, None, None]
    return affine(
      x,
      drawn.take(f"{name}/scale/weights", (cout,), 0.5, 1.5),
      drawn.take(f"{name}/scale/biases", (cout,), -0.5, 0.5),
    )

  relu = lambda x: np.maximum(x, 0)
  mean = np.array([122.782, 117.001, 104.298])[:, None, None]
  x = relu(conv((values - mean) / 255, "conv32_down", 32, 7, 2))
  windows = np.lib.stride_tricks.sliding_window_view(x, (3, 3), (2, 3))
  x = windows[:, :, ::2, ::2].max((-1, -2))
  order = """32_1 32_2 32_3 64_down 64_1 64_2 64_3 128_down 128_1 128_2
             256_down 256_1 256_2 256_down_out"""
  for name in order.split():
    cout, halves = int(name.split("_")[0]), "down" in name
    y = relu(conv(x, f"conv{name}/conv1", cout, 3, 2 if halves else 1))
    y = conv(y, f"conv{name}/conv2", cout, 3)
    if halves:
      h, w = (length // 2 * 2 for length in x.shape[2:])
      x = x[:, :, :h, :w]
      x = x.reshape(*x.shape[:2], h // 2, 2, w // 2, 2).mean((3, 5))
      whole = np.zeros((len(x), cout, *x.shape[2:]))
      whole[:, : x.shape[1]] = x
      x, small = whole, y
      y = np.zeros_like(x)
      y[:, :, : small.shape[2], : small.shape[3]] = small
    x = relu(x + y)
  dense = drawn.take("fc", (256, 128), -0.1, 0.1)
  return (x.mean((2, 3)) @ dense)[:, :, None, None]


def resnet(values, drawn, counts, bottleneck):
  """[n, c, h, w] from values 0 to 255; He et al., table 1; v1.5."""

  def conv(x, name, norm, cout, size, stride=1):
    pads = [(size // 2, size // 2)] * 2
    kernel = drawn.take(f"{name}.weight", (cout, x.shape[1], size, size))
    return normalize(convolve(x, kernel, stride, pads), drawn, norm, 1e-5)

  relu = lambda x: np.maximum(x, 0)
  x = standard(values)
  x = relu(conv(x, "conv1", "bn1", 64, 7, 2))
  x = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))  # nothing is below 0
  windows = np.lib.stride_tricks.sliding_window_view(x, (3, 3), (2, 3))
  x = windows[:, :, ::2, ::2].max((-1, -2))
  for group, count in enumerate(counts, start=1):
    for i in range(count):
      at, width = f"layer{group}.{i}.", 32 * 2**group
      stride = 2 if i == 0 and group > 1 else 1
      y = x
      sizes = [(3, width, stride), (3, width, 1)]
      if bottleneck:
        sizes = [(1, width, 1), (3, width, stride), (1, 4 * width, 1)]
      for part, (size, cout, by) in enumerate(sizes, start=1):
        y = conv(y, f"{at}conv{part}", f"{at}bn{part}", cout, size, by)
        y = y if part == len(sizes) else relu(y)
      if x.shape != y.shape:
        names = f"{at}downsample.0", f"{at}downsample.1"
        x = conv(x, *names, y.shape[1], 1, stride)
      x = relu(x + y)
  drawn.take("fc.weight", (1000, x.shape[1]))
  drawn.take("fc.bias", (1000,), 0, 1)
  return x
