"""What time it is; nothing else in the package asks the system."""

from datetime import UTC, datetime


def now() -> datetime:
    """Now, with UTC as its time zone."""
    return datetime.now(UTC)


def utcnow() -> datetime:
    """Now, as the tables hold it: naive UTC."""
    return now().replace(tzinfo=None)
