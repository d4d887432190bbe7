"""SQLite files that are only read."""

import logging
import os
import sqlite3
from functools import partial
from pathlib import Path

from tradingbot.persistence.url import is_there

# Of a damaged text some characters are lost, and not every row that is read with it.
TEXT = partial(str, encoding="utf-8", errors="replace")

logger = logging.getLogger(__name__)


def is_read_only(path: Path) -> bool:
    """Whether the file is there and this process cannot write to it, as on a read-only mount.

    SQLite writes beside the file, so the folder counts too.
    """
    writable = os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)
    return is_there(path) and path.is_file() and not writable


def open_for_reading(path: Path) -> sqlite3.Connection:
    """A connection that cannot write and does not make the file; sqlite3.OperationalError.

    A file in WAL mode needs two others beside it, which SQLite makes where it may. Where it may
    not, and they are not there, nobody writes: the file is read as one that does not change.
    """
    ways = ["mode=ro", "mode=ro&immutable=1"] if is_read_only(path) else ["mode=rw"]
    for way in ways:
        connection = sqlite3.connect(f"{path.as_uri()}?{way}", uri=True)
        try:
            connection.execute("PRAGMA query_only = ON")
            connection.execute("SELECT count(*) FROM sqlite_master")  # it opens them now
        except sqlite3.OperationalError:
            connection.close()
            if way == ways[-1]:
                raise
        else:
            break
    connection.text_factory = TEXT
    log = path.with_name(f"{path.name}-wal")
    if "immutable" in way and log.exists() and log.stat().st_size:
        logger.warning("%s cannot be read here: the newest rows are missing", log)
    return connection
