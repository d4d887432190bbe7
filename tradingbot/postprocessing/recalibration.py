"""Fit bands and combinations of all models from known outcomes, and store them."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial

import numpy as np
import pandas as pd

from tradingbot.data.service import DataService
from tradingbot.data.stored_candles import bars_in_database
from tradingbot.errors import DataError
from tradingbot.evaluation.close_outcomes import (
    ForecastOutcomes,
    Unresolved,
    UnresolvedReason,
    closes_of,
    resolve_outcomes,
)
from tradingbot.forecast import ANCHORED
from tradingbot.markets.symbols import asset_class
from tradingbot.persistence.damage import warn_of_damaged_rows
from tradingbot.persistence.engine import get_db_session
from tradingbot.persistence.ledger import newest_vintage
from tradingbot.persistence.runs import last_source
from tradingbot.persistence.url import database_exists, redact
from tradingbot.postprocessing.bands import Key
from tradingbot.postprocessing.combination_learning import (
    BarsOf,
    Panels,
    after_learning,
    first_without_candles,
    learn,
    panels_of,
    rivals_of,
)
from tradingbot.postprocessing.combined_forecast import Combination
from tradingbot.postprocessing.fit import RECORD, Fit, fit
from tradingbot.postprocessing.repository import load, store, store_combination
from tradingbot.runtime.clock import utcnow
from tradingbot.settings import Settings
from tradingbot.typing import SessionFactory

WithBars = tuple[ForecastOutcomes, pd.DataFrame]  # forecasts of a ticker, and its candles


@dataclass
class Recalibration:
    """Result of a calibration.

    Attributes:
        fits: One per model.
        combinations: One per model with anchored paths; other models are not combined.
        left_out: Reason -> number of forecasts that could not be compared with outcomes.
        earlier: Models with too few outcomes now, but with stored factors of an earlier run.
        rows: Number of rows stored in kronos_calibrations.
        weights: Number of rows stored in kronos_combinations.
        stored_in: The database without its password; None for a dry run.
    """

    fits: list[Fit] = field(default_factory=list)
    combinations: list[Combination] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    earlier: set[Key] = field(default_factory=set)
    rows: int = 0
    weights: int = 0
    stored_in: str | None = None

    @property
    def out_of_reach(self) -> bool:
        """Return whether outcomes are due, but no close could be read for any forecast."""
        return not self.fits and any(text != UnresolvedReason.NOT_YET for text in self.left_out)


def recalibrate(
    url: str,
    settings: Settings,
    *,
    source: str | None,
    record: Sequence[WithBars] | None,
    dry_run: bool,
) -> Recalibration:
    """Fit each model's bands, learn its weights from scratch, and store both.

    Args:
        url: The database.
        settings: Give the data source if neither `source` nor the last run does.
        source: Source of the closes; None: the source of the last run.
        record: The forecasts and candles to learn from; None: the stored forecasts.
        dry_run: Store nothing, and create no database.
    """
    found = Recalibration()
    if record is not None:
        found.fits = fit(outcomes for outcomes, _ in record)
        found.combinations = _combinations(record)
    elif not dry_run or database_exists(url):
        sessions = partial(get_db_session, url, create=not dry_run)
        with sessions() as session:
            warn_of_damaged_rows(session)
            newest = newest_vintage(session)
            source = source or last_source(session) or settings.data_source
        if newest is not None:
            data = _candles(sessions, settings, source)
            stored = resolve_outcomes(
                sessions, closes_of(data), since=newest - RECORD, raw_only=True
            )
            found.fits = fit(_known(stored, found.left_out))
            found.combinations = _learnt(sessions, data, found.fits, newest)
        lacking = [fitted.calibration.key for fitted in found.fits if not fitted.calibration.pools]
        with sessions() as session:
            found.earlier = {key for key in lacking if load(session, key)}
    if not dry_run:
        with get_db_session(url) as session:
            found.rows = sum(store(session, fitted.calibration) for fitted in found.fits)
            found.weights = sum(store_combination(session, each) for each in found.combinations)
        found.stored_in = redact(url)
    return found


def _candles(sessions: SessionFactory, settings: Settings, source: str) -> DataService:
    return DataService(
        source,
        now=utcnow(),
        sessions=sessions,
        timeouts=settings.timeouts,
        max_jump=settings.max_jump,
    )


def _known(
    record: Iterable[ForecastOutcomes | Unresolved], left_out: Counter[str]
) -> Iterator[ForecastOutcomes]:
    for part in record:
        if isinstance(part, ForecastOutcomes):
            yield part
        else:
            left_out[part.text] += part.n


def _combinations(record: Sequence[WithBars]) -> list[Combination]:
    """Learn combinations from these forecasts alone, up to their newest outcomes."""
    found: dict[Key, Panels] = {}
    before = first_without_candles([bars.index[-1].to_pydatetime() for _, bars in record])
    for outcomes, bars in record:
        key = outcomes.model_name, outcomes.model_revision, outcomes.interval
        panels = found.setdefault(key, {})
        for step, panel in panels_of(outcomes, bars):
            known = panel[panel.target < np.datetime64(before)]
            panels.setdefault(step, []).append((asset_class(outcomes.symbol), known))
    return [
        after_learning(Combination(key, {}), panels)
        for key, panels in sorted(found.items())
        if key[1].endswith(ANCHORED)
    ]


def _learnt(
    sessions: SessionFactory, data: DataService, fits: Iterable[Fit], newest: datetime
) -> list[Combination]:
    """Learn from scratch, from all target sessions before the ledger's newest `as_of`."""
    bars_of = _bars_of(sessions, data)
    return [
        learn(
            sessions,
            bars_of,
            Combination(fitted.calibration.key, {}),
            before=newest,
            horizon=max(outcome.step for outcome in fitted.outcomes),
            challengers=rivals_of(sessions, fitted.calibration.key, newest),
        )
        for fitted in fits
        if fitted.calibration.key[1].endswith(ANCHORED)
    ]


def _bars_of(sessions: SessionFactory, data: DataService) -> BarsOf:
    """Return a function that reads a ticker's bars from the source, or else from the database."""
    known: dict[tuple[str, str], pd.DataFrame] = {}

    def bars(symbol: str, interval: str, since: datetime) -> pd.DataFrame:
        found = known.get((symbol, interval))
        if found is None:
            try:
                found = data.bars(symbol, interval=interval, since=since)
            except DataError:
                with sessions() as session:
                    found = bars_in_database(session, symbol, interval, since)
            known[symbol, interval] = found
        return found

    return bars
