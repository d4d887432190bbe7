"""Read and store calibrations and combinations in the database."""

import logging
import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import TypeVar

import numpy as np
import pandas as pd
from sqlalchemy import ColumnElement, delete, inspect, select, tuple_
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from tradingbot.combination_shares import mean_shares
from tradingbot.errors import KronosError
from tradingbot.forecast import ANCHORED, Forecast
from tradingbot.persistence.damage import count_damaged
from tradingbot.persistence.engine import get_db_session
from tradingbot.persistence.models import KronosCalibration, KronosCombination
from tradingbot.persistence.upsert import upsert
from tradingbot.persistence.url import database_exists, database_url
from tradingbot.postprocessing.bands import ALL_CLASSES, Calibration, Factors, Key, PoolName, key_of
from tradingbot.postprocessing.challenger_rows import challengers_column, with_challengers
from tradingbot.postprocessing.combination import State
from tradingbot.postprocessing.combined_forecast import Combination, forecasters_of, suffices
from tradingbot.postprocessing.conformal import BANDS, LIMIT
from tradingbot.postprocessing.experts import FORECASTERS
from tradingbot.postprocessing.paths import with_served_paths
from tradingbot.runtime.clock import utcnow
from tradingbot.typing import SessionFactory

logger = logging.getLogger(__name__)

_Known = TypeVar("_Known")
Stored = type[KronosCalibration] | type[KronosCombination]


# Errors raised when a damaged row is read. `store` and `store_combination` never write such a row.
_DAMAGED = (ValueError, TypeError, LookupError, ArithmeticError, AttributeError)


def load(session: Session, key: Key) -> Calibration | None:
    """Return the stored calibration of this model's revision, or None if none is usable.

    A pool with a damaged row is skipped with a warning. Forecasts of that pool then use a larger
    pool.
    """
    table = KronosCalibration
    rows: dict[PoolName, dict[int, KronosCalibration]] = {}
    pools: dict[PoolName, Factors] = {}
    for row in session.scalars(select(table).where(*_of(table, key))):
        rows.setdefault((row.asset_class, row.step), {})[row.band] = row
    _has_damaged(session, table, key)
    for pool, bands in rows.items():
        if bands.keys() < set(BANDS):
            continue
        try:
            pools[pool] = _factors(bands)
        except _DAMAGED as error:
            _warn_of_damaged(table, key, error)
    return Calibration(key, pools) if pools else None


def store(session: Session, calibration: Calibration) -> int:
    """Store the calibration's pools, and return the number of rows. The caller commits.

    Pools that are not in `calibration` keep their stored factors.
    """
    now = utcnow()
    name, revision, interval = calibration.key
    rows = [
        {
            "model_name": name,
            "model_revision": revision,
            "interval": interval,
            "asset_class": kind,
            "step": step,
            "band": band,
            "factor": factor,
            "n": factors.n,
            "until": factors.until,
            "fitted_at": now,
        }
        for (kind, step), factors in calibration.pools.items()
        for band, factor in zip(BANDS, factors.values, strict=True)
    ]
    return upsert(session, KronosCalibration, rows)


def load_combination(session: Session, key: Key, *, whole: bool = False) -> Combination | None:
    """Return the stored combination of this model's revision, or None if none is usable.

    A damaged pool is skipped with a warning. With `whole`, one damaged pool makes the result None,
    so that the nightly run learns all pools again from the ledger. The result is also None for a
    database with an older schema, which lacks the table or some columns.
    """
    table = KronosCombination
    schema = inspect(session.connection())
    if not schema.has_table(table.__tablename__):
        return None
    if "challengers" not in {column["name"] for column in schema.get_columns(table.__tablename__)}:
        return None
    pools: dict[PoolName, State] = {}
    complete = not _has_damaged(session, table, key)
    for row in session.scalars(select(table).where(*_of(table, key))):
        try:
            pools[row.asset_class, row.step] = _state(row)
        except _DAMAGED as error:
            _warn_of_damaged(table, key, error)
            complete = False
    return Combination(key, pools) if pools and (complete or not whole) else None


def newest_of_family(session: Session, key: Key) -> Combination | None:
    """Return the combination of the model's most recently learnt revision, with `key` as its key.

    A new revision starts from this combination. Return None if the most recently learnt revision is
    `key` itself: this function is called when the rows of `key` are missing or damaged. Forecasts
    whose paths start from the last close never share a combination with other forecasts.
    """
    table = KronosCombination
    revision = session.scalar(
        select(table.model_revision)
        .where(
            table.model_name == key[0],
            table.interval == key[2],
            table.model_revision.endswith(ANCHORED) == key[1].endswith(ANCHORED),
        )
        .order_by(table.until.desc(), table.learnt_at.desc(), table.model_revision)
        .limit(1)
    )
    if revision in (None, key[1]):
        return None
    found = load_combination(session, (key[0], revision, key[2]))
    return found and Combination(key, found.pools)


def served_shares(session: Session, key: Key) -> dict[str, float] | None:
    """Return each forecaster's weight, averaged over all steps; None if nothing is combined yet."""
    found = load_combination(session, key)
    pools = {} if found is None else found.pools
    weights = [
        dict(zip(forecasters_of(state), state.weights.tolist(), strict=True))
        for (kind, _), state in pools.items()
        if kind == ALL_CLASSES and suffices(state)
    ]
    return mean_shares(weights) if weights else None


def store_combination(session: Session, combination: Combination) -> int:
    """Replace the stored pools, and return the number of rows. The caller commits."""
    now = utcnow()
    name, revision, interval = combination.key
    table = KronosCombination
    session.execute(
        delete(table).where(
            table.model_name == name,
            table.model_revision == revision,
            table.interval == interval,
            tuple_(table.asset_class, table.step).not_in(list(combination.pools)),
        )
    )
    rows = [
        {
            "model_name": name,
            "model_revision": revision,
            "interval": interval,
            "asset_class": kind,
            "step": step,
            "weights": dict(zip(forecasters_of(state), state.weights.tolist(), strict=True)),
            "gains": dict(zip(forecasters_of(state), state.gains, strict=True)),
            "challengers": challengers_column(state),
            "median_agreement": state.agreement,
            "median_size": state.size,
            "band_factors": {
                str(band): math.exp(log) for band, log in zip(BANDS, state.log_factors, strict=True)
            },
            "sessions": state.sessions,
            "n": state.forecasts,
            "until": state.until.astype("M8[s]").item(),
            "learnt_at": now,
        }
        for (kind, step), state in combination.pools.items()
        if state.until is not None
    ]
    return upsert(session, KronosCombination, rows)


def _of(table: Stored, key: Key) -> list[ColumnElement[bool]]:
    columns = table.model_name, table.model_revision, table.interval
    return [column == part for column, part in zip(columns, key, strict=True)]


def _has_damaged(session: Session, table: Stored, key: Key) -> bool:
    """Return whether the table has damaged rows of this key. Warn about these rows."""
    count = count_damaged(session, table, *_of(table, key))
    if count:
        _warn_of_damaged(table, key, f"{count} in all")
    return bool(count)


def _warn_of_damaged(table: Stored, key: Key, how: object) -> None:
    reason = f"{type(how).__name__}: {how}" if isinstance(how, Exception) else how
    logger.warning(
        "%s: a row of %s %s is damaged (%s); it is not used, and the next run of the job "
        "learns it again",
        *(table.__tablename__, key[0], key[1], reason),
    )


def _factors(bands: Mapping[int, KronosCalibration]) -> Factors:
    """Return one pool's factors. Raise the same errors as `_state`."""
    values, first = tuple(bands[band].factor for band in BANDS), bands[BANDS[0]]
    edge = LIMIT * (1 + 1e-9)
    if first.n < 1 or not all(1 / edge <= value <= edge for value in values):
        raise ValueError(f"{first.asset_class} step {first.step} has numbers out of range")
    return Factors(values, first.n, first.until)


def _state(row: KronosCombination) -> State:
    """Return one pool's state. A forecaster that the row lacks starts with the others' mean gain.

    Raises:
        ValueError: The numbers are impossible. Non-numeric values raise other errors.
    """
    mean = sum(row.gains.values()) / len(row.gains)
    state = State(
        gains=tuple(row.gains.get(name, mean) for name in FORECASTERS),
        agreement=row.median_agreement,
        size=row.median_size,
        log_factors=tuple(math.log(row.band_factors[str(band)]) for band in BANDS),
        sessions=row.sessions,
        forecasts=row.n,
        until=np.datetime64(row.until, "s"),
    )
    learnt = (*state.gains, state.agreement, state.size, *state.log_factors)
    widest = math.log(LIMIT) + 1e-9
    if not all(map(math.isfinite, learnt)) or max(map(abs, state.log_factors)) > widest:
        raise ValueError(f"{row.asset_class} step {row.step} has numbers out of range")
    if state.size < 0 or not 1 <= state.sessions <= state.forecasts:
        raise ValueError(f"{row.asset_class} step {row.step} has counts out of range")
    return with_challengers(state, row.gains, row.challengers)


class StoredPostprocessing:
    """Calibrates and combines forecasts as stored, by default in the configured database.

    Each model's calibration and combination are read once. If the database is missing or
    unreadable, forecasts stay raw, and their `calibration` is "raw". With `combined=False`,
    forecasts are calibrated but not combined.
    """

    def __init__(self, sessions: SessionFactory | None = None, *, combined: bool = True) -> None:
        self._sessions = sessions
        self._with_others = combined
        self._known: dict[Key, tuple[Calibration | None, Combination | None]] = {}

    def apply(self, forecast: Forecast, bars: pd.DataFrame) -> Forecast:
        """Return the forecast after the stored calibration and combination are applied to it.

        Args:
            forecast: The forecast as returned by the Space.
            bars: The candles that the forecast was made from.
        """
        key = key_of(forecast)
        if key not in self._known:
            self._known[key] = self._stored(load, key), self._stored(load_combination, key)
        calibration, combination = self._known[key]
        if calibration is not None:
            forecast = calibration.apply(forecast)
        if combination is not None and self._with_others:
            forecast = combination.apply(forecast, bars)
        return with_served_paths(forecast)

    def _stored(self, read: Callable[[Session, Key], _Known | None], key: Key) -> _Known | None:
        try:
            if self._sessions is None and not database_exists(database_url()):
                return None
            with (self._sessions or partial(get_db_session, create=False))() as session:
                return read(session, key)
        except (KronosError, SQLAlchemyError) as error:
            logger.debug("%s: its record cannot be read: %s", key[0], error)
            return None
