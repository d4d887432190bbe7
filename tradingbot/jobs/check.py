"""Check candles and models as a run of the job would, without forecasting."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

import pandas as pd

from tradingbot.bots.universe import active_tickers
from tradingbot.data.service import DataService
from tradingbot.errors import ConfigError, DataError
from tradingbot.jobs.model_check import CheckedModel, check_models
from tradingbot.markets.data_quality import bar_length
from tradingbot.markets.quality_findings import Action, Finding, without_unfinished
from tradingbot.markets.symbols import calendar_name
from tradingbot.persistence.engine import get_db_session
from tradingbot.persistence.url import database_exists, database_url
from tradingbot.settings import Settings


@dataclass(frozen=True)
class Checked:
    """The result of checking one ticker's candles."""

    symbol: str
    calendar: str | None  # None: unknown exchange
    bars: int
    first: datetime | None
    last: datetime | None
    findings: list[tuple[Finding, Action]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)  # corrections made while cleaning the bars
    error: str | None = None  # why there is nothing to check, or too little for a forecast

    @property
    def verdict(self) -> str:
        """Return the worst result: refused, mended, warning or ok."""
        actions = {action for _, action in self.findings}
        if self.error is not None or Action.REFUSE in actions:
            return str(Action.REFUSE)
        if Action.MEND in actions:
            return str(Action.MEND)
        return str(Action.WARN) if Action.WARN in actions or self.notes else "ok"


@dataclass(frozen=True)
class Check:
    """The results of checking all tickers, and the models of KRONOS_MODELS."""

    source: str
    interval: str
    clock: datetime  # naive UTC
    tickers: list[Checked]
    models: list[CheckedModel] = field(default_factory=list)

    @property
    def exit_code(self) -> int:
        refused = any(ticker.verdict == Action.REFUSE for ticker in self.tickers)
        return int(refused or any(model.verdict == "failed" for model in self.models))


def check_candles(settings: Settings, symbols: Sequence[str], *, interval: str, bars: int) -> Check:
    """Check the candles of `symbols`, and the models of KRONOS_MODELS.

    Without `symbols`, the active tickers are checked.

    Raises:
        ConfigError: A setting is wrong.
    """
    try:
        bar_length(interval)
    except DataError as error:
        raise ConfigError(str(error)) from error
    data = DataService(settings.data_source, timeouts=settings.timeouts, max_jump=settings.max_jump)
    if not symbols:
        readable = get_db_session if database_exists(database_url()) else None
        symbols = active_tickers(settings, data, readable)
    tickers = [_check(data, symbol, interval, bars) for symbol in symbols]
    models = check_models(settings)
    return Check(settings.data_source, interval, data.now(), tickers, models)


def _check(data: DataService, symbol: str, interval: str, bars: int) -> Checked:
    calendar = None
    try:
        calendar = calendar_name(symbol)
        frame, notes, findings = data.inspect(symbol, interval=interval, bars=bars)
    except DataError as error:
        return Checked(symbol, calendar, 0, None, None, error=error.reason)
    times = pd.DatetimeIndex(frame.index)
    complete = len(without_unfinished(frame, findings))
    return Checked(
        symbol,
        calendar,
        len(frame),
        times[0].to_pydatetime() if len(times) else None,
        times[-1].to_pydatetime() if len(times) else None,
        [(finding, finding.action(data.caller)) for finding in findings],
        notes,
        data.too_few(complete, interval),
    )
