"""The result of a run of the job: how it ended, and the outcome of each ticker."""

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
    """The outcome of one ticker. In a dry run "forecast" replaces "stored"."""

    status: Status
    forecast: Forecast | None = None  # made by this run or an earlier run
    failure: KronosError | None = None
    actual: Mapping[datetime, float] = field(default_factory=dict)  # closes realised since


class TickerOutcomes:
    """The outcomes of all tickers so far."""

    def __init__(self, symbols: Iterable[str] = ()) -> None:
        """Start with these tickers, none of which is reached yet."""
        self._of = {symbol: TickerOutcome("not_reached") for symbol in symbols}

    def snapshot(self) -> dict[str, TickerOutcome]:
        """Return the current outcomes, in the order of the tickers."""
        return dict(self._of)

    def note_forecasts(self, status: Status, forecasts: Mapping[str, Forecast | None]) -> None:
        """Record, atomically, these tickers' forecasts and how they were obtained."""
        self._of |= {
            symbol: TickerOutcome(status, forecast) for symbol, forecast in forecasts.items()
        }

    def note_failures(self, errors: Mapping[str, KronosError]) -> None:
        """Record why these tickers have no forecast."""
        self._of |= {symbol: TickerOutcome("failed", failure=why) for symbol, why in errors.items()}

    def note_closes(self, known: Mapping[str, Mapping[datetime, float]]) -> None:
        """Record realised closes of tickers that have a forecast."""
        self._of |= {symbol: replace(self._of[symbol], actual=known[symbol]) for symbol in known}


@dataclass(frozen=True)
class ChallengerOutcome:
    """The outcome of one challenger's night."""

    name: str
    stored: int = 0  # tickers whose forecast was stored in the ledger
    already_there: int = 0
    tickers: int = 0  # number of tickers that the challenger had to forecast
    beside: bool = False  # whether it has a share, so that it was asked together with the champion
    failure: str | None = None  # why the challenger did not make all forecasts

    def __str__(self) -> str:
        done = f"{self.stored + self.already_there} of {self.tickers} tickers in the ledger"
        role = "a share in what is served" if self.beside else "in shadow"
        ended = f"; {self.failure}" if self.failure else ""
        return f"{self.name}: {done}, {role}{ended}"


@dataclass(frozen=True)
class Ending:
    """How a run ended."""

    exit_code: int = 0
    error: str | None = None  # type of the error that made the run as a whole fail
    message: str | None = None  # the reason, or why there was nothing to do

    @classmethod
    def by(cls, error: BaseException) -> Self:
        """Return the ending of a run that raised `error`."""
        code = error.exit_code if isinstance(error, KronosError | Stopped) else 1
        return cls(code, type(error).__name__, _one_line(error))


def _one_line(error: object) -> str:
    """Return an error in one line. Its text may quote a Space, the Hub or a database."""
    return shortened(one_line(printable(str(error))))


def _this_second() -> datetime:
    return utcnow().replace(microsecond=0)


@dataclass(frozen=True)
class RunSummary:
    """The result of a whole run, made at its end. Times are naive UTC."""

    ending: Ending = Ending()
    started_at: datetime = field(default_factory=_this_second)
    seconds: float = 0.0  # duration of the run
    dry_run: bool = False
    source: str | None = None  # source of candles
    shard: str = "0/1"  # this run's part of the active tickers
    database: str | None = None  # its URL without the password
    local: bool = False  # with a Space on this machine
    model: str | None = None  # as named by the Space
    # the active tickers, in order
    tickers: Mapping[str, TickerOutcome] = field(default_factory=dict)
    challengers: tuple[ChallengerOutcome, ...] = ()  # the other models of KRONOS_MODELS
    rows: int = 0  # rows of kronos_predictions written by this run
    durations: Mapping[str, float] = field(default_factory=dict)  # seconds by phase

    def having(self, *statuses: Status) -> list[str]:
        """Return the tickers with one of these statuses."""
        return [symbol for symbol, outcome in self.tickers.items() if outcome.status in statuses]

    @property
    def made(self) -> list[str]:
        """Return the tickers forecast by this run, and stored unless it is a dry run."""
        return self.having("stored", "forecast")

    @property
    def already_stored(self) -> list[str]:
        """Return the tickers that had a forecast before this run."""
        return self.having("already_there")

    @property
    def done(self) -> list[str]:
        """Return the tickers that have a forecast."""
        return self.having("stored", "forecast", "already_there")

    @property
    def forecasts(self) -> dict[str, Forecast]:
        """Return the forecasts made now or before."""
        return {
            symbol: outcome.forecast
            for symbol, outcome in self.tickers.items()
            if outcome.forecast is not None
        }

    @property
    def failed(self) -> dict[str, KronosError]:
        """Return the error of each ticker without a forecast."""
        return {
            symbol: outcome.failure
            for symbol, outcome in self.tickers.items()
            if outcome.failure is not None
        }

    def failures(self) -> dict[tuple[str, str], list[str]]:
        """Return the failed tickers by (kind, reason) of their failure."""
        alike: dict[tuple[str, str], list[str]] = {}
        for symbol, error in self.failed.items():
            alike.setdefault((type(error).__name__, _one_line(error.reason)), []).append(symbol)
        return alike

    def remarks(self) -> dict[str, list[str]]:
        """Return the tickers by the Space's warning about their forecasts of this run."""
        remarks: dict[str, list[str]] = {}
        forecasts = self.forecasts
        for symbol in self.made:
            for remark in forecasts[symbol].warnings:
                remarks.setdefault(remark, []).append(symbol)
        return remarks

    def reconstruction_error(self) -> float | None:
        """Return the median relative error of the last closes as reconstructed by the tokenizer.

        None if nothing was forecast, or the Space does not report it.
        """
        made = map(self.forecasts.__getitem__, self.made)
        errors = [
            forecast.reconstruction.error(forecast.last_close)
            for forecast in made
            if forecast.reconstruction
        ]
        return median(errors) if errors else None

    def verdict(self, min_success: float) -> Ending:
        """Return the ending of a run that needs forecasts of the share `min_success` of tickers."""
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
        """Return the number of tickers by status, and of rows written, for run_logs."""
        return {
            "active": len(self.tickers),
            "stored": len(self.having("stored")),
            "already_there": len(self.already_stored),
            "failed": len(self.failed),
            "rows": self.rows,
        }

    def details(self) -> dict[str, Any]:
        """Return the model, and failures by kind and by ticker, for run_logs."""
        by_kind: dict[str, list[str]] = {}
        for symbol, error in self.failed.items():
            by_kind.setdefault(type(error).__name__, []).append(symbol)
        return {
            "model": self.model,
            "source": self.source,
            "shard": self.shard,
            "reconstruction_error": self.reconstruction_error(),
            "error": self.ending.error,
            "failed": {symbol: _one_line(error) for symbol, error in self.failed.items()},
            "failed_by_kind": by_kind,
            "challengers": [asdict(challenger) for challenger in self.challengers],
        }

    def record(self) -> dict[str, Any]:
        """Return the columns of run_logs for a run that has ended."""
        return {
            "counts": self.counts(),
            "durations": self.durations,
            "details": self.details(),
            "exit_code": self.ending.exit_code,
            "message": self.ending.message,
        }


class PhaseTimer:
    """The start of a run, and the seconds spent in each phase. A phase may have several parts."""

    def __init__(self) -> None:
        self.created_at = utcnow()  # naive UTC, exact
        self.started_at = self.created_at.replace(microsecond=0)  # as it is stored
        self._began = time.monotonic()
        self.durations: dict[str, float] = {}

    @property
    def elapsed(self) -> float:
        """Return the seconds since the timer was created."""
        return time.monotonic() - self._began

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Add the block's duration to the phase."""
        began = time.monotonic()
        try:
            yield
        finally:
            took = time.monotonic() - began
            self.durations[name] = self.durations.get(name, 0.0) + took
