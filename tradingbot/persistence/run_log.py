"""Write run_logs: one row for each run of the job."""

import logging
import uuid
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Self

from sqlalchemy import select
from sqlalchemy.orm import Session

from tradingbot.errors import DatabaseError
from tradingbot.persistence.models import RunLog
from tradingbot.persistence.runs import JOB, KILLED, LONGEST_RUN, shard_of
from tradingbot.persistence.space_notes import notes_in, with_note
from tradingbot.persistence.transactions import retried
from tradingbot.runtime.clock import utcnow
from tradingbot.settings import Timeouts, default_timeouts
from tradingbot.typing import SessionFactory

logger = logging.getLogger(__name__)

LOOKS_BACK = 200  # number of newest runs to read; a night has one run per shard


class RunLogWriter:
    """The row of a run: "running" after `begin`, "ok" or "failed" after `end`.

    The row also records, for later runs, which Spaces this run woke.
    """

    def __init__(
        self, sessions: SessionFactory, row_id: int, *, timeouts: Timeouts | None = None
    ) -> None:
        self._sessions = sessions
        self._timeouts = timeouts or default_timeouts()
        self._id = row_id
        self._details: dict[str, Any] = {}  # notes about Spaces; `end` adds its own details

    @classmethod
    def begin(
        cls,
        sessions: SessionFactory,
        *,
        started_at: datetime,
        details: Mapping[str, Any],
        timeouts: Timeouts | None = None,
    ) -> Self:
        """Write the row of a run that holds its shard's lock, started at `started_at`, naive UTC.

        Unfinished earlier runs of the shard are marked as killed, because this run could take the
        lock only after they were killed or lost the database.
        """
        facts = {"name": JOB, "status": "running"}
        mark = uuid.uuid4().hex  # another run may begin in the same second

        def write() -> int:
            with sessions() as session:
                for row in session.scalars(select(RunLog).filter_by(**facts, finished_at=None)):
                    # the row exists already if the connection was lost during the commit
                    if row.details.get("mark") == mark:
                        return row.id
                    if shard_of(row.details) == shard_of(details):
                        row.status = KILLED
                row = RunLog(**facts, started_at=started_at, details={**details, "mark": mark})
                session.add(row)
                session.flush()
                return row.id

        return cls(sessions, retried(write, timeouts=timeouts), timeouts=timeouts)

    def woke(self, repo: str) -> bool:
        """Return whether a run woke the Space and no run has paused it since."""
        return _woke(self._sessions, repo, self._timeouts, patience=None)

    def note_woken(self, repo: str, woken: bool) -> None:
        """Record whether the Space runs because a run woke it."""
        self._details = with_note(self._details, _note(repo, woken))
        try:
            with self._sessions() as session:
                row = session.get_one(RunLog, self._id)
                row.details = {**row.details, **self._details}
        except DatabaseError as error:
            logger.warning("run_logs lacks the state of Space %s: %s", repo, error)

    def others_at_work(self) -> bool:
        """Return whether run_logs has another unfinished run, which may have been killed."""
        with self._sessions() as session:
            unfinished = select(RunLog.id).where(
                RunLog.name == JOB,
                RunLog.finished_at.is_(None),
                RunLog.status != KILLED,
                RunLog.started_at > utcnow() - LONGEST_RUN,
                RunLog.id != self._id,
            )
            return session.scalar(unfinished.limit(1)) is not None

    def end(
        self,
        *,
        counts: Mapping[str, int],
        durations: Mapping[str, float],
        details: Mapping[str, Any],
        exit_code: int,
        message: str | None,
    ) -> None:
        """Complete the row. Only log a warning if the database is unavailable."""

        def write() -> None:
            with self._sessions() as session:
                row = session.get_one(RunLog, self._id)
                row.finished_at = utcnow()
                row.status = "failed" if exit_code else "ok"
                row.exit_code = exit_code
                row.counts = dict(counts)
                row.durations = {name: round(took, 3) for name, took in durations.items()}
                row.details = {**details, **self._details}
                row.message = message

        try:
            # wait only briefly after a failure: the run may have been stopped, or have waited
            # for the database already
            briefly = self._timeouts.database_retry_briefly
            retried(write, patience=briefly if exit_code else None, timeouts=self._timeouts)
        except DatabaseError as error:
            logger.warning("run_logs lacks the end of this run: %s", error)


class SpaceNotes:
    """Earlier runs' notes about Spaces, for a run without a row."""

    def __init__(self, sessions: SessionFactory, *, timeouts: Timeouts | None = None) -> None:
        self._sessions = sessions
        self._timeouts = timeouts or default_timeouts()

    def woke(self, repo: str) -> bool:
        """Return whether a run woke the Space and no run has paused it since."""
        briefly = self._timeouts.database_retry_briefly
        return _woke(self._sessions, repo, self._timeouts, patience=briefly)

    def note_woken(self, repo: str, woken: bool) -> None:
        """Correct the newest note about the Space."""
        try:
            with self._sessions() as session:
                if (newest := _newest_about(session, repo)) is not None:
                    newest.details = with_note(newest.details, _note(repo, woken))
        except DatabaseError as error:
            logger.warning("run_logs lacks the state of Space %s: %s", repo, error)

    def others_at_work(self) -> bool:
        """Return False. Never called, because a run without a row has not used the Space."""
        return False


def _newest_about(session: Session, repo: str) -> RunLog | None:
    """Return the run that wrote the newest note about the Space."""
    newest = select(RunLog).where(RunLog.name == JOB).order_by(RunLog.id.desc())
    noted = [
        (str(note.get("at")), row)
        for row in session.scalars(newest.limit(LOOKS_BACK))
        if (note := notes_in(row.details).get(repo)) is not None
    ]
    return max(noted, key=lambda found: found[0], default=(None, None))[1]


def _note(repo: str, woken: bool) -> dict[str, Any]:
    return {"repo": repo, "woken": woken, "at": utcnow().isoformat()}


def _woke(
    sessions: SessionFactory, repo: str, timeouts: Timeouts, *, patience: float | None
) -> bool:
    def read() -> bool:
        with sessions() as session:
            newest = _newest_about(session, repo)
            return newest is not None and bool(notes_in(newest.details)[repo].get("woken"))

    return retried(read, patience=patience, timeouts=timeouts)
