"""A lock file next to a SQLite database."""

import fcntl
import json
import os
import socket
import stat
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Self

from tradingbot.errors import DatabaseError
from tradingbot.formatting import quoted
from tradingbot.persistence.url import is_there
from tradingbot.runtime.clock import now
from tradingbot.runtime.lock_interface import Holder
from tradingbot.runtime.signals import signals_held

MAX_TEXT = 4096  # characters of a lock file to read


class FileLock:
    """A lock file with flock(2). The file names the last holder, and is kept after a release.

    The text is one JSON object: {"who": …, "process": 7, "host": …, "since": "2026-11-22T…"}.
    Version 0.1 wrote a sentence. Any text in another format is read as a name.

    The file must be a regular file, not a link, owned by this user or the database's owner.
    Otherwise, in a folder that other users can write to, they could make this program truncate
    another file.
    """

    def __init__(self, path: Path, who: str, *, database: Path) -> None:
        self._path = path
        self._who = who
        self._database = database
        self._file: IO[str] | None = None

    def try_exclusive(self) -> bool:
        return self._flock(fcntl.LOCK_EX)

    def try_shared(self) -> bool:
        return self._flock(fcntl.LOCK_SH)

    def renew(self) -> bool:
        if self._file is None:
            return False
        with suppress(OSError):  # another user's file can be locked, but not touched
            os.utime(self._file.fileno())  # shows activity
        return True

    def release(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def held_by(self) -> Holder:
        try:
            with self._open(os.O_RDONLY, "r") as file:
                text = file.read(MAX_TEXT).strip()
                active = datetime.fromtimestamp(os.fstat(file.fileno()).st_mtime, UTC)
        except OSError:
            text = ""
        return _holder_from(text, active) if text else Holder("another process")

    def is_held(self) -> bool | None:
        # do not try the lock: it would be held for a moment, in which a run could find it taken
        if not is_there(self._path):
            return False
        holder = self.held_by()
        if holder.process is None or holder.host != socket.gethostname():
            return None
        try:
            os.kill(holder.process, 0)
        except (ProcessLookupError, OverflowError):
            return False
        except PermissionError:  # another user's process
            pass
        return True

    def got_lost(self) -> bool:
        return False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.release()

    def _flock(self, operation: int) -> bool:
        with signals_held():
            try:
                if self._file is None:
                    self._file = self._open(os.O_RDWR | os.O_CREAT | os.O_APPEND, "a+")
                fcntl.flock(self._file, operation | fcntl.LOCK_NB)
                self._file.truncate(0)
                self._file.write(_text_of(self._who))
                self._file.flush()
                return True
            except BlockingIOError:  # a failed conversion also drops the lock that was held
                self.release()
                return False
            except OSError as error:
                self.release()
                raise DatabaseError(f"{self._path} cannot be locked: {error.strerror}") from error

    def _open(self, flags: int, mode: str) -> IO[str]:
        """Open the file.

        Raise OSError if it is a link or not a regular file of the expected owner.
        """
        if self._path.is_symlink():
            raise OSError(0, "it is a link; remove it")
        # without waiting, in case it is a pipe
        flags |= os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        descriptor = os.open(self._path, flags, 0o666)
        if wrong := self._wrong_with(os.fstat(descriptor)):
            os.close(descriptor)
            raise OSError(0, f"it is {wrong}; remove it")
        return os.fdopen(descriptor, mode, errors="replace")

    def _wrong_with(self, found: os.stat_result) -> str | None:
        if not stat.S_ISREG(found.st_mode):
            return "no regular file"
        if found.st_nlink > 1:
            return "a link"
        owners = {os.geteuid()}
        with suppress(OSError):
            owners.add(self._database.stat().st_uid)
        return None if found.st_uid in owners else "another user's file"


def _text_of(who: str) -> str:
    """Return the text of the lock file."""
    facts = {
        "who": who,
        "process": os.getpid(),
        "host": socket.gethostname(),
        "since": now().isoformat(timespec="seconds"),
    }
    return json.dumps(facts, ensure_ascii=False) + "\n"


def _holder_from(text: str, active: datetime) -> Holder:
    """Parse the text of a lock file. A text in another format is read as a name."""
    try:
        match json.loads(text):
            case {"who": str(who), "process": int(process), "host": str(host), "since": str(since)}:
                begun = datetime.fromisoformat(since).astimezone(UTC)
                if process > 0:
                    return Holder(quoted(who), process, quoted(host), begun, active=active)
    except (ValueError, OverflowError, RecursionError):
        pass
    return Holder(quoted(text))
