"""What a run of the job did: counted while it runs, shown when it ends."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from tradingbot.forecast import Forecast


@dataclass
class RunSummary:
    """Outcomes by ticker. `forecasts` holds those made now and those that were there before."""

    started_at: datetime = field(
        default_factory=lambda: datetime.now(UTC).replace(tzinfo=None, microsecond=0)
    )
    began: float = field(default_factory=time.monotonic)
    dry_run: bool = False
    source: str | None = None  # where candles come from
    shard: str = "0/1"  # which part of the active tickers is this run's
    database: str | None = None  # its address, without a password
    query: str | None = None  # the command that asks it for more
    exit_code: int | None = None  # None while it runs
    error: str | None = None  # the kind of what made the run as a whole fail
    message: str | None = None  # and why, or why there was nothing to do
    model: str | None = None  # as the Space named it
    symbols: list[str] = field(default_factory=list)  # the active tickers
    forecasts: dict[str, Forecast] = field(default_factory=dict)
    actual: Mapping[str, Mapping[datetime, float]] = field(
        default_factory=dict
    )  # closes since then
    made: set[str] = field(default_factory=set)  # stored by this run (dry run: forecast)
    there: set[str] = field(default_factory=set)  # stored before it
    rows: int = 0  # of kronos_predictions, written by this run
    failed: dict[str, str] = field(default_factory=dict)  # ticker -> why, one line
    kinds: dict[str, str] = field(default_factory=dict)  # ticker -> kind of its error
    seconds: dict[str, float] = field(default_factory=dict)  # by phase

    def fail(self, symbol: str, error: Exception) -> None:
        self.failed[symbol] = str(error)
        self.kinds[symbol] = type(error).__name__

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Add the block's wall time to the phase."""
        began = time.monotonic()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.monotonic() - began

    def succeeded(self, min_success: float) -> bool:
        """(stored now + already there) / active >= min_success."""
        return len(self.made | self.there) >= min_success * len(self.symbols)

    def counts(self) -> dict[str, int]:
        return {
            "active": len(self.symbols),
            "stored": 0 if self.dry_run else len(self.made),
            "already_there": len(self.there),
            "failed": len(self.failed),
            "rows": self.rows,
        }

    def details(self) -> dict[str, Any]:
        """For run_logs: the model, and failures by kind and by ticker."""
        by_kind: dict[str, list[str]] = {}
        for symbol, kind in self.kinds.items():
            by_kind.setdefault(kind, []).append(symbol)
        return {
            "model": self.model,
            "source": self.source,
            "shard": self.shard,
            "failed": self.failed,
            "failed_by_kind": by_kind,
        }


def failures(report: RunSummary) -> dict[tuple[str, str], list[str]]:
    """(kind, reason) -> the tickers that failed for it."""
    alike: dict[tuple[str, str], list[str]] = {}
    for symbol, reason in report.failed.items():
        cause = report.kinds[symbol], reason.removeprefix(f"{symbol}: ")
        alike.setdefault(cause, []).append(symbol)
    return alike
