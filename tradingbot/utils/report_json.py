"""The report of a run for machines: one document, or the lines of a log.

    {"version": "0.1.0", "message": null,           why it failed, or had nothing to do
     "started_at": "2026-11-20T22:30:00+00:00", "seconds": 41.2,
     "exit_code": 0, "error": null,                 null, or {"kind": …, "message": …}
     "model": "NeoQuasar/Kronos-mini", "as_of": "2026-11-20T00:00:00",
     "source": "yahoo", "shard": "0/1", "dry_run": false,
     "database": "postgresql+psycopg2://me:***@db/bots",
     "counts": {"active": 3, "stored": 1, "already_there": 1, "failed": 1, "rows": 5},
     "durations": {"wake": 30.1, "fetch": 2.0, …},  seconds by phase
     "failures": [{"kind": "TooFewBars", "reason": "5 usable 1d bars …", "symbols": ["NEW"]}],
     "tickers": {
       "SPY": {"status": "stored",                  forecast (a dry run), stored, already_there,
               "interval": "1d", "as_of": …,        failed or not_reached
               "last_close": 512.3, "model": …, "model_revision": …, "made_at": …, "samples": 20,
               "calibration": "raw",                or what `quantiles` were widened by
               "bars": [{"step": 1, "target_date": …, "open": …, "high": …, "low": …, "close": …,
                         "volume": …, "quantiles": {"0.1": …}, "prob_up": 0.55,
                         "actual": null}, …]},      the close that came, where it is known already
       "NEW": {"status": "failed", "kind": "TooFewBars", "reason": …}}}

Times of bars are naive UTC, as everywhere; moments say their zone. The top's `as_of` is the newest.
"""

import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from tradingbot import __version__
from tradingbot.forecast import Forecast, ForecastBar
from tradingbot.jobs.summary import RunSummary, failures
from tradingbot.runtime.logs import log_line


def document(report: RunSummary) -> dict[str, Any]:
    """All of it, as the module's docstring shows it."""
    return {
        "version": __version__,
        "message": report.message,
        **digest(report),
        "tickers": {symbol: _ticker(report, symbol) for symbol in report.symbols},
    }


def digest(report: RunSummary) -> dict[str, Any]:
    """What holds for the run as a whole."""
    return {
        "started_at": report.started_at.replace(tzinfo=UTC),
        "seconds": round(time.monotonic() - report.began, 3),
        "exit_code": report.exit_code,
        "error": {"kind": report.error, "message": report.message} if report.error else None,
        "model": report.model,
        "as_of": max((forecast.as_of for forecast in report.forecasts.values()), default=None),
        "source": report.source,
        "shard": report.shard,
        "database": report.database,
        "dry_run": report.dry_run,
        "counts": report.counts(),
        "durations": {name: round(took, 3) for name, took in report.seconds.items()},
        "failures": [
            {"kind": kind, "reason": reason, "symbols": symbols}
            for (kind, reason), symbols in failures(report).items()
        ],
    }


def outcome_lines(report: RunSummary) -> Iterator[str]:
    """A line of the log for every ticker: the table, for what collects logs."""
    for symbol in report.symbols:
        if forecast := report.forecasts.get(symbol):
            first = forecast.bars[0]
            yield log_line(
                "INFO",
                f"{symbol}: {first.close:.6g} on {first.target_date:%Y-%m-%d}, "
                f"{forecast.last_close:.6g} as of {forecast.as_of:%Y-%m-%d}",
                event="forecast",
                symbol=symbol,
                status=_status(report, symbol),
                as_of=forecast.as_of,
                last_close=forecast.last_close,
                bars=[_bar_in_short(bar) for bar in forecast.bars],
            )
        elif symbol in report.failed:
            yield log_line(
                "WARNING",
                f"{symbol}: {report.failed[symbol].removeprefix(f'{symbol}: ')}",
                event="failure",
                symbol=symbol,
                kind=report.kinds[symbol],
            )


def _ticker(report: RunSummary, symbol: str) -> dict[str, Any]:
    outcome: dict[str, Any] = {"status": _status(report, symbol)}
    if symbol in report.failed:
        outcome |= {"kind": report.kinds[symbol], "reason": report.failed[symbol]}
    if forecast := report.forecasts.get(symbol):
        outcome |= _forecast(forecast, report.actual.get(symbol, {}))
    return outcome


def _status(report: RunSummary, symbol: str) -> str:
    if symbol in report.made:
        return "forecast" if report.dry_run else "stored"
    if symbol in report.there:
        return "already_there"
    return "failed" if symbol in report.failed else "not_reached"


def _forecast(forecast: Forecast, actual: Mapping[datetime, float]) -> dict[str, Any]:
    return {
        "interval": forecast.interval,
        "as_of": forecast.as_of,
        "last_close": forecast.last_close,
        "model": forecast.model_name,
        "model_revision": forecast.model_revision,
        "made_at": forecast.made_at.replace(tzinfo=UTC),
        "samples": forecast.samples,
        "calibration": forecast.calibration,
        "bars": [
            {
                "step": bar.step,
                "target_date": bar.target_date,
                "open": bar.open,
                "high": bar.high,
                "low": bar.low,
                "close": bar.close,
                "volume": bar.volume,
                "quantiles": bar.close_quantiles,
                "prob_up": bar.prob_up,
                "actual": actual.get(bar.target_date),
            }
            for bar in forecast.bars
        ],
    }


def _bar_in_short(bar: ForecastBar) -> dict[str, Any]:
    return {
        "target_date": bar.target_date,
        "close": bar.close,
        **{f"close_p{level * 100:.0f}": bar.close_quantiles[level] for level in (0.1, 0.5, 0.9)},
        "prob_up": bar.prob_up,
    }
