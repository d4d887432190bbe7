"""Exceptions of the service; `server.errors` turns each into an HTTP answer."""

from collections.abc import Sequence


class InvalidHistory(ValueError):
    """Unusable candles or times; one line with the row (from 0) and the reason."""


class InvalidRequest(ValueError):
    """A request that breaks the contract: one line, and the wrong fields.

    fields: pairs of a path such as `ohlcv.17.high` and its error.
    """

    def __init__(self, message: str, fields: Sequence[tuple[str, str]] | None = None) -> None:
        super().__init__(message)
        self.fields = fields


class QueueFull(Exception):
    """The queue is full. retry_after: estimated seconds until there is room."""

    def __init__(self, why: str = "too many forecasts are waiting", *, retry_after: int) -> None:
        super().__init__(f"{why}; try again in {retry_after} s")
        self.retry_after = retry_after


class TooMuchWork(Exception):
    """One request needs more work than the service's limit."""

    def __init__(self, bars: int, limit: int) -> None:
        super().__init__(
            f"the request is {bars:,} bars of work: expected at most {limit:,}, counting for each "
            "series the bars of its history and samples times horizon; send fewer series at once, "
            "or fewer samples, bars of history or bars ahead"
        )


class ShuttingDown(Exception):
    """The service is shutting down and accepts no new work."""
