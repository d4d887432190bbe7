"""What the service raises on purpose; `server.errors` turns each into an HTTP answer."""

from collections.abc import Sequence


class InvalidHistory(ValueError):
    """Candles or times that cannot be used; one line that names the row (from 0) and why."""


class InvalidRequest(ValueError):
    """A request that breaks the contract: one line, and the fields that are wrong.

    fields: pairs of a path such as `ohlcv.17.high` and what is wrong with it.
    """

    def __init__(self, message: str, fields: Sequence[tuple[str, str]] | None = None) -> None:
        super().__init__(message)
        self.fields = fields


class QueueFull(Exception):
    """No room for another request now. retry_after: seconds until there probably is."""

    def __init__(self, why: str = "too many forecasts are waiting", *, retry_after: int) -> None:
        super().__init__(f"{why}; try again in {retry_after} s")
        self.retry_after = retry_after


class TooMuchWork(Exception):
    """One request asks for more than the service computes for one."""

    def __init__(self, bars: int, limit: int) -> None:
        super().__init__(
            f"the request is {bars:,} bars of work: expected at most {limit:,}, counting for each "
            "series the bars of its history and samples times horizon; send fewer series at once, "
            "or fewer samples, bars of history or bars ahead"
        )


class ShuttingDown(Exception):
    """The service takes no new work."""
