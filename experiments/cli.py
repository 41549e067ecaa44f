"""What the scripts share: flags, and errors that teach."""

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

# Flags that are defined here for a script are the script's, in its --help too.
flags.disclaim_key_flags()


class _PathParser(flags.ArgumentParser[str]):
  """A path with ~ expanded, which shells leave as it is behind an =."""

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

  So their fields are flags too, as they are fields of a run of a sweep.
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
      # The parser of flags would keep the message alone, and no line.
      raise RuntimeError(f"{path} cannot be loaded.") from error
    return _with_flags(config).lock()


@functools.cache
def _module_at(path: str) -> ModuleType:
  """The module in a file, which is run once."""
  spec = importlib.util.spec_from_file_location(Path(path).stem, path)
  if spec is None or spec.loader is None:
    raise FileNotFoundError(path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


def _check_sections(error: Exception) -> None:
  """Checks that a file which failed set no section as if it were a field.

  The library says the last part of its name alone: the whole name is that of
  the place where it was set, in a config of the functions that were running.

  Raises:
    InputError: that names a field of the section.
  """
  configs: list[ConfigDict] = []
  for frame, _ in traceback.walk_tb(error.__traceback__):
    running = frame.f_locals
    if frame.f_code is ConfigDict.__setitem__.__code__:
      place, key = running["self"], running["key"]
      for config in configs:
        section = _path_to(config, place)
        if section is not None:
          check_no_section(f"{section}{key}", place.get(key))
    configs += [x for x in running.values() if isinstance(x, ConfigDict)]


def _path_to(config: ConfigDict, place: ConfigDict) -> str | None:
  """The name of a section, with a dot behind it; None if it is elsewhere."""
  if config is place:
    return ""
  for name, value in config.items():
    if isinstance(value, ConfigDict):
      rest = _path_to(value, place)
      if rest is not None:
        return f"{name}.{rest}"
  return None


def _with_flags(config: ConfigDict) -> ConfigDict:
  """The config with what flags name, so that its fields are flags too.

  Raises:
    InputError: for a flag of a field that there is not, or of a section.
  """
  given = _fields_given()
  names = [field for field in given if field == "imports" or is_name(field)]
  with config.unlocked():
    if "imports" in given:
      import_modules(_value("imports", given["imports"]))
    for field in sorted(given, key=lambda field: field not in names):
      inside, name = place_of(config, field)  # It adds what is to be added.
      check_no_section(field, inside[name])
      if field in names:
        set_field(config, field, _value(field, given[field]))
  return config


def _value(field: str, text: str) -> Any:
  """What a flag gives: a text, or of the field `imports` a tuple of texts."""
  if field != "imports":
    return text
  return ast.literal_eval(text) if text.startswith("(") else (text,)


def _fields_given() -> dict[str, str]:
  """The fields of the config that flags set, and what is said last of each."""
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
    "A file in configs/, and after a colon the loss: configs/glyphs.py:supcon."
    " Each field is a flag: --config.loss.temperature=0.05.",
  )
  flags.FLAGS[holder.name].parser = _ConfigParser()
  return holder


def config_value(flag: Any) -> ConfigDict:
  """The config that --config names.

  A loss or network that a flag names brings its own defaults, as in a sweep.

  Raises:
    InputError: if there is none.
  """
  if flag.value is None:
    raise InputError("which config? --config=configs/glyphs.py, for example.")
  return flag.value


def config_module() -> ModuleType:
  """The module of --config, where its SWEEPS are."""
  named = config_flags.get_config_filename(flags.FLAGS["config"])
  return _module_at(os.path.expanduser(named).split(":")[0])


def with_reference(config: ConfigDict, sweep: Callable[..., Any]) -> ConfigDict:
  """The config, its reference that of the sweep unless one is named.

  And with its numbers chosen or not as the sweep says.
  """
  # A plain generator names none, and chooses.
  if not getattr(sweep, "choose", True):
    config = override(config, {"study.choose": False})
  if config.study.reference:
    return config
  return override(config, {"study.reference": getattr(sweep, "reference", {})})


def define_launcher() -> dict[str, Any]:
  """Defines the flags that say where, and how many at once, runs train."""
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
      "on: rows that differ in numbers and seeds alone train as one program;"
      " off; auto: where that was measured to be faster, which a CPU is not.",
    ),
    "members": flags.DEFINE_integer(
      "members", 32, "Of one population, at most."
    ),
    **{name: _define_option(name, option) for name, option in options.items()},
  }


def _define_option(name: str, option: Any) -> Any:
  """A flag of one launcher; None where it is not given."""
  if option.type is str:
    return flags.DEFINE_string(name, None, option.usage)
  whole = option.type is int
  define: Any = flags.DEFINE_integer if whole else flags.DEFINE_float
  return define(name, None, option.usage, option.least)


def launch_options(launcher: dict[str, Any]) -> dict[str, Any]:
  """Keywords of `run_study`. To be called before JAX has threads: Ray forks.

  Raises:
    InputError: for a launcher that there is not, or that lacks its extra.
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
      raise InputError(f"--{name} is of --launcher={' or '.join(owners)}.")
  check_population(options["population"], options["members"])
  start_launcher(options["launcher"])
  start_device()
  return options


def start_device() -> None:
  """Names the device that is used; and `keep_programs`."""
  device = jax.devices()[0]
  kind, count = device.device_kind, len(jax.devices())
  print(f"device: {count} x {kind}", flush=True)
  if jax.default_backend() == "cpu" and (found := unused_accelerator()):
    print(f"warning: {found}", file=sys.stderr)
  keep_programs()


def unused_accelerator(
  devices: Path = Path("/dev"), environment: Mapping[str, str] = os.environ
) -> str:
  """What to do about an accelerator that JAX does not use; empty without one.

  Nothing where JAX_PLATFORMS says that it shall not.

  >>> unused_accelerator(Path("/nowhere"))
  ''
  """
  if environment.get("JAX_PLATFORMS", "") == "cpu":
    return ""
  for pattern, what, extra in (
    ("nvidia[0-9]*", "an NVIDIA GPU", "cuda"),
    ("accel[0-9]*", "a TPU", "tpu"),
  ):
    if any(devices.glob(pattern)):
      return (
        f"{what} is there, and JAX does not use it: pip install"
        f" 'metric-learning[{extra}]', or set JAX_PLATFORMS=cpu."
      )
  return ""


def keep_programs() -> None:
  """Lets the next process find what this one compiles, on an accelerator.

  Not on a CPU, unless JAX_COMPILATION_CACHE_DIR is set: XLA finds programs of
  this very machine unfit on many processors, with an error a program
  (github.com/openxla/xla/issues/44565), and in a home that machines share it
  may run those of another (SIGILL). Where it works it halves the start of a
  process.
  """
  name = "jax_compilation_cache_dir"
  if getattr(jax.config, name) is None and jax.default_backend() != "cpu":
    jax.config.update(name, str(cache.folder() / "programs"))


def define_pair() -> Any:
  """Defines --pair=FIELD=VALUE,REFERENCE, a second reading of a study."""
  return flags.DEFINE_string(
    "pair",
    None,
    "Such as metric.name=l1,l2: of all cells those of these two values, each of"
    " the first compared with its twin of the second, as a family of its own.",
  )


def scored(folder: Path, pair: str | None = None) -> Any:
  """A study with the test scores of its chosen runs, or a part of it by pairs.

  Raises:
    InputError: for a folder that is no study, or a pair that it does not have.
  """
  from metric_learning.study import only_here, read_study, score_chosen
  from metric_learning.study.comparisons import in_pairs

  study = read_study(folder)
  if pair is not None:
    found = re.fullmatch(r"([^=,]+)=([^=,]+),([^=,]+)", pair)
    if not found:
      raise InputError(
        f"--pair={pair}: a field and two of its values, as in"
        " --pair=metric.name=l1,l2."
      )
    study = in_pairs(study, *found.groups())
  with only_here(folder):
    return score_chosen(study)


def report(
  folder: Path,
  *,
  strict: bool = False,
  pair: str | None = None,
  formats: Sequence[str] = (),
) -> None:
  """Scores chosen runs, writes tables, figures and a page, says where they lie.

  `formats` are those of figures besides PNG and SVG.

  Raises:
    InputError: if strict, after the tables, for runs that no longer match
      their configs.
  """
  # Plotting is slow to import, and nothing but a report needs it.
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
      f" {', '.join(study.stale)}. Delete their folders, and give the command"
      " that made the study again."
    )
  print("Tables:  " + "  ".join(map(str, tables)))
  print("Figures: " + "  ".join(map(str, figures)))
  print(f"Page:    {page}")


def run(main: Callable[[], None], usage: str) -> None:
  """Runs a script; bad input is one message and exit status 2."""
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


# What the system says of a disk, a file system or a machine, and no fault of
# the code is: that a file is missing or there, for example, may be one.
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
  """Ends the process with one message for what is no fault of the code.

  With status 2 for bad input and for what the system refuses, 1 for a loss that
  is not finite, 130 after Ctrl-C and 143 after SIGTERM.
  """
  try:
    yield
  except InputError as error:
    _stop(str(error))
  except LostError as error:
    print(f"error: {error}", file=sys.stderr, flush=True)
    os._exit(1)  # At a plain exit JAX would wait for the others.
  except NotFiniteError as error:
    _stop(str(error), status=1)
  except OSError as error:
    if error.errno not in _OF_SYSTEM:
      raise
    full = error.errno in _FULL
    _stop(
      ("the disk is full" if full else "the system refuses")
      + f" ({error}). Nothing that was finished is lost:"
      + (" make room" if full else " mend that")
      + " and run the same command again."
    )
  except KeyboardInterrupt as error:
    _stop(
      str(error) or "stopped; the same command goes on where it was.",
      status=getattr(error, "status", _AFTER_CTRL_C),
    )


_AFTER_CTRL_C = 130


def _log_plainly() -> None:
  """One plain line for each message of this project, and of it alone."""
  absl.logging.set_verbosity(absl.logging.WARNING)
  handler = logging.StreamHandler(sys.stderr)
  handler.setFormatter(logging.Formatter("%(message)s"))
  ours = logging.getLogger("metric_learning")
  ours.setLevel(logging.INFO)
  ours.addHandler(handler)
  ours.propagate = False


def _stop(message: str, status: int = 2) -> NoReturn:
  print(f"error: {message}", file=sys.stderr)
  sys.exit(status)


def _explain(error: BaseException) -> str:
  """Why the flags do not fit: our own message, where one is behind it."""
  behind: BaseException | None = error
  while behind is not None:
    if isinstance(behind, InputError):
      return str(behind)
    behind = behind.__context__
  return str(error).removeprefix("flag ")
