"""Queries for the job's metrics, in addition to those of `kronosbot status`."""

from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from tradingbot.persistence.models import KronosPrediction, RunLog
from tradingbot.persistence.space_notes import newest_notes

LOOKS_BACK = 200  # number of newest runs to read; a night has one run per shard
JOB = "kronosbot"


def made_last(session: Session) -> dict[tuple[str, str], datetime]:
    """Return the time of the newest forecast of each model and interval, naive UTC."""
    key = KronosPrediction.model_name, KronosPrediction.interval
    newest = select(*key, func.max(KronosPrediction.prediction_made_at)).group_by(*key)
    return {(model, interval): made for model, interval, made in session.execute(newest)}


def space_is_awake(session: Session) -> bool:
    """Return whether a run woke a Space and no run has paused it since.

    After a killed run it stays True.
    """
    newest = select(RunLog.details).where(RunLog.name == JOB).order_by(RunLog.id.desc())
    notes = newest_notes(session.scalars(newest.limit(LOOKS_BACK)))
    return any(note.get("woken") for note in notes.values())
