"""The state of the job in the database, as input for the metrics."""

import time
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy.orm import Session

from tradingbot.errors import DatabaseError
from tradingbot.jobs.status import Model, Status, read_status
from tradingbot.persistence.engine import read_only_session
from tradingbot.persistence.ledger import newest_revision
from tradingbot.persistence.models import ALL_SESSIONS, ALL_SYMBOLS, KronosScore
from tradingbot.persistence.monitoring_queries import made_last, space_is_awake
from tradingbot.persistence.scores import has_scores_table, scores_over_all_steps
from tradingbot.settings import Settings

WINDOWS = {60: "60", 250: "250", ALL_SESSIONS: "all"}  # number of newest sessions -> label
# A ticker is stale if its newest forecast is more than this many trading sessions behind.
MAX_AGE = 1


@dataclass(frozen=True)
class Record:
    """Scores of one model over its newest sessions, all tickers and all horizons.

    `window` names the number of sessions.
    """

    model: str
    interval: str
    window: str
    forecasts: int
    skill: dict[str, float] = field(default_factory=dict)  # baseline -> CRPS skill
    # width of the band between two quantiles, in per cent -> share of closes inside the band
    coverage: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Snapshot:
    """The state of the job.

    If `status` is None, the database could not be read and `why` is the reason.
    """

    status: Status | None = None
    why: str = ""
    records: tuple[Record, ...] = ()
    made: dict[tuple[str, str], datetime] = field(default_factory=dict)  # (model, interval) -> time
    space_awake: bool = False
    seconds: float = 0.0  # duration of the read


def read_snapshot(url: str, settings: Settings, *, source: str | None, max_age: int) -> Snapshot:
    """Read the state of the job.

    If the database is unreachable, return a snapshot without a status.

    Raises:
        ConfigError: a setting is wrong.
    """
    began = time.monotonic()
    try:
        status = read_status(url, settings, source=source, max_age=max_age)
        if status.clock is None:  # the database has no tables
            return Snapshot(why="; ".join(status.problems))
        with read_only_session(url) as session:
            return Snapshot(
                status=status,
                records=_records(session, status.models),
                made=made_last(session),
                space_awake=space_is_awake(session),
                seconds=time.monotonic() - began,
            )
    except DatabaseError as error:
        return Snapshot(why=str(error))


def _records(session: Session, models: list[Model]) -> tuple[Record, ...]:
    """Return the scores of each model's newest revision."""
    if not has_scores_table(session):
        return ()
    return tuple(
        _record(model, score)
        for model in models
        for score in scores_over_all_steps(
            session,
            [ALL_SYMBOLS],
            model=model.name,
            revision=newest_revision(session, model.name, model.interval) or "",
            interval=model.interval,
            windows=WINDOWS,
        )
    )


def _record(model: Model, score: KronosScore) -> Record:
    skill = {"random_walk": score.crps_skill, "ewma_walk": score.ewma_skill}
    coverage = {"50": score.coverage_50, "80": score.coverage_80, "90": score.coverage_90}
    return Record(
        model.name,
        model.interval,
        WINDOWS[score.last_sessions],
        score.n,
        skill={name: value for name, value in skill.items() if value is not None},
        coverage={name: value for name, value in coverage.items() if value is not None},
    )
