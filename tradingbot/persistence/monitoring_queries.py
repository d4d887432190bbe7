"""What the metrics of the job read besides `kronosbot status`."""

from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from tradingbot.persistence.models import KronosPrediction, RunLog

LOOKS_BACK = 200  # runs; those of a night are as many as there are shards
JOB = "kronosbot"


def made_last(session: Session) -> dict[tuple[str, str], datetime]:
    """When the newest forecast of each model and interval was made, naive UTC."""
    key = KronosPrediction.model_name, KronosPrediction.interval
    newest = select(*key, func.max(KronosPrediction.prediction_made_at)).group_by(*key)
    return {(model, interval): made for model, interval, made in session.execute(newest)}


def space_is_awake(session: Session) -> bool:
    """Whether the last thing that a run noted of the Space is that it woke it.

    After a run that paused it this is False; after one that was killed it stays True.
    """
    newest = select(RunLog.details).where(RunLog.name == JOB).order_by(RunLog.id.desc())
    notes = [
        details["space"]
        for details in session.scalars(newest.limit(LOOKS_BACK))
        if details.get("space")
    ]
    last = max(notes, key=lambda note: str(note["at"]), default=None)
    return last is not None and bool(last["woken"])
