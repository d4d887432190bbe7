"""What a run of the job did: how it ended, and what became of each ticker."""

import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from statistics import median
from typing import Any, Literal, Self

from tradingbot.errors import KronosError
from tradingbot.forecast import Forecast
from tradingbot.formatting import one_line
from tradingbot.runtime.clock import utcnow
from tradingbot.runtime.printable import printable, shortened
from tradingbot.runtime.signals import Stopped

Status = Literal["forecast", "stored", "already_there", "failed", "not_reached"]


@dataclass(frozen=True)
class TickerOutcome:
    """What became of one ticker. "forecast" stands for "stored" in a dry run."""

    status: Status
    forecast: Forecast | None = None  # made now or before
    failure: KronosError | None = None
    actual: Mapping[datetime, float] = field(default_factory=dict)  # closes that came since


class TickerOutcomes:
    """What has become of each ticker up to now."""

    def __init__(self, symbols: Iterable[str] = ()) -> None:
        """Nothing yet, of any of these."""
        self._of = {symbol: TickerOutcome("not_reached") for symbol in symbols}

    def snapshot(self) -> dict[str, TickerOutcome]:
        """What is known now, in the order of the tickers."""
        return dict(self._of)

    def note_forecasts(self, status: Status, forecasts: Mapping[str, Forecast | None]) -> None:
        """These tickers have a forecast, and how they got it. All of them at once."""
        self._of |= {symbol: TickerOutcome(status, one) for symbol, one in forecasts.items()}

    def note_failures(self, errors: Mapping[str, KronosError]) -> None:
        """These tickers have no forecast, and why."""
        self._of |= {symbol: TickerOutcome("failed", failure=why) for symbol, why in errors.items()}

    def note_closes(self, known: Mapping[str, Mapping[datetime, float]]) -> None:
        """What the closes turned out to be, of tickers that have a forecast."""
        self._of |= {symbol: replace(self._of[symbol], actual=known[symbol]) for symbol in known}


@dataclass(frozen=True)
class ChallengerOutcome:
    """What became of one challenger's night."""

    name: str
    stored: int = 0  # tickers whose forecast is in the ledger now
    already_there: int = 0
    tickers: int = 0  # that it was to forecast
    beside: bool = False  # whether it was asked with the champion, having earned a share
    failure: str | None = None  # why it did no more

    def __str__(self) -> str:
        done = f"{self.stored + self.already_there} of {self.tickers} tickers in the ledger"
        role = "a share in what is served" if self.beside else "in shadow"
        ended = f"; {self.failure}" if self.failure else ""
        return f"{self.name}: {done}, {role}{ended}"


@dataclass(frozen=True)
class Ending:
    """How a run ended."""

    exit_code: int = 0
    error: str | None = None  # the kind of what made the run as a whole fail
    message: str | None = None  # and why, or why there was nothing to do

    @classmethod
    def by(cls, error: BaseException) -> Self:
        """The end of a run that `error` ended."""
        code = error.exit_code if isinstance(error, KronosError | Stopped) else 1
        return cls(code, type(error).__name__, _of_others(error))


def _of_others(error: object) -> str:
    """An error in one line; it may repeat what a Space, a Hub or a database says."""
    return shortened(one_line(printable(str(error))))


def _this_second() -> datetime:
    return utcnow().replace(microsecond=0)


@dataclass(frozen=True)
class RunSummary:
    """A run as a whole, made once it has ended. Times are naive UTC."""

    ending: Ending = Ending()
    started_at: datetime = field(default_factory=_this_second)
    seconds: float = 0.0  # that it took
    dry_run: bool = False
    source: str | None = None  # where candles come from
    shard: str = "0/1"  # which part of the active tickers is this run's
    database: str | None = None  # its address, without a password
    local: bool = False  # with a Space of this machine
    model: str | None = None  # as the Space named it
    tickers: Mapping[str, TickerOutcome] = field(default_factory=dict)  # the active ones, in order
    challengers: tuple[ChallengerOutcome, ...] = ()  # the other models of KRONOS_MODELS
    rows: int = 0  # of kronos_predictions, written by this run
    durations: Mapping[str, float] = field(default_factory=dict)  # seconds by phase

    def having(self, *statuses: Status) -> list[str]:
        """The tickers whose status is one of these."""
        return [symbol for symbol, outcome in self.tickers.items() if outcome.status in statuses]

    @property
    def made(self) -> list[str]:
        """The tickers that this run has forecast, and stored unless it is a dry run."""
        return self.having("stored", "forecast")

    @property
    def there(self) -> list[str]:
        """The tickers that had their forecast before this run."""
        return self.having("already_there")

    @property
    def done(self) -> list[str]:
        """The tickers that have a forecast."""
        return self.having("stored", "forecast", "already_there")

    @property
    def forecasts(self) -> dict[str, Forecast]:
        """Those made now and those that were there before."""
        return {
            symbol: outcome.forecast
            for symbol, outcome in self.tickers.items()
            if outcome.forecast is not None
        }

    @property
    def failed(self) -> dict[str, KronosError]:
        """Ticker -> why it has no forecast."""
        return {
            symbol: outcome.failure
            for symbol, outcome in self.tickers.items()
            if outcome.failure is not None
        }

    def failures(self) -> dict[tuple[str, str], list[str]]:
        """(kind, reason) -> the tickers that failed for it."""
        alike: dict[tuple[str, str], list[str]] = {}
        for symbol, error in self.failed.items():
            alike.setdefault((type(error).__name__, _of_others(error.reason)), []).append(symbol)
        return alike

    def remarks(self) -> dict[str, list[str]]:
        """What the Space said about forecasts of this run -> the tickers that it said it of."""
        said: dict[str, list[str]] = {}
        forecasts = self.forecasts
        for symbol in self.made:
            for remark in forecasts[symbol].warnings:
                said.setdefault(remark, []).append(symbol)
        return said

    def reconstruction_error(self) -> float | None:
        """The median error of the last closes as the model's tokenizer reads them, as a share.

        None where nothing was forecast, or by a Space that does not say.
        """
        made = map(self.forecasts.__getitem__, self.made)
        errors = [one.reconstruction.error(one.last_close) for one in made if one.reconstruction]
        return median(errors) if errors else None

    def verdict(self, min_success: float) -> Ending:
        """How a run ends of whose tickers the share `min_success` must have a forecast."""
        done, of = len(self.done), len(self.tickers)
        if done >= min_success * of:
            return Ending()
        return Ending(
            1,
            "TooFewForecasts",
            f"{done} of {of} tickers have a forecast, "
            f"KRONOS_MIN_SUCCESS asks for {min_success:.0%}",
        )

    def counts(self) -> dict[str, int]:
        """How many tickers there are of each kind, and rows written; for run_logs."""
        return {
            "active": len(self.tickers),
            "stored": len(self.having("stored")),
            "already_there": len(self.there),
            "failed": len(self.failed),
            "rows": self.rows,
        }

    def details(self) -> dict[str, Any]:
        """For run_logs: the model, and failures by kind and by ticker."""
        by_kind: dict[str, list[str]] = {}
        for symbol, error in self.failed.items():
            by_kind.setdefault(type(error).__name__, []).append(symbol)
        return {
            "model": self.model,
            "source": self.source,
            "shard": self.shard,
            "reconstruction_error": self.reconstruction_error(),
            "error": self.ending.error,
            "failed": {symbol: _of_others(error) for symbol, error in self.failed.items()},
            "failed_by_kind": by_kind,
            "challengers": [asdict(one) for one in self.challengers],
        }

    def record(self) -> dict[str, Any]:
        """What run_logs keeps of a run that has ended."""
        return {
            "counts": self.counts(),
            "durations": self.durations,
            "details": self.details(),
            "exit_code": self.ending.exit_code,
            "message": self.ending.message,
        }


class PhaseTimer:
    """When a run began, and its wall time by phase, in seconds; a phase may have several parts."""

    def __init__(self) -> None:
        self.started_at = _this_second()  # naive UTC
        self._began = time.monotonic()
        self.durations: dict[str, float] = {}

    @property
    def elapsed(self) -> float:
        """Since the timer was made."""
        return time.monotonic() - self._began

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Add the block's wall time to the phase."""
        began = time.monotonic()
        try:
            yield
        finally:
            took = time.monotonic() - began
            self.durations[name] = self.durations.get(name, 0.0) + took
