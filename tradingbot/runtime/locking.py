"""What a lock between processes is; `persistence.locks` has the real ones."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal, Protocol, Self

Mode = Literal["shared", "exclusive"]


@dataclass(frozen=True)
class Holder:
    """Who has a lock. What is not known is None; `str` says it all in words."""

    who: str
    process: int | None = None  # its id, on `host`
    host: str | None = None
    since: datetime | None = None  # with its zone
    others: int = 0  # that share the lock with it
    active: datetime | None = None  # its last sign of life, with its zone

    def idle(self, now: datetime) -> float | None:
        """Seconds since its last sign of life."""
        return None if self.active is None else (now - self.active).total_seconds()

    def __str__(self) -> str:
        process = None if self.process is None else f"process {self.process} on {self.host}"
        since = None if self.since is None else f"since {self.since.astimezone(UTC):{_MOMENT}}"
        others = f" and {self.others} more" if self.others else ""
        return ", ".join(filter(None, (self.who, process, since))) + others


_MOMENT = "%Y-%m-%d %H:%M:%S UTC"


class Lock(Protocol):
    """Held by one exclusively or by several together. Raises DatabaseError."""

    def try_exclusive(self) -> bool:
        """Take it for this process alone; False, and nothing changed, if others have it."""

    def try_shared(self) -> bool:
        """Take it together with others, or let others in; False if it is (by now) another's."""

    def renew(self) -> bool:
        """True if what was taken is held; it is taken again if it got lost with a connection."""

    def release(self) -> None:
        """Release the lock. Never raises; an unreachable server no longer holds it."""

    def held_by(self) -> Holder:
        """Who has it, or has just had it."""

    def is_held(self) -> bool | None:
        """Whether somebody has it, without trying to get it; None if that cannot be told."""

    def got_lost(self) -> bool:
        """Whether it was ever lost with its connection. Then the others may have lost theirs."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *exc_info: object) -> None: ...


class NoLock:
    """For a database that no other process can see."""

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
