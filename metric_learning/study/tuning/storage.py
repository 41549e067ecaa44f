"""The storage of trials: a database or a journal file."""

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
import sqlalchemy
import sqlalchemy.exc
import sqlalchemy.pool
from optuna.storages._rdb.models import BaseModel
from optuna.storages.journal import (
  JournalFileBackend,
  JournalFileSymlinkLock,
)
from optuna.storages.journal._file import get_lock_file
from sqlalchemy.schema import CreateIndex

from metric_learning.errors import InputError

# Seconds to wait for a database that another process has locked.
_PATIENCE = 60

# The start of each line of a journal.
_OPENING = b'{"op_code":'


def expanded(where: str) -> str:
  """The URL of an SQLite file with ~ expanded, which shells do not do in URLs.

  >>> expanded("sqlite:///trials.db"), expanded("postgresql://~/x")
  ('sqlite:///trials.db', 'postgresql://~/x')
  """
  scheme, slashes, path = where.partition(":///")
  if scheme.startswith("sqlite") and path.startswith("~"):
    return scheme + slashes + os.path.expanduser(path)
  return where


@contextlib.contextmanager
def open_storage(where: str) -> Iterator[optuna.storages.BaseStorage]:
  """The storage at a database's URL, or in a journal file.

  Raises:
    InputError: if its driver is missing, or the file is something else.
  """
  # A server may close a connection that is idle during a trial.
  options: dict[str, Any] = {"pool_pre_ping": True}
  if where.startswith("sqlite"):
    options["connect_args"] = {"timeout": _PATIENCE}
    # Closes each connection after use. If RDBStorage raises, it returns no
    # engine to dispose of, and a pool would keep a connection open.
    options["poolclass"] = sqlalchemy.pool.NullPool
  if "://" not in where:
    yield _open_journal(where)
    return
  try:
    database = optuna.storages.RDBStorage(where, engine_kwargs=options)
  except (ImportError, ValueError, RuntimeError) as error:
    reason = error.__cause__ or error
    raise InputError(f"--storage={shown(where)}: {reason}.") from None
  if where.startswith("sqlite"):
    _make_indexes(database.engine)
  try:
    yield optuna.storages.get_storage(database)
  finally:
    database.engine.dispose()


def _make_indexes(engine: sqlalchemy.Engine) -> None:
  """Creates the indexes that are missing since a process was killed.

  SQLite creates tables and indexes one by one, and Optuna does not look for the
  index of a table that exists. Without that of names, two studies may have the
  same name, and neither is found again.
  """
  with engine.begin() as connection:
    for table in BaseModel.metadata.sorted_tables:
      for index in table.indexes:
        connection.execute(CreateIndex(index, if_not_exists=True))


def _open_journal(where: str) -> optuna.storages.BaseStorage:
  # An absolute path, since Optuna creates a link to it in its folder.
  path = Path(where).resolve()
  try:
    if path.exists():
      with path.open("rb") as file:
        first = file.readline()
      # Optuna would append to any file.
      if first.endswith(b"\n"):
        json.loads(first)["op_code"]
      elif first[: len(_OPENING)] != _OPENING[: len(first)]:
        raise ValueError("not the start of a first line")
    backend = JournalFileBackend(str(path))
    _drop_cut_line(path)
    return optuna.storages.JournalStorage(backend)
  except OSError as error:
    error.filename = where
    raise
  except (ValueError, KeyError, TypeError):
    raise InputError(
      f"--storage={where} is not a journal file of Optuna, or damaged. A"
      " database has a URL, such as sqlite:///trials.db."
    ) from None


def _drop_cut_line(path: Path) -> None:
  """Drops a partial last line, left by a full disk or a kill.

  Optuna would append the next line to it, and read neither.
  """
  with get_lock_file(JournalFileSymlinkLock(str(path))):
    whole = path.read_bytes()
    if not whole.endswith(b"\n"):
      os.truncate(path, whole.rfind(b"\n") + 1)


@contextlib.contextmanager
def explained(where: str) -> Iterator[None]:
  """Turns errors of the storage into one message.

  Raises:
    InputError: with the first line of the error.
  """
  reason: Any
  try:
    yield
    return
  except (
    optuna.exceptions.StorageInternalError,
    sqlalchemy.exc.SQLAlchemyError,
  ) as error:
    reason = error.__cause__ or error
    reason = getattr(reason, "orig", None) or reason
  except OSError as error:
    if str(error.filename) != where:  # Not the journal file.
      raise
    reason = error.strerror
  message = str(reason).strip().splitlines()[0]
  raise InputError(
    f"the storage {shown(where)} cannot be used: {message}. If another program"
    " holds it, try again; if it is read-only, mend its permissions; or choose"
    " another --storage."
  )


def shown(where: str) -> str:
  """A URL without its password."""
  try:
    url = sqlalchemy.engine.make_url(where)
  except sqlalchemy.exc.ArgumentError:
    return where
  return url.render_as_string(hide_password=True)
