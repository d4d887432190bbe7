"""Run a model's backtest: candles, windows, a Space, the results file."""

import re
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd

from tradingbot.bots.universe import active_tickers
from tradingbot.data.service import DataService
from tradingbot.data.sources.registry import with_absolute_folder
from tradingbot.errors import ConfigError, DataError, KronosError, SpaceRejected
from tradingbot.forecast import Forecast, recorded_revision
from tradingbot.runtime.clock import utcnow
from tradingbot.runtime.progress import ProgressReporter
from tradingbot.runtime.signals import signals_held
from tradingbot.settings import Settings
from tradingbot.space.client import SpaceClient
from tradingbot.space.connect import check_space_is_known, open_space
from tradingbot.walk_forward.results import PAST, ResultsFile
from tradingbot.walk_forward.windows import Plan, Window, walk, windows

# Exchange calendars go back no further (calendars.py), so no older candles are requested.
_SINCE = datetime(1997, 1, 1)
_NUMBER = re.compile(r"\d[\d.,]*(e[-+]?\d+)?")


@dataclass(frozen=True)
class WalkForwardConfig:
    """Options of the command line, in addition to the settings."""

    tickers: tuple[str, ...]
    windows: int
    stride: int
    context: int
    temperature: float
    top_p: float
    until: datetime | None
    model: str | None
    local: bool


@dataclass
class WalkForwardResult:
    """Progress of a run: what it added to the results file at `path`, and what is still missing."""

    path: Path
    wanted: int = 0  # number of windows
    missing: int = 0  # of these, without a forecast in the file
    made: int = 0  # forecasts made by this run
    seconds: float = 0.0  # from the first request to the last answer
    failed: dict[str, DataError] = field(default_factory=dict)  # ticker -> why it has no window
    fewer: dict[str, int] = field(default_factory=dict)  # ticker -> windows, if fewer than wanted
    model: str = ""
    error: str | None = None  # why the first missing forecast is missing
    refused: bool = False  # whether a retry would fail too

    def progress(self) -> str:
        if not self.wanted:
            return f"{self.path} is unchanged"
        return f"{self.path} has {self.wanted - self.missing} of {self.wanted} forecasts"


def run(
    settings: Settings,
    config: WalkForwardConfig,
    result: WalkForwardResult,
    reporter: ProgressReporter,
) -> None:
    """Add the missing forecasts to the results file, and count them in `result`.

    Raises:
        KronosError: Affects all tickers. Failures of single tickers are recorded in `result`.
    """
    check_space_is_known(settings, local=config.local)
    file = ResultsFile(result.path)
    plan = Plan(
        horizon=settings.horizon,
        stride=config.stride,
        context=config.context,
        samples=settings.samples,
        temperature=config.temperature,
        top_p=config.top_p,
    )
    recorded = {"source": with_absolute_folder(settings.data_source), **_text(asdict(plan))}
    if config.until is not None:
        recorded["until"] = f"{config.until:%Y-%m-%d}"
    file.check(recorded)  # before candles are fetched or a Space is started
    file.check_place()
    bars = _candles(settings, config, result, reporter)
    until = config.until or max(frame.index[-1] for frame in bars.values())
    recorded["until"] = file.settings.get("until") or f"{until:%Y-%m-%d}"
    bars = {symbol: frame.loc[: recorded["until"]] for symbol, frame in bars.items()}
    wanted = _windows(bars, plan, config.windows, result)
    missing = [window for window in wanted if not file.has(window.symbol, window.as_of)]
    result.wanted, result.missing = len(wanted), len(missing)
    result.model = file.settings.get("model", "")
    if missing:
        with open_space(
            settings, local=config.local, reporter=reporter, model=config.model
        ) as client:
            recorded |= _model(client)
            result.model = recorded["model"]
            with file.open_for(recorded):
                for symbol, frame in bars.items():
                    _add_closes(file, symbol, frame, wanted)
                _forecast(client, file, plan, bars, missing, result, reporter)
            reporter.step("pause", "Leaving the Space")


def _windows(
    bars: Mapping[str, pd.DataFrame], plan: Plan, count: int, result: WalkForwardResult
) -> list[Window]:
    """Return all tickers' windows. Record in `result` tickers with none or fewer than `count`."""
    wanted: list[Window] = []
    for symbol, frame in bars.items():
        try:
            found = windows(symbol, pd.DatetimeIndex(frame.index), plan, count)
        except DataError as error:
            result.failed[symbol] = error
            continue
        if len(found) < count:
            result.fewer[symbol] = len(found)
        wanted += found
    if not wanted:
        raise DataError("; ".join(map(str, result.failed.values())))
    return wanted


def _candles(
    settings: Settings,
    config: WalkForwardConfig,
    result: WalkForwardResult,
    reporter: ProgressReporter,
) -> dict[str, pd.DataFrame]:
    """Return all bars of each ticker. Record in `result` why a ticker has none."""
    # with the current time as clock, to include the last bars of the bundled sample
    data = DataService(
        settings.data_source, now=utcnow(), timeouts=settings.timeouts, max_jump=settings.max_jump
    )
    tickers = list(config.tickers) or active_tickers(settings, data, None)
    if not tickers:
        raise ConfigError(f"there are no tickers in {settings.data_source}: give --symbols")
    reporter.step("fetch", "Fetching candles", total=len(tickers))
    found = {}
    for symbol in tickers:
        try:
            frame = data.bars(symbol, since=_SINCE)
            if frame.empty:
                reasons = [f"no bars since {_SINCE:%Y}", *frame.attrs["warnings"]]
                raise DataError("; ".join(reasons), symbol=symbol)
            for warning in frame.attrs["warnings"]:
                reporter.say(f"{symbol}: {warning}")
            found[symbol] = frame
        except DataError as error:
            result.failed[symbol] = error
        reporter.advance()
    if not found:
        raise DataError("; ".join(map(str, result.failed.values())))
    return found


def _model(client: SpaceClient) -> dict[str, str]:
    """Return name and revision of the Space's model, as written to the results file."""
    client.check_key()
    health = client.health()
    name = str(health["model"])
    anchored = health.get("anchor") == "last_close"
    revision = recorded_revision(health.get("model_revision"), anchored=anchored)
    return {"model": name, "revision": revision or ""}


def _add_closes(
    file: ResultsFile, symbol: str, frame: pd.DataFrame, wanted: Sequence[Window]
) -> None:
    """Add the bars that measure a ticker's windows, from two years before the first window."""
    first = min((window.as_of for window in wanted if window.symbol == symbol), default=None)
    if first is not None:
        bars = frame.iloc[max(0, len(frame.loc[:first]) - PAST) :]
        file.add_closes(symbol, bars["close"], bars)


def _forecast(
    client: SpaceClient,
    file: ResultsFile,
    plan: Plan,
    bars: Mapping[str, pd.DataFrame],
    missing: Sequence[Window],
    result: WalkForwardResult,
    reporter: ProgressReporter,
) -> None:
    """Request the missing windows, and append each batch as it arrives."""
    closes = {symbol: frame["close"] for symbol, frame in bars.items()}
    remarks: dict[str, list[str]] = {}  # warnings that differ only in numbers are shown once
    reporter.step("forecast", f"Forecasting with {result.model}", total=len(missing))
    began = time.monotonic()
    with closing(walk(client, plan, bars, missing)) as batches:
        for batch in batches:
            made = []
            for _, answer in batch:
                if isinstance(answer, KronosError):
                    if result.error is None:
                        result.error = str(answer)
                        result.refused = isinstance(answer, SpaceRejected)
                    continue
                made.append((answer, _outcomes(answer, closes[answer.symbol])))
                for remark in answer.warnings:
                    remarks.setdefault(_NUMBER.sub("#", remark), []).append(remark)
            with signals_held():  # an interruption must not separate writing from counting
                file.add(made)
                result.made += len(made)
                result.missing -= len(made)
            for _ in batch:
                reporter.advance()
            result.seconds = time.monotonic() - began
    for alike in remarks.values():
        others = f" (this, or the same with other numbers, in {len(alike):,} windows)"
        reporter.say(alike[0] + (others if len(set(alike)) > 1 else ""))


def _outcomes(forecast: Forecast, closes: pd.Series) -> dict[datetime, float]:
    """Return the closes of the target sessions that have a bar."""
    targets = [bar.target_date for bar in forecast.bars]
    return {target: float(closes[target]) for target in targets if target in closes.index}


def _text(settings: Mapping[str, Any]) -> dict[str, str]:
    """Format numbers as written to the file."""
    return {name: f"{value:g}" for name, value in settings.items()}
