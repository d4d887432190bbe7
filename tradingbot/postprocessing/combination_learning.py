"""Learn from the ledger how much each forecaster is worth: states for `kronos_combinations`.

    combination = learn(sessions, bars_of, start, before=as_of, horizon=5)

Each target session is learnt from once, in their order, as soon as it lies before the newest bars
of all tickers, those of other shards included: by then every exchange has closed it. A ticker
whose candles come days later is left out of that session.
"""

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta

import numpy as np
import pandas as pd

from tradingbot.errors import DataError
from tradingbot.evaluation.outcomes import BEFORE, ForecastOutcomes, resolve_outcomes
from tradingbot.markets.symbols import asset_class
from tradingbot.persistence.ledger import Targets
from tradingbot.postprocessing.bands import ALL_CLASSES, Key
from tradingbot.postprocessing.combination import Panel, joined, replay, untaught
from tradingbot.postprocessing.combined_forecast import Combination
from tradingbot.postprocessing.experts import EXPERTS, expert_quantiles
from tradingbot.postprocessing.fit import RECORD
from tradingbot.typing import SessionFactory

BarsOf = Callable[[str, str, datetime], pd.DataFrame]  # symbol, interval, since -> candles by time

_SLICE = timedelta(days=92)  # of target sessions in memory at a time
_MOMENT = timedelta(seconds=1)
_LATE = timedelta(days=14)  # a pool that has learnt nothing for longer has no more forecasts

Panels = dict[int, list[tuple[str, Panel]]]  # by step: of a ticker, its asset class and forecasts


def learn(
    sessions: SessionFactory,
    bars_of: BarsOf,
    start: Combination,
    *,
    before: datetime,
    horizon: int,
) -> Combination:
    """What is known once all target sessions earlier than `before` have been learnt from.

    Args:
        sessions: Of the database with the ledger.
        bars_of: A ticker's candles; it may raise DataError.
        start: What is known already: its sessions are not learnt from again.
        before: The first target session that does not count.
        horizon: Of the forecasts, in bars: how far back those of a session can lie.
    """
    combination = start
    until = [state.until for state in start.pools.values() if state.until is not None]
    after = before - RECORD
    if until:
        oldest, newest = (bound.astype("M8[s]").item() for bound in (min(until), max(until)))
        after = max(oldest, newest - _LATE)
    while after + _MOMENT < before:
        end = min(after + _SLICE, before)
        panels = _panels(sessions, bars_of, start.key, (after, end), horizon)
        combination = taught(combination, panels)
        after = end - _MOMENT
    return combination


def taught(combination: Combination, panels: Panels) -> Combination:
    """What is known once these sessions have been learnt from."""
    pools = dict(combination.pools)
    for step, parts in panels.items():
        for kind in (*sorted({kind for kind, _ in parts}), ALL_CLASSES):
            these = [panel for of, panel in parts if kind in (of, ALL_CLASSES)]
            known = pools.get((kind, step), untaught(len(EXPERTS)))
            newest = replay(joined(these), known).newest
            if newest.sessions:
                pools[kind, step] = newest
    return Combination(combination.key, pools)


def panels_of(one: ForecastOutcomes, bars: pd.DataFrame) -> Iterator[tuple[int, Panel]]:
    """The forecasts of a ticker, a step at a time."""
    experts, scale = expert_quantiles(bars, one.as_of, one.step)
    with np.errstate(divide="ignore", invalid="ignore"):
        model, actual = np.log(one.raw_quantiles), np.log(one.actual)
    whole = Panel(one.as_of, one.target, scale, actual, model, experts)
    for step in np.unique(one.step).tolist():
        yield step, whole[one.step == step]


def _panels(
    sessions: SessionFactory, bars_of: BarsOf, key: Key, targets: Targets, horizon: int
) -> Panels:
    name, revision, interval = key
    bars: dict[str, pd.DataFrame] = {}  # of the ticker that is being read

    def closes(symbol: str, of: str, since: datetime) -> "pd.Series[float]":
        bars.clear()
        if of != interval:
            raise DataError(f"its forecasts are of {of}")
        bars[symbol] = bars_of(symbol, of, since - BEFORE)
        return bars[symbol]["close"]

    since = targets[0] - timedelta(days=2 * horizon + 14)  # with weekends and holidays
    found: Panels = {}
    for one in resolve_outcomes(sessions, closes, model=name, since=since, targets=targets):
        if isinstance(one, ForecastOutcomes) and one.model_revision == revision:
            kind = asset_class(one.symbol)
            for step, panel in panels_of(one, bars[one.symbol]):
                found.setdefault(step, []).append((kind, panel))
    return found
