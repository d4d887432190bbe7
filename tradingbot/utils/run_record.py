"""One row of run_logs for one run of the job."""

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Self

from sqlalchemy.orm import Session

from tradingbot.utils.errors import DatabaseError
from tradingbot.utils.report import Report
from tradingbot.utils.tables import RunLog, utcnow

logger = logging.getLogger(__name__)

Sessions = Callable[[], AbstractContextManager[Session]]


class RunRecord:
    """The row: "running" from `begin` on, "ok" or "failed" after `end`."""

    def __init__(self, sessions: Sessions, row_id: int) -> None:
        self._sessions = sessions
        self._id = row_id

    @classmethod
    def begin(cls, sessions: Sessions, report: Report) -> Self:
        with sessions() as session:
            row = RunLog(name="kronosbot", status="running", started_at=report.started_at)
            session.add(row)
            session.flush()
            return cls(sessions, row.id)

    def end(self, report: Report, exit_code: int, message: str | None) -> None:
        """Complete the row. A database that is gone by now is a warning: the run is over."""
        try:
            with self._sessions() as session:
                row = session.get_one(RunLog, self._id)
                row.finished_at = utcnow()
                row.status = "failed" if exit_code else "ok"
                row.exit_code = exit_code
                row.counts = report.counts()
                row.durations = {name: round(took, 3) for name, took in report.seconds.items()}
                row.details = report.details()
                row.message = message
        except DatabaseError as error:
            logger.warning("run_logs lacks the end of this run: %s", error)
