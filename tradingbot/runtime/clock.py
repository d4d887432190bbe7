"""The current time. No other module of the package asks the system for it."""

from datetime import UTC, datetime


def now() -> datetime:
    """Return the current time with UTC as its time zone."""
    return datetime.now(UTC)


def utcnow() -> datetime:
    """Return the current time as naive UTC, as stored in the tables."""
    return now().replace(tzinfo=None)
