"""Fit the bands of all models from what is known, and store the factors."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial

from tradingbot.data.service import DataService
from tradingbot.evaluation.outcomes import (
    ForecastOutcomes,
    Unresolved,
    UnresolvedReason,
    closes_of,
    resolve_outcomes,
)
from tradingbot.persistence.engine import get_db_session
from tradingbot.persistence.ledger import newest_vintage
from tradingbot.persistence.runs import last_source
from tradingbot.persistence.url import database_exists, redact
from tradingbot.postprocessing.bands import Key
from tradingbot.postprocessing.fit import RECORD, Fit, fit
from tradingbot.postprocessing.repository import load, store
from tradingbot.runtime.clock import utcnow
from tradingbot.settings import Settings
from tradingbot.typing import SessionFactory


@dataclass
class Recalibration:
    """What a calibration found and stored.

    Attributes:
        fits: One a model.
        left_out: Why forecasts could not be compared, in words -> how many.
        earlier: Models with too little record now, but with factors from before.
        rows: Of kronos_calibrations that were stored.
        stored_in: The database without its password; None for a dry run.
    """

    fits: list[Fit] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    earlier: set[Key] = field(default_factory=set)
    rows: int = 0
    stored_in: str | None = None

    @property
    def out_of_reach(self) -> bool:
        """Whether forecasts have their outcome, and no close could be read for any of them."""
        return not self.fits and any(text != UnresolvedReason.NOT_YET for text in self.left_out)


def recalibrate(
    url: str,
    settings: Settings,
    *,
    source: str | None,
    record: Iterable[ForecastOutcomes] | None,
    dry_run: bool,
) -> Recalibration:
    """Fit each model's bands and store the factors.

    Args:
        url: The database.
        settings: Its data source is the last resort.
        source: Where closes come from; None: where the last run had them from.
        record: What to fit from; None: the stored forecasts.
        dry_run: Store nothing, not even the database.
    """
    found = Recalibration()
    if record is not None:
        found.fits = fit(record)
    elif not dry_run or database_exists(url):
        sessions = partial(get_db_session, url, create=not dry_run)
        stored = _stored_record(sessions, settings, source)
        found.fits = fit(_known(stored, found.left_out))
        lacking = [one.calibration.key for one in found.fits if not one.calibration.pools]
        with sessions() as session:
            found.earlier = {key for key in lacking if load(session, key)}
    if not dry_run:
        with get_db_session(url) as session:
            found.rows = sum(store(session, one.calibration) for one in found.fits)
        found.stored_in = redact(url)
    return found


def _stored_record(
    sessions: SessionFactory, settings: Settings, source: str | None
) -> Iterator[ForecastOutcomes | Unresolved]:
    with sessions() as session:
        newest = newest_vintage(session)
        source = source or last_source(session) or settings.data_source
    if newest is None:
        return iter(())
    data = DataService(
        source,
        now=utcnow(),
        sessions=sessions,
        timeouts=settings.timeouts,
        max_jump=settings.max_jump,
    )
    return resolve_outcomes(sessions, closes_of(data), since=newest - RECORD)


def _known(
    record: Iterable[ForecastOutcomes | Unresolved], left_out: Counter[str]
) -> Iterator[ForecastOutcomes]:
    for one in record:
        if isinstance(one, ForecastOutcomes):
            yield one
        else:
            left_out[one.text] += one.n
