"""The interface of a lock between processes. `persistence.locks` implements it."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal, Protocol, Self

Mode = Literal["shared", "exclusive"]


@dataclass(frozen=True)
class Holder:
    """The holder of a lock. Unknown fields are None. `str` describes it in words."""

    who: str
    process: int | None = None  # process ID on `host`
    host: str | None = None
    since: datetime | None = None  # with a time zone
    others: int = 0  # number of other processes that share the lock
    active: datetime | None = None  # time of the holder's last activity, with a time zone

    def idle(self, now: datetime) -> float | None:
        """Return the seconds from the holder's last activity to `now`, or None if unknown."""
        return None if self.active is None else (now - self.active).total_seconds()

    def __str__(self) -> str:
        process = None if self.process is None else f"process {self.process} on {self.host}"
        since = None if self.since is None else f"since {self.since.astimezone(UTC):{_MOMENT}}"
        others = f" and {self.others} more" if self.others else ""
        return ", ".join(filter(None, (self.who, process, since))) + others


_MOMENT = "%Y-%m-%d %H:%M:%S UTC"


class Lock(Protocol):
    """A lock, held exclusively by one process or shared by several.

    Methods may raise DatabaseError.
    """

    def try_exclusive(self) -> bool:
        """Take the lock exclusively. Return False, and change nothing, if it is held elsewhere."""

    def try_shared(self) -> bool:
        """Take the lock shared, or downgrade an exclusive lock.

        Return False if another process holds the lock exclusively.
        """

    def renew(self) -> bool:
        """Return True if this process holds the lock.

        If the lock was lost with the database connection, try to take it again first.
        """

    def release(self) -> None:
        """Release the lock. Never raises; an unreachable server no longer holds it."""

    def held_by(self) -> Holder:
        """Return the current or most recent holder."""

    def is_held(self) -> bool | None:
        """Return whether the lock is held, without trying to take it; None if unknown."""

    def got_lost(self) -> bool:
        """Return whether this process ever lost the lock because its connection was lost.

        Other processes that shared the lock may have lost it, too.
        """

    def __enter__(self) -> Self: ...

    def __exit__(self, *exc_info: object) -> None: ...


class NoLock:
    """A lock for a database that no other process can access."""

    def try_exclusive(self) -> bool:
        return True

    def try_shared(self) -> bool:
        return True

    def renew(self) -> bool:
        return True

    def release(self) -> None:
        pass

    def held_by(self) -> Holder:
        return Holder("nobody")

    def is_held(self) -> bool | None:
        return None

    def got_lost(self) -> bool:
        return False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        pass
