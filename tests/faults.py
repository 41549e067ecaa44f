"""Faults of a disk, for tests: in a system call, and in a file.

    with Disk(Fault("write", "result.json", errno.EIO)):
      train(config, folder)

A fault waits for the n-th operation on a file whose name contains a text. Then
the operation fails with an errno; or half of it happens first; or the process
is killed: from then on, no operation changes the disk, and `Killed` is raised,
so that a test need not start a process.
"""

import builtins
import collections
import contextlib
import errno
import io
import os
import pathlib
import shutil
from typing import NamedTuple

OPERATIONS = ("open", "write", "fsync", "rename", "unlink")


class Fault(NamedTuple):
  """A fault to inject.

  name: a text in the name of the file; a temporary file counts under the name
    that it gets.
  error: the errno; None kills.
  nth: the number of the matching operation that fails, from 1.
  half: for a write, half of the bytes are written; for a rename, the new file
    appears with half of its bytes.
  """

  operation: str | None
  name: str
  error: int | None = errno.EIO
  nth: int = 1
  half: bool = False


class Killed(BaseException):
  """Raised where the process would be dead."""


class Disk(contextlib.ExitStack):
  """A disk, with or without a fault; it counts the operations on each file.

  fired: whether the fault has happened.
  fitting: the number of matching operations so far.
  """

  def __init__(self, fault=None, kill=lambda: None, tell=lambda: None):
    """`tell` is called when the fault happens, and `kill` if it kills.

    If `kill` returns, `Killed` is raised.
    """
    super().__init__()
    self.fault, self.fired, self.is_dead = fault, False, False
    self._kill, self._tell = kill, tell
    self.seen = collections.Counter()
    self.fitting = 0
    self._names = {}

  def __enter__(self):
    """Intercepts the calls from Python to the system."""
    for module, name, made in (
      (io, "open", self._open),
      (builtins, "open", self._open),
      (os, "open", self._os_open),
      (os, "fsync", self._fsync),
      (os, "replace", self._replace),
      (os, "rename", self._replace),
      (os, "unlink", self._unlink),
    ):
      real = getattr(module, name)
      setattr(module, name, made(real))
      self.callback(setattr, module, name, real)
    return super().__enter__()

  def meet(self, operation, path, half=lambda: None):
    """Counts an operation; fails if it is the chosen one."""
    name = pathlib.Path(os.fsdecode(path)).name
    self.seen[operation, name.lstrip(".").partition("-")[0]] += 1
    if self.is_dead:
      raise Killed
    fault = self.fault
    if fault is None or fault.operation not in (None, operation):
      return
    if fault.name not in name:
      return
    self.fitting += 1
    if self.fitting != fault.nth:
      return
    self.fired = True
    self._tell()
    if fault.half:
      half()
    if fault.error is None:
      self._kill()
      self.is_dead = True
      raise Killed
    raise OSError(fault.error, os.strerror(fault.error))

  def _open(self, real):
    def opened(file, mode="r", *args, **options):
      writes = set(mode) & set("wax+")
      # Temporary files have an opener, which is `os.open`.
      if isinstance(file, str | os.PathLike) and options.get("opener") is None:
        if writes:
          self.meet("open", file)
        else:
          self._meet_reading(file)
      found = real(file, mode, *args, **options)
      if options.get("opener") is None:
        self._names[found.fileno()] = file
      return _File(found, self) if writes else found

    return opened

  def _meet_reading(self, file):
    if self.fault is not None and self.fault.operation == "read":
      self.meet("read", file)

  def _os_open(self, real):
    def opened(path, flags, *args, **options):
      if flags & (os.O_WRONLY | os.O_RDWR) and isinstance(path, str):
        self.meet("open", path)
      found = real(path, flags, *args, **options)
      self._names[found] = path
      return found

    return opened

  def _fsync(self, real):
    def synced(file):
      self.meet("fsync", self._names.get(file, ""))
      real(file)

    return synced

  def _replace(self, real):
    def replaced(source, target):
      def half():
        if not pathlib.Path(source).is_dir():
          content = pathlib.Path(source).read_bytes()
          pathlib.Path(target).write_bytes(content[: len(content) // 2])

      self.meet("rename", target, half)
      real(source, target)

    return replaced

  def _unlink(self, real):
    def unlinked(path, **options):
      self.meet("unlink", path)
      real(path, **options)

    return unlinked


class _File:
  """A file that is written through `Disk`."""

  def __init__(self, file, disk):
    self._file, self._disk = file, disk

  def write(self, data):
    def half():
      self._file.write(data[: len(data) // 2])
      self._file.flush()

    self._disk.meet("write", str(self._file.name), half)
    return self._file.write(data)

  def __getattr__(self, name):
    return getattr(self._file, name)

  def __enter__(self):
    self._file.__enter__()
    return self

  def __exit__(self, *said):
    return self._file.__exit__(*said)

  def __iter__(self):
    return iter(self._file)


# --- In a file --------------------------------------------------------------


def flip(path, place=None):
  """Flips a bit: in the middle, or at a place."""
  content = bytearray(path.read_bytes())
  content[len(content) // 2 if place is None else place] ^= 1
  path.write_bytes(content)


def cut(path):
  """Cuts the file in half, as a full disk does."""
  content = path.read_bytes()
  path.write_bytes(content[: len(content) // 2])


def zeros(path):
  """Fills the end of the file with zeros, as after a power failure."""
  content = path.read_bytes()
  half = len(content) // 2
  path.write_bytes(content[:half] + bytes(len(content) - half))


def replaced_by(content):
  """Replaces the contents of the file."""
  return lambda path: path.write_bytes(content)


def swapped_with(other):
  """Replaces the file by another one."""
  return lambda path: shutil.copyfile(other, path)


# By what they do; each takes the path of a file.
DAMAGES = {
  "cut": cut,
  "zeros": zeros,
  "empty": replaced_by(b""),
  "removed": pathlib.Path.unlink,
  "not UTF-8": replaced_by(b'{"\xff": 1}\n'),
  "a list": replaced_by(b"[1, 2]\n"),
  "an empty object": replaced_by(b"{}\n"),
  "null": replaced_by(b"null\n"),
  "nested": replaced_by(100_000 * b"[" + 100_000 * b"]" + b"\n"),
}
