"""Open SQLite files read-only."""

import logging
import os
import sqlite3
from functools import partial
from pathlib import Path

from sqlalchemy import URL

from tradingbot.errors import ConfigError
from tradingbot.persistence.url import is_there, redact
from tradingbot.settings import default_timeouts

# converts a text; replaces invalid bytes, so that the other rows can be read
TEXT = partial(str, encoding="utf-8", errors="replace")

logger = logging.getLogger(__name__)


def is_read_only(path: Path) -> bool:
    """Return whether the file exists and is not writable for this process.

    SQLite also writes files next to it, so the folder must be writable, too.
    """
    writable = os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)
    return is_there(path) and path.is_file() and not writable


def check_regular(address: URL) -> None:
    """Raise ConfigError if the file is a directory, a pipe or a device.

    SQLite would take some of these for an empty database, or report a disk error.
    """
    path = Path(address.database or "")
    if address.database and is_there(path) and not path.is_file():
        kind = "a directory" if path.is_dir() else "not a regular file"
        raise ConfigError(
            f"database {redact(address)}: that is {kind}; name a file in DATABASE_URL"
        )


def open_for_reading(path: Path) -> sqlite3.Connection:
    """Return a connection that cannot write and does not create the file.

    A file in WAL mode needs two other files next to it, which SQLite creates if it can. If they are
    missing and cannot be created, no process is writing, and the file is opened as immutable.

    Raises:
        sqlite3.OperationalError: The file cannot be opened.
    """
    patience = default_timeouts().database_file_lock
    modes = ["mode=ro", "mode=ro&immutable=1"] if is_read_only(path) else ["mode=rw"]
    for mode in modes:
        connection = sqlite3.connect(f"{path.as_uri()}?{mode}", timeout=patience, uri=True)
        try:
            connection.execute("PRAGMA query_only = ON")
            connection.execute("SELECT count(*) FROM sqlite_master")  # opens the other files
        except sqlite3.OperationalError as error:
            connection.close()
            if mode == modes[-1] or "locked" in str(error):
                raise
        else:
            break
    connection.text_factory = TEXT
    log = path.with_name(f"{path.name}-wal")
    if "immutable" in mode and log.exists() and log.stat().st_size:
        logger.warning("%s cannot be read here: the newest rows are missing", log)
    return connection
