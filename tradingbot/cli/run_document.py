"""The summary of a run for programs: one JSON document, or log lines.

  {"version": "1.2.3", "message": null,           why it failed, or had nothing to do
   "started_at": "2026-11-20T22:30:00+00:00", "seconds": 41.2,
   "exit_code": 0, "error": null,                 null, or {"kind": …, "message": …}
   "model": "NeoQuasar/Kronos-mini", "as_of": "2026-11-20T00:00:00",
   "source": "yahoo", "shard": "0/1", "dry_run": false,
   "database": "postgresql+psycopg2://me:***@db/bots",
   "challengers": [{"name": "kronos-base", "stored": 3, "already_there": 0, "tickers": 3,
                    "beside": false,              whether it has a weight in the served forecast
                    "failure": null}],            of KRONOS_MODELS; null, or why it failed
   "counts": {"active": 3, "stored": 1, "already_there": 1, "failed": 1, "rows": 5},
   "durations": {"wake": 30.1, "fetch": 2.0, …},  seconds by phase
   "failures": [{"kind": "TooFewBars", "reason": "5 usable 1d bars …", "symbols": ["NEW"]}],
   "tickers": {
     "SPY": {"status": "stored",                  forecast (a dry run), stored, already_there,
             "interval": "1d", "as_of": …,        failed or not_reached
             "last_close": 512.3, "model": …, "model_revision": …, "made_at": …, "samples": 20,
             "calibration": "raw",                "raw", or the post-processing of `quantiles`
             "shares": {"kronos": 0.15, …},       weights of combined quantiles, else null
             "bars": [{"step": 1, "target_date": …, "open": …, "high": …, "low": …, "close": …,
                       "volume": …, "quantiles": {"0.1": …}, "prob_up": 0.55,
                       "actual": null}, …],       the realised close, if it is known
             "events": [{"event": "touch +2%", "probability": [0.1, …], "low": …, "high": …,
                         "mean": null, "mean_error": null}, …]},  of KRONOS_EVENTS, by bar
     "NEW": {"status": "failed", "kind": "TooFewBars", "reason": …}}}

Times of bars are naive UTC; other times have a zone. The top-level `as_of` is the newest `as_of` of
the tickers.
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from tradingbot import __version__
from tradingbot.forecast import Forecast, ForecastBar
from tradingbot.jobs.summary import RunSummary, TickerOutcome
from tradingbot.runtime.logs import log_line


def document(summary: RunSummary) -> dict[str, Any]:
    """Return the JSON document, as shown in the module's docstring."""
    return {
        "version": __version__,
        "message": summary.ending.message,
        **digest(summary),
        "tickers": {symbol: _ticker(outcome) for symbol, outcome in summary.tickers.items()},
    }


def digest(summary: RunSummary) -> dict[str, Any]:
    """Return the part of the document that describes the run as a whole."""
    ending = summary.ending
    forecasts = summary.forecasts.values()
    return {
        "started_at": summary.started_at.replace(tzinfo=UTC),
        "seconds": round(summary.seconds, 3),
        "exit_code": ending.exit_code,
        "error": {"kind": ending.error, "message": ending.message} if ending.error else None,
        "model": summary.model,
        "as_of": max((forecast.as_of for forecast in forecasts), default=None),
        "source": summary.source,
        "shard": summary.shard,
        "database": summary.database,
        "dry_run": summary.dry_run,
        "challengers": [asdict(challenger) for challenger in summary.challengers],
        "counts": summary.counts(),
        "durations": {name: round(took, 3) for name, took in summary.durations.items()},
        "failures": [
            {"kind": kind, "reason": reason, "symbols": symbols}
            for (kind, reason), symbols in summary.failures().items()
        ],
    }


def outcome_lines(summary: RunSummary) -> Iterator[str]:
    """Yield a log line for each ticker, for systems that collect logs."""
    for symbol, outcome in summary.tickers.items():
        if (forecast := outcome.forecast) is not None:
            first = forecast.bars[0]
            yield log_line(
                "INFO",
                f"{symbol}: {first.close:.6g} on {first.target_date:%Y-%m-%d}, "
                f"{forecast.last_close:.6g} as of {forecast.as_of:%Y-%m-%d}",
                event="forecast",
                symbol=symbol,
                status=outcome.status,
                as_of=forecast.as_of,
                last_close=forecast.last_close,
                bars=[_bar_in_short(bar) for bar in forecast.bars],
            )
        elif (failure := outcome.failure) is not None:
            yield log_line(
                "WARNING",
                f"{symbol}: {failure.reason}",
                event="failure",
                symbol=symbol,
                kind=type(failure).__name__,
            )


def _ticker(outcome: TickerOutcome) -> dict[str, Any]:
    document: dict[str, Any] = {"status": outcome.status}
    if (failure := outcome.failure) is not None:
        document |= {"kind": type(failure).__name__, "reason": str(failure)}
    if (forecast := outcome.forecast) is not None:
        document |= _forecast(forecast, outcome.actual)
    return document


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
        "shares": forecast.shares,
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
        "events": [asdict(chance) for chance in forecast.events],
    }


def _bar_in_short(bar: ForecastBar) -> dict[str, Any]:
    return {
        "target_date": bar.target_date,
        "close": bar.close,
        **{f"close_p{level * 100:.0f}": bar.close_quantiles[level] for level in (0.1, 0.5, 0.9)},
        "prob_up": bar.prob_up,
    }
