"""run_logs: one row for each run of the job, written and read."""

import logging
import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal, Self

from sqlalchemy import select
from sqlalchemy.orm import Session

from tradingbot.errors import DatabaseError
from tradingbot.jobs.summary import RunSummary
from tradingbot.persistence.models import RunLog
from tradingbot.persistence.transactions import retried
from tradingbot.runtime.clock import utcnow
from tradingbot.settings import default_timeouts
from tradingbot.typing import SessionFactory

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.orm import Session

    from tradingbot.runtime.locking import Lock


LAST_RUNS = 10
LONGEST_RUN = timedelta(hours=6)  # what has not ended by then was killed, if nothing tells more


@dataclass(frozen=True)
class Run:
    """One row of run_logs. Times are naive UTC."""

    state: Literal["ok", "failed", "running", "killed"]
    started_at: datetime
    seconds: float | None  # None: it has not ended
    exit_code: int | None
    counts: dict[str, int]
    model: str | None
    source: str | None
    shard: str  # its part of the tickers, "0/1" for all
    message: str | None


def last_source(session: "Session") -> str | None:
    """Where the candles of the newest run that had any came from; None: it is not known."""
    from sqlalchemy import select

    from tradingbot.persistence.models import RunLog

    newest = (
        select(RunLog.details)
        .where(RunLog.name == "kronosbot")
        .order_by(RunLog.started_at.desc(), RunLog.id.desc())
        .limit(LAST_RUNS)
    )
    sources = (details.get("source") for details in session.scalars(newest))
    return next(filter(None, sources), None)


def last_runs(session: "Session", now: datetime, lock: "Callable[[str], Lock]") -> list[Run]:
    """The last runs of the job, newest first. `lock` gives that of a shard."""
    from sqlalchemy import select

    from tradingbot.persistence.models import RunLog

    newest = (
        select(RunLog)
        .where(RunLog.name == "kronosbot")
        .order_by(RunLog.started_at.desc(), RunLog.id.desc())
    )
    last = session.scalars(newest.limit(1)).one_or_none()
    a_night = _parts(_shard(last)) if last else 0
    runs: list[Run] = []
    for row in session.scalars(newest.limit(max(LAST_RUNS, 2 * a_night))):
        shard = _shard(row)
        ended = row.finished_at is not None
        alive = not ended and _is_alive(shard, now - row.started_at, runs, lock)
        runs.append(
            Run(
                state=_ended_as(row.exit_code) if ended else "running" if alive else "killed",
                started_at=row.started_at,
                seconds=(row.finished_at - row.started_at).total_seconds()
                if row.finished_at
                else None,
                exit_code=row.exit_code,
                counts=row.counts,
                model=row.details.get("model"),
                source=row.details.get("source"),
                shard=shard,
                message=row.message,
            )
        )
    return runs


def bad_runs(runs: list[Run]) -> list[str]:
    """What is wrong with the last run, of each shard, that has ended or should have."""
    if not runs:
        return ["the job has never run on this database"]
    last: dict[str, Run] = {}
    for run in runs:
        # parts of another number of parts are of another time
        if run.state != "running" and _parts(run.shard) == _parts(runs[0].shard):
            last.setdefault(run.shard, run)
    return [problem for run in last.values() if (problem := _bad_run(run))]


def _is_alive(shard: str, age: timedelta, later: list[Run], lock: "Callable[[str], Lock]") -> bool:
    """Whether a run that has not ended still will."""
    if any(run.shard == shard for run in later):  # of a shard one runs at a time
        return False
    with lock(shard) as held:
        is_held = held.is_held()
    return age < LONGEST_RUN if is_held is None else is_held


def _shard(row: "RunLog") -> str:
    return str(row.details.get("shard", "0/1"))


def _parts(shard: str) -> int:
    """0/4 -> 4."""
    return int(shard.partition("/")[2])


def _ended_as(exit_code: int | None) -> Literal["ok", "failed"]:
    return "failed" if exit_code else "ok"


def _bad_run(run: Run) -> str | None:
    which = f"the last run{'' if run.shard == '0/1' else f' of shard {run.shard}'}"
    when = f"{run.started_at:%Y-%m-%d %H:%M}"
    if run.state == "killed":
        return f"{which}, of {when}, never finished: was it killed?"
    if run.state == "failed":
        return f"{which}, of {when}, ended with {run.exit_code}: {run.message}"
    return None


logger = logging.getLogger(__name__)


NAME = "kronosbot"
LOOKS_BACK = 200  # runs; those of a night are as many as there are shards


class RunRecord:
    """The row: "running" from `begin` on, "ok" or "failed" after `end`.

    It also remembers, for the runs to come, whether the Space runs because this one woke it.
    """

    def __init__(self, sessions: SessionFactory, row_id: int) -> None:
        self._sessions = sessions
        self._id = row_id
        self._details: dict[str, Any] = {}  # that are not the report's

    @classmethod
    def begin(cls, sessions: SessionFactory, report: RunSummary) -> Self:
        facts = {"name": NAME, "status": "running", "started_at": report.started_at}
        mark = uuid.uuid4().hex  # another run may begin in the same second

        def write() -> int:
            with sessions() as session:
                # there already, if the connection was lost just when it was committed
                for row in session.scalars(select(RunLog).filter_by(**facts)):
                    if row.details.get("mark") == mark:
                        return row.id
                row = RunLog(**facts, details={**report.details(), "mark": mark})
                session.add(row)
                session.flush()
                return row.id

        return cls(sessions, retried(write))

    def woke(self, repo: str) -> bool:
        """Whether the last thing that a run did with the Space was to wake it."""

        def read() -> list[dict[str, Any]]:
            with self._sessions() as session:
                newest = select(RunLog.details).where(RunLog.name == NAME)
                newest = newest.order_by(RunLog.id.desc()).limit(LOOKS_BACK)
                return [details.get("space") or {} for details in session.scalars(newest)]

        notes = [note for note in retried(read) if note.get("repo") == repo]
        return bool(notes) and bool(max(notes, key=lambda note: str(note["at"]))["woken"])

    def note_woken(self, repo: str, woken: bool) -> None:
        """Write down that this run woke the Space, or that it runs for another reason, or not."""
        self._details["space"] = {"repo": repo, "woken": woken, "at": utcnow().isoformat()}
        try:
            with self._sessions() as session:
                row = session.get_one(RunLog, self._id)
                row.details = {**row.details, **self._details}
        except DatabaseError as error:
            logger.warning("run_logs lacks what became of Space %s: %s", repo, error)

    def others_at_work(self) -> bool:
        """Whether another run has not ended, as far as run_logs knows: it may have been killed."""
        with self._sessions() as session:
            unfinished = select(RunLog.id).where(
                RunLog.name == NAME,
                RunLog.finished_at.is_(None),
                RunLog.started_at > utcnow() - LONGEST_RUN,
                RunLog.id != self._id,
            )
            return session.scalar(unfinished.limit(1)) is not None

    def end(self, report: RunSummary, exit_code: int, message: str | None) -> None:
        """Complete the row. A database that is gone by now is a warning: the run is over."""

        def write() -> None:
            with self._sessions() as session:
                row = session.get_one(RunLog, self._id)
                row.finished_at = utcnow()
                row.status = "failed" if exit_code else "ok"
                row.exit_code = exit_code
                row.counts = report.counts()
                row.durations = {name: round(took, 3) for name, took in report.seconds.items()}
                row.details = {**report.details(), **self._details}
                row.message = message

        try:
            # who was stopped, or has waited for the database already, does not wait for long
            briefly = default_timeouts().database_retry_briefly
            retried(write, patience=briefly if exit_code else None)
        except DatabaseError as error:
            logger.warning("run_logs lacks the end of this run: %s", error)
