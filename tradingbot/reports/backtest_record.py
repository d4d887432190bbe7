"""Read a report's data from a backtest file instead of the database."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from tradingbot.errors import ConfigError
from tradingbot.evaluation.close_outcomes import ForecastOutcomes
from tradingbot.evaluation.training_cutoff import trained_until
from tradingbot.forecast import QUANTILE_LEVELS, prob_above
from tradingbot.jobs.status import Status
from tradingbot.reports.combination_shares import shares_by_day_of, shares_of
from tradingbot.reports.parts import parts_of
from tradingbot.reports.record import (
    BANDS,
    SHOWN_SESSIONS,
    ForecastFan,
    Record,
    TickerRecord,
    past_forecasts,
)
from tradingbot.runtime.clock import utcnow
from tradingbot.typing import Floats
from tradingbot.walk_forward.postprocessing_chain import bars_of, chain_of, walk
from tradingbot.walk_forward.results import read_rows
from tradingbot.walk_forward.schema import settings_of

PRICES = ["open", "high", "low", "close"]


def read_backtest(path: Path, symbols: Sequence[str]) -> Record:
    """Read a backtest's forecasts of `symbols` (all, if empty), combined as they would be served.

    There is no look-ahead: each forecast is combined with weights learnt from earlier ones.
    Forecasts of days in the model's training are used only if there are no other forecasts.

    Raises:
        ConfigError: The file is not a backtest file, or has no such forecasts with an outcome.
    """
    rows = read_rows(path)
    available = sorted(rows["symbol"].unique())
    chosen = [symbol for symbol in available if not symbols or symbol.upper() in symbols]
    rows = rows[rows["symbol"].isin(chosen)]
    bars = bars_of(rows)
    walked = walk(rows, bars)
    if walked is None:
        wanted = f" of {', '.join(symbols)}" if symbols else ""
        raise ConfigError(
            f"{path} has no forecast{wanted} with an outcome; it has {', '.join(available[:5])}"
        )
    served = _served(walked.record, walked.quantiles["combined"])
    settings = settings_of(rows)
    until = max(outcomes.target.max() for outcomes in served).astype("M8[s]").item()
    return Record(
        status=Status(now=utcnow(), database=str(path), source=settings["source"], clock=until),
        model=settings["model"],
        revision=settings["revision"],
        samples=int(float(settings["samples"])),
        tickers=[_ticker(outcomes, bars[outcomes.symbol]) for outcomes in served],
        notes=_notes(settings["model"], walked.unseen, symbols, chosen),
        parts=parts_of(chain_of(walked)),
        shares=shares_of({step: course.newest for step, course in walked.courses.items()}),
        shares_by_day=shares_by_day_of(walked.courses),
        backtest=path.name,
    )


def _served(record: Sequence[ForecastOutcomes], combined: Floats) -> list[ForecastOutcomes]:
    """Return the forecasts with combined quantiles in place of the model's, where available."""
    found, at = [], 0
    for outcomes in record:
        combined_part = combined[at : at + len(outcomes)]
        known = np.isfinite(combined_part).all(axis=1, keepdims=True)
        given = np.where(known, combined_part, outcomes.raw_quantiles)
        found.append(outcomes.with_quantiles(given))
        at += len(outcomes)
    return found


def _ticker(record: ForecastOutcomes, bars: pd.DataFrame) -> TickerRecord:
    candles = bars.reindex(columns=PRICES)
    for name in PRICES[:3]:  # older files have closes only
        candles[name] = candles[name].fillna(candles["close"])
    shown = candles.tail(SHOWN_SESSIONS)
    return TickerRecord(
        symbol=record.symbol,
        fan=_newest(record, candles["close"]),
        candles=shown,
        outcomes=record,
        past=past_forecasts(record, shown, candles),
        missing=[],
    )


def _newest(record: ForecastOutcomes, closes: pd.Series) -> ForecastFan:
    last = record[record.as_of == record.as_of.max()]
    as_of = last.as_of[0].item()
    close = float(closes[as_of])
    columns = [QUANTILE_LEVELS.index(level) for level in BANDS]
    return ForecastFan(
        as_of=as_of,
        made_at=as_of,
        last_close=close,
        days=last.target.astype("M8[s]").tolist(),
        quantiles=close * last.quantiles[:, columns].T,
        prob_up=[
            prob_above(dict(zip(QUANTILE_LEVELS, row, strict=True)), 1.0)
            for row in last.quantiles.tolist()
        ],
        mean=(close * last.mean).tolist(),
        calibration="combined, walked forward",
        shares=None,
    )


def _notes(model: str, unseen: bool, symbols: Sequence[str], chosen: list[str]) -> list[str]:
    notes = []
    if not unseen:
        notes.append(
            f"{model} was {trained_until(model)}: it may have seen these days, and is worse on "
            "days that are new to it."
        )
    if unknown := sorted(set(symbols) - {symbol.upper() for symbol in chosen}):
        notes.append(f"No forecast of {', '.join(unknown)}.")
    return notes
