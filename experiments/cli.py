"""What the scripts share: flags, and errors that teach."""

import ast
import errno
import functools
import importlib.util
import logging
import os
import re
import sys
import traceback
from collections.abc import Callable, Sequence
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
from metric_learning.training import NotFiniteError, override
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
  """The config, its reference that of the sweep unless one is named."""
  if config.study.reference:
    return config
  # A plain generator names none.
  named = getattr(sweep, "reference", {})
  return override(config, {"study.reference": named})


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
  keep_programs()
  return options


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


def report(folder: Path, *, strict: bool = False) -> None:
  """Scores chosen runs, writes tables, draws figures, says where they lie.

  Raises:
    InputError: if strict, after the tables, for runs that no longer match
      their configs.
  """
  # Plotting is slow to import, and nothing but a report needs it.
  from metric_learning.figures import draw_study
  from metric_learning.study import (
    only_here,
    read_study,
    score_chosen,
    write_tables,
  )

  study = read_study(folder)
  with only_here(folder):
    study = score_chosen(study)
    tables = write_tables(study)
    figures = draw_study(study)
  print("\n" + tables[0].read_text())
  if strict and study.stale:
    raise InputError(
      f"{len(study.stale)} runs of {folder} no longer match their configs:"
      f" {', '.join(study.stale)}. Delete their folders, and give the command"
      " that made the study again."
    )
  print("Tables:  " + "  ".join(map(str, tables)))
  print("Figures: " + "  ".join(map(str, figures)))


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
    try:
      main()
    except InputError as error:
      _stop(str(error))
    except LostError as error:
      print(f"error: {error}", file=sys.stderr, flush=True)
      os._exit(1)  # At a plain exit JAX would wait for the others.
    except NotFiniteError as error:
      _stop(str(error), status=1)
    except OSError as error:
      if error.errno not in (errno.ENOSPC, errno.EDQUOT):
        raise
      _stop(
        f"the disk is full ({error}). Nothing that was finished is lost: make"
        " room and run the same command again."
      )
    except KeyboardInterrupt:
      _stop("stopped; the same command goes on where it was.", status=130)

  app.run(guarded, flags_parser=parse)


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
