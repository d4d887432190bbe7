"""The time, as the tables hold it."""

from datetime import UTC, datetime


def utcnow() -> datetime:
    """Now, as the tables hold it: naive UTC."""
    return datetime.now(UTC).replace(tzinfo=None)
