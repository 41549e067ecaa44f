"""Shared parts of the scripts: flags, and helpful error messages."""

import ast
import contextlib
import errno
import functools
import importlib.util
import logging
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

import absl.logging
import jax
from absl import app, flags
from ml_collections import ConfigDict, config_flags

from metric_learning.data import cache
from metric_learning.errors import InputError, check_choice
from metric_learning.plugins import import_modules
from metric_learning.training import NotFiniteError, override, stopping
from metric_learning.training.config import (
  check_no_section,
  is_name,
  place_of,
  set_field,
)
from metric_learning.training.processes import LostError

# Flags that functions here define belong to the calling script, also in --help.
flags.disclaim_key_flags()


class _PathParser(flags.ArgumentParser[str]):
  """A path with ~ expanded, since shells do not expand it after an =."""

  def parse(self, argument: str) -> str:
    return os.path.expanduser(argument)


def define_path(name: str, default: str | None, usage: str) -> Any:
  """Defines a flag whose value is the path of a file or folder."""
  return flags.DEFINE(_PathParser(), name, default, usage)


def define_paths(name: str, usage: str) -> Any:
  """Defines a flag that may be given several times, each with a path."""
  return flags.DEFINE_multi(
    _PathParser(), flags.ArgumentSerializer(), name, None, usage
  )


class _ConfigParser(flags.ArgumentParser[ConfigDict]):
  """Loads a config file, with the losses, networks, … that flags name.

  The fields of these are then flags as well.
  """

  def parse(self, argument: str) -> ConfigDict:
    path, *loss = os.path.expanduser(argument).split(":", 1)
    try:
      config = _module_at(path).get_config(*loss)
    except OSError as error:
      raise InputError(
        f"--config={argument}: no such file, or it cannot be loaded."
      ) from error
    except InputError:
      raise
    except (TypeError, ValueError) as error:
      _check_sections(error)
      # The parser of flags would keep only the message, without the traceback.
      raise RuntimeError(f"{path} cannot be loaded.") from error
    return _with_flags(config).lock()


@functools.cache
def _module_at(path: str) -> ModuleType:
  """The module in a file; the file is run only once."""
  spec = importlib.util.spec_from_file_location(Path(path).stem, path)
  if spec is None or spec.loader is None:
    raise FileNotFoundError(path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


def _check_sections(error: Exception) -> None:
  """Checks whether a config file failed because it set a section to a value.

  The error of the library gives only the last part of the name. The full name
  is found from the configs in the local variables of the traceback.

  Raises:
    InputError: if the file set a section; the message names one of its fields.
  """
  configs: list[ConfigDict] = []
  for frame, _ in traceback.walk_tb(error.__traceback__):
    variables = frame.f_locals
    if frame.f_code is ConfigDict.__setitem__.__code__:
      place, key = variables["self"], variables["key"]
      for config in configs:
        section = _path_to(config, place)
        if section is not None:
          check_no_section(f"{section}{key}", place.get(key))
    configs += [x for x in variables.values() if isinstance(x, ConfigDict)]


def _path_to(config: ConfigDict, place: ConfigDict) -> str | None:
  """The name of a section with a final dot; None if it is not in the config."""
  if config is place:
    return ""
  for name, value in config.items():
    if isinstance(value, ConfigDict):
      rest = _path_to(value, place)
      if rest is not None:
        return f"{name}.{rest}"
  return None


def _with_flags(config: ConfigDict) -> ConfigDict:
  """The config with the names that flags set, so that their fields are flags.

  Raises:
    InputError: if a flag sets a section or a field that does not exist.
  """
  given = _fields_given()
  names = [field for field in given if field == "imports" or is_name(field)]
  with config.unlocked():
    if "imports" in given:
      import_modules(_value("imports", given["imports"]))
    for field in sorted(given, key=lambda field: field not in names):
      # Also adds a field of an open section, or a further loss.
      inside, name = place_of(config, field)
      check_no_section(field, inside[name])
      if field in names:
        set_field(config, field, _value(field, given[field]))
  return config


def _value(field: str, text: str) -> Any:
  """The value of a flag: a string, or a tuple of strings for `imports`."""
  if field != "imports":
    return text
  return ast.literal_eval(text) if text.startswith("(") else (text,)


def _fields_given() -> dict[str, str]:
  """The fields of the config that flags set, and the last value of each."""
  given = {}
  for argument, following in zip(
    sys.argv[1:], [*sys.argv[2:], ""], strict=True
  ):
    flag, equals, value = argument.partition("=")
    if re.match(r"--?config\.", flag):
      field = flag.partition(".")[2].partition("[")[0]  # columns[0]
      given[field] = value if equals else following
  return given


def define_config() -> Any:
  """Defines --config=FILE[:LOSS] and an override for each of its fields."""
  holder = config_flags.DEFINE_config_file(
    "config",
    None,
    "A config file, optionally with a loss after a colon:"
    " configs/glyphs.py:supcon. Each field is a flag:"
    " --config.loss.temperature=0.05.",
  )
  flags.FLAGS[holder.name].parser = _ConfigParser()
  return holder


def config_value(flag: Any) -> ConfigDict:
  """The config that --config names.

  A loss or network that a flag names has its own defaults, as in a sweep.

  Raises:
    InputError: if --config is not given.
  """
  if flag.value is None:
    raise InputError("which config? --config=configs/glyphs.py, for example.")
  return flag.value


def config_module() -> ModuleType:
  """The module of --config, which defines its SWEEPS."""
  name = config_flags.get_config_filename(flags.FLAGS["config"])
  return _module_at(os.path.expanduser(name).split(":")[0])


def with_reference(config: ConfigDict, sweep: Callable[..., Any]) -> ConfigDict:
  """The config with the reference of the sweep, unless it names one itself.

  The sweep also sets whether hyperparameters are chosen on validation.
  """
  # A plain generator has no reference, and its hyperparameters are chosen.
  if not getattr(sweep, "choose", True):
    config = override(config, {"study.choose": False})
  if config.study.reference:
    return config
  return override(config, {"study.reference": getattr(sweep, "reference", {})})


def define_launcher() -> dict[str, Any]:
  """Defines the flags that set where runs train, and how many at once."""
  from metric_learning.study.launchers import LAUNCHERS

  options = {
    name: option
    for launcher in LAUNCHERS.values()
    for name, option in launcher.options.items()
  }
  where = "; ".join(f"{name}: {x.usage}" for name, x in LAUNCHERS.items())
  return {
    "launcher": flags.DEFINE_string("launcher", "local", f"{where}."),
    "population": flags.DEFINE_string(
      "population",
      "auto",
      "on: runs that differ only in numbers and seeds train as one program;"
      " off: they do not; auto: they do on devices where that was measured to"
      " be faster, which excludes CPUs.",
    ),
    "members": flags.DEFINE_integer(
      "members", 32, "The most runs of one population."
    ),
    **{name: _define_option(name, option) for name, option in options.items()},
  }


def _define_option(name: str, option: Any) -> Any:
  """Defines a flag of one launcher; its default is None."""
  if option.type is str:
    return flags.DEFINE_string(name, None, option.usage)
  is_integer = option.type is int
  define: Any = flags.DEFINE_integer if is_integer else flags.DEFINE_float
  return define(name, None, option.usage, option.least)


def launch_options(launcher: dict[str, Any]) -> dict[str, Any]:
  """Keywords of `run_study` that flags set; also starts launcher and device.

  Call this before JAX starts threads, since Ray forks the process.

  Raises:
    InputError: if the launcher is unknown, or its extra is not installed.
  """
  from metric_learning.study import check_population, start_launcher
  from metric_learning.study.launchers import LAUNCHERS

  options = {name: flag.value for name, flag in launcher.items()}
  check_choice("launcher", options["launcher"], LAUNCHERS)
  for name in {name for x in LAUNCHERS.values() for name in x.options}:
    owners = [place for place, x in LAUNCHERS.items() if name in x.options]
    if options[name] is None:
      del options[name]
    elif options["launcher"] not in owners:
      raise InputError(
        f"--{name} is an option of --launcher={' or '.join(owners)}."
      )
  check_population(options["population"], options["members"])
  start_launcher(options["launcher"])
  start_device()
  return options


def start_device() -> None:
  """Prints the device, warns of an unused one, and calls `keep_programs`."""
  device = jax.devices()[0]
  kind, count = device.device_kind, len(jax.devices())
  print(f"device: {count} x {kind}", flush=True)
  if jax.default_backend() == "cpu" and (warning := unused_accelerator()):
    print(f"warning: {warning}", file=sys.stderr)
  keep_programs()


def unused_accelerator(
  devices: Path = Path("/dev"), environment: Mapping[str, str] = os.environ
) -> str:
  """A warning about an accelerator that JAX does not use; empty without one.

  It is also empty if JAX_PLATFORMS is cpu.

  >>> unused_accelerator(Path("/nowhere"))
  ''
  """
  if environment.get("JAX_PLATFORMS", "") == "cpu":
    return ""
  for pattern, device, extra in (
    ("nvidia[0-9]*", "an NVIDIA GPU", "cuda"),
    ("accel[0-9]*", "a TPU", "tpu"),
  ):
    if any(devices.glob(pattern)):
      return (
        f"JAX does not use {device} of this machine: pip install"
        f" 'metric-learning[{extra}]', or set JAX_PLATFORMS=cpu."
      )
  return ""


def keep_programs() -> None:
  """Caches compiled programs for later processes, on an accelerator.

  This halves the start of a process. A CPU has no cache unless
  JAX_COMPILATION_CACHE_DIR is set: on many processors XLA rejects programs of
  the same machine, with one error each (github.com/openxla/xla/issues/44565);
  and if machines share a home folder, it may run programs of another machine
  (SIGILL).
  """
  name = "jax_compilation_cache_dir"
  if getattr(jax.config, name) is None and jax.default_backend() != "cpu":
    jax.config.update(name, str(cache.folder() / "programs"))


def define_pair() -> Any:
  """Defines --pair=FIELD=VALUE,REFERENCE, for comparisons in pairs of cells."""
  return flags.DEFINE_string(
    "pair",
    None,
    "FIELD=VALUE,REFERENCE, such as metric.name=l1,l2: compares each cell of"
    " the first value with the otherwise identical cell of the second, and"
    " corrects for these comparisons only.",
  )


def scored(folder: Path, pair: str | None = None) -> Any:
  """A study with the test scores of its chosen runs, or its pairs of cells.

  Raises:
    InputError: if the folder is not a study, or if it does not have the pair.
  """
  from metric_learning.study import only_here, read_study, score_chosen
  from metric_learning.study.comparisons import in_pairs

  study = read_study(folder)
  if pair is not None:
    match = re.fullmatch(r"([^=,]+)=([^=,]+),([^=,]+)", pair)
    if not match:
      raise InputError(
        f"--pair={pair}: give a field and two of its values, as in"
        " --pair=metric.name=l1,l2."
      )
    study = in_pairs(study, *match.groups())
  with only_here(folder):
    return score_chosen(study)


def report(
  folder: Path,
  *,
  strict: bool = False,
  pair: str | None = None,
  formats: Sequence[str] = (),
) -> None:
  """Scores the chosen runs, and writes tables, figures and a page.

  The main table and the paths are printed. `formats` are formats of figures
  besides PNG and SVG.

  Raises:
    InputError: if `strict` is set and runs no longer match their configs. The
      tables are written before.
  """
  # Plotting is slow to import, and only a report needs it.
  from metric_learning.figures import FORMATS, draw_study
  from metric_learning.report import write_report
  from metric_learning.study import only_here, write_tables
  from metric_learning.training import run_files

  study = scored(folder, pair)
  run_files.make_folder(study.folder)
  with only_here(folder):
    tables = write_tables(study)
    figures = draw_study(study, formats=[*FORMATS, *formats])
    page = write_report(study, figures)
  print("\n" + tables[0].read_text())
  if strict and study.stale:
    raise InputError(
      f"{len(study.stale)} runs of {folder} no longer match their configs:"
      f" {', '.join(study.stale)}. Delete their folders, and repeat the command"
      " that made the study."
    )
  print("Tables:  " + "  ".join(map(str, tables)))
  print("Figures: " + "  ".join(map(str, figures)))
  print(f"Page:    {page}")


def run(main: Callable[[], None], usage: str) -> None:
  """Runs a script; bad input gives one message and exit status 2."""
  sys.modules["__main__"].__doc__ = usage

  def parse(argv: Sequence[str]) -> list[str]:
    try:
      rest = flags.FLAGS(argv)
    except (flags.Error, AttributeError, KeyError, TypeError) as error:
      _stop(_explain(error))
    if len(rest) > 1:
      _stop(f"unexpected argument {rest[1]!r}: flags start with --.")
    return rest

  def guarded(_: list[str]) -> None:
    _log_plainly()
    with explained(), stopping.signals_wait():
      main()

  app.run(guarded, flags_parser=parse)


# Errors of a disk, a file system or a machine, which are not bugs of the code.
# A missing file, or one that exists already, may be a bug, so it is not here.
_OF_SYSTEM = {
  *(errno.EIO, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM),
  *(errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ENOMEM),
  *(errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP),
  *(errno.ESTALE, errno.EBUSY, errno.ENOLCK, errno.ENODEV, errno.ENXIO),
  *(errno.ETIMEDOUT, errno.ENOTSUP, errno.ENOSYS),
}
_FULL = (errno.ENOSPC, errno.EDQUOT)


@contextlib.contextmanager
def explained() -> Iterator[None]:
  """Ends the process with one message if an error is not a bug of the code.

  The exit status is 2 for bad input and for errors of the system, 1 for a loss
  that is not finite, 130 after Ctrl-C and 143 after SIGTERM.
  """
  try:
    yield
  except InputError as error:
    _stop(str(error))
  except LostError as error:
    print(f"error: {error}", file=sys.stderr, flush=True)
    os._exit(1)  # At a normal exit, JAX would wait for the other processes.
  except NotFiniteError as error:
    _stop(str(error), status=1)
  except OSError as error:
    if error.errno not in _OF_SYSTEM:
      raise
    is_full = error.errno in _FULL
    _stop(
      ("the disk is full" if is_full else "the system reports an error")
      + f" ({error}). No finished work is lost:"
      + (" make room" if is_full else " solve this problem")
      + " and run the same command again."
    )
  except KeyboardInterrupt as error:
    _stop(
      str(error) or "stopped; the same command continues.",
      status=getattr(error, "status", _AFTER_CTRL_C),
    )


_AFTER_CTRL_C = 130


def _log_plainly() -> None:
  """Prints messages of this project as plain lines, and no other messages."""
  absl.logging.set_verbosity(absl.logging.WARNING)
  handler = logging.StreamHandler(sys.stderr)
  handler.setFormatter(logging.Formatter("%(message)s"))
  logger = logging.getLogger("metric_learning")
  logger.setLevel(logging.INFO)
  logger.addHandler(handler)
  logger.propagate = False


def _stop(message: str, status: int = 2) -> NoReturn:
  print(f"error: {message}", file=sys.stderr)
  sys.exit(status)


def _explain(error: BaseException) -> str:
  """Why flags are wrong: the message of an `InputError` behind the error."""
  cause: BaseException | None = error
  while cause is not None:
    if isinstance(cause, InputError):
      return str(cause)
    cause = cause.__context__
  return str(error).removeprefix("flag ")
