"""Learn the weights of forecasters from the ledger, as states for `kronos_combinations`.

    combination = learn(sessions, bars_of, start, before=as_of, horizon=5)

Each target session is learnt once, in order. A session is learnt when it is earlier than the newest
bars of all tickers, including the tickers of other shards, because every exchange has then closed
that session. A ticker whose candles arrive days later does not contribute to that session.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from datetime import datetime, timedelta

import numpy as np
import pandas as pd

from tradingbot.errors import DataError
from tradingbot.evaluation.close_outcomes import ForecastOutcomes, resolve_outcomes
from tradingbot.forecast import ANCHORED, QUANTILE_LEVELS
from tradingbot.markets.symbols import asset_class
from tradingbot.persistence.ledger import (
    LedgerPart,
    Targets,
    challengers_since,
    is_challenger,
    read_part,
)
from tradingbot.postprocessing.bands import ALL_CLASSES, Key
from tradingbot.postprocessing.combination import Panel, joined, replay, without_record
from tradingbot.postprocessing.combined_forecast import Combination
from tradingbot.postprocessing.experts import EXPERTS, FORECASTERS, PAST, expert_quantiles
from tradingbot.postprocessing.fit import RECORD
from tradingbot.typing import Floats, SessionFactory

BarsOf = Callable[[str, str, datetime], pd.DataFrame]  # symbol, interval, since -> candles by time

_SLICE = timedelta(days=92)  # period of target sessions in memory at a time
_MOMENT = timedelta(seconds=1)
# Learning waits for tickers with late candles. It does not wait if at most one ticker in
# _LAGGING_SHARE is late, or for tickers that are more than MAX_LAG behind.
_LAGGING_SHARE = 10
MAX_LAG = timedelta(days=4)
_LATE = timedelta(days=14)  # models without a new forecast for longer are no longer challengers

Panels = dict[int, list[tuple[str, Panel]]]  # by step: each ticker's asset class and forecasts


def first_without_candles(newest: Collection[datetime]) -> datetime:
    """Return the first session whose candles are not complete yet.

    A few tickers that lag behind do not count (see _LAGGING_SHARE). If their candles are missing
    for more than a session, the outcomes of these tickers are not learnt from.

    Args:
        newest: The time of each ticker's newest bar.
    """
    times = sorted(newest)
    return max(times[-1] - MAX_LAG, times[len(times) // _LAGGING_SHARE])


def learn(
    sessions: SessionFactory,
    bars_of: BarsOf,
    start: Combination,
    *,
    before: datetime,
    horizon: int,
    challengers: Sequence[str] = (),
) -> Combination:
    """Learn from all target sessions earlier than `before`.

    Args:
        sessions: Sessions of the database with the ledger.
        bars_of: Returns a ticker's candles. It may raise DataError.
        start: The states learnt so far. Sessions that they include are not learnt again.
        before: The first target session that is not learnt.
        horizon: Horizon of the forecasts in bars. It limits how long before a session the forecasts
            for that session can have been made.
        challengers: Further models in the same ledger that are or were on trial.
    """
    combination = start
    until = [state.until for state in start.pools.values() if state.until is not None]
    after = before - RECORD
    if until:
        oldest, newest = (bound.astype("M8[s]").item() for bound in (min(until), max(until)))
        after = max(oldest, newest - _LATE)
    while after + _MOMENT < before:
        end = min(after + _SLICE, before)
        panels = _panels(sessions, bars_of, start.key, (after, end), horizon, challengers)
        combination = after_learning(combination, panels, challengers)
        after = end - _MOMENT
    return combination


def rivals_of(sessions: SessionFactory, key: Key, until: datetime) -> list[str]:
    """Return the challengers of this model's combination, read from the ledger.

    If the model is a challenger itself, return none. A model without a forecast in the period
    `_LATE` before `until` is no longer a challenger.
    """
    name, _, interval = key
    with sessions() as session:
        if is_challenger(session, name, interval):
            return []
        found = challengers_since(session, until - _LATE, interval=interval)
    return [other for other in found if other not in (name, *FORECASTERS)]


def after_learning(
    combination: Combination, panels: Panels, challengers: Sequence[str] = ()
) -> Combination:
    """Return the combination after learning the sessions of `panels`."""
    pools = dict(combination.pools)
    for step, parts in panels.items():
        for kind in (*sorted({kind for kind, _ in parts}), ALL_CLASSES):
            of_kind = [panel for of, panel in parts if kind in (of, ALL_CLASSES)]
            known = pools.get((kind, step), without_record(len(EXPERTS))).with_challengers(
                challengers
            )
            newest = replay(joined(of_kind), known, step=step).newest
            if newest.sessions:
                pools[kind, step] = newest
    return Combination(combination.key, pools)


def panels_of(
    outcomes: ForecastOutcomes, bars: pd.DataFrame, rivals: Floats | None = None
) -> Iterator[tuple[int, Panel]]:
    """Yield each step with the panel of a ticker's forecasts.

    `rivals` are the challengers' quantiles, (n, challengers, 19).
    """
    experts, scale = expert_quantiles(bars, outcomes.as_of, outcomes.step)
    if rivals is not None:
        experts = np.concatenate([experts, rivals], axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        model, actual = np.log(outcomes.raw_quantiles), np.log(outcomes.actual)
    whole = Panel(outcomes.as_of, outcomes.target, scale, actual, model, experts)
    for step in np.unique(outcomes.step).tolist():
        yield step, whole[outcomes.step == step]


def _panels(
    sessions: SessionFactory,
    bars_of: BarsOf,
    key: Key,
    targets: Targets,
    horizon: int,
    challengers: Sequence[str],
) -> Panels:
    name, revision, interval = key
    bars: dict[str, pd.DataFrame] = {}  # of the current ticker

    def closes(symbol: str, of: str, since: datetime) -> "pd.Series[float]":
        bars.clear()
        if of != interval:
            raise DataError(f"its forecasts are of {of}")
        bars[symbol] = bars_of(symbol, of, since - PAST)
        return bars[symbol]["close"]

    since = targets[0] - timedelta(days=2 * horizon + 14)  # includes weekends and holidays
    found: Panels = {}
    resolved = resolve_outcomes(
        sessions, closes, model=name, since=since, targets=targets, raw_only=True
    )
    for outcomes in resolved:
        if isinstance(outcomes, ForecastOutcomes) and outcomes.model_revision == revision:
            kind = asset_class(outcomes.symbol)
            rivals = _rivals(sessions, outcomes, targets, challengers) if challengers else None
            for step, panel in panels_of(outcomes, bars[outcomes.symbol], rivals):
                found.setdefault(step, []).append((kind, panel))
    return found


def _rivals(
    sessions: SessionFactory,
    outcomes: ForecastOutcomes,
    targets: Targets,
    challengers: Sequence[str],
) -> Floats:
    """Return the challengers' quantiles for the same targets, as logs of price ÷ last close.

    Shape (n, challengers, 19). NaN where a challenger has no forecast, or where its paths do not
    start from the last close.
    """
    quantiles = np.full((len(outcomes), len(challengers), len(QUANTILE_LEVELS)), np.nan)
    asked = pd.MultiIndex.from_arrays([outcomes.as_of, outcomes.target])
    for place, name in enumerate(challengers):
        part = LedgerPart(
            outcomes.symbol, outcomes.interval, name, outcomes.as_of[0].item(), len(outcomes)
        )
        rows = read_part(sessions, part, targets=targets, raw_only=True)
        if rows is None:
            continue
        row = pd.MultiIndex.from_arrays([rows.as_of, rows.target]).get_indexer(asked)
        anchored = np.array([text.endswith(ANCHORED) for text in rows.revision.tolist()])
        known = (row >= 0) & anchored[row]
        with np.errstate(divide="ignore", invalid="ignore"):
            quantiles[known, place] = np.log(rows.raw_quantiles[row[known]])
    quantiles[~np.isfinite(quantiles).all(axis=2)] = np.nan
    return quantiles
