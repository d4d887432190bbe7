"""The row of a run in run_logs, including failures of the database at its start or end."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from tradingbot.errors import DatabaseUnavailable
from tradingbot.persistence.database_locks import open_lock
from tradingbot.persistence.engine import get_db_session
from tradingbot.persistence.models import RunLog
from tradingbot.persistence.run_log import RunLogWriter
from tradingbot.persistence.runs import bad_runs, is_unfinished, last_runs
from tradingbot.runtime.clock import utcnow
from tradingbot.settings import Timeouts

QUICK = Timeouts(database_retry=0.05, database_retry_briefly=0.05, database_backoff=0.01)
ENDED: dict[str, Any] = {
    "counts": {}, "durations": {}, "details": {}, "exit_code": 0, "message": None,
}  # fmt: skip


@dataclass
class FailingSessions:
    """Sessions of a database that fails during the `commit`-th commit."""

    url: str
    commit: int
    is_done: bool  # whether the commit takes effect before the failure
    commits: int = 0

    @contextmanager
    def __call__(self) -> Iterator[Session]:
        self.commits += 1
        if self.commits > self.commit:
            raise DatabaseUnavailable("nobody is there")
        with get_db_session(self.url) as session:
            yield session
            if self.commits == self.commit and not self.is_done:
                session.rollback()
        if self.commits == self.commit:
            raise DatabaseUnavailable("no answer to the commit")


def begin(sessions: Any, shard: str = "0/1", **kwargs: Any) -> RunLogWriter:
    details = {"shard": shard}
    return RunLogWriter.begin(sessions, started_at=utcnow(), details=details, timeouts=QUICK)


def states(url: str) -> list[str]:
    """Return the states of the last runs, newest first, as if no process held a lock."""
    with get_db_session(url) as session:
        later = utcnow() + timedelta(seconds=1)
        return [run.state for run in last_runs(session, later, lambda shard: open_lock(url, shard))]


@pytest.mark.parametrize("is_done", [True, False])
@pytest.mark.parametrize("commit", [1, 2, 3], ids=["begin", "note", "end"])
def test_a_run_that_lost_its_database_is_reported_as_killed_and_closed_by_the_next_run(
    database: str, commit: int, is_done: bool
) -> None:
    sessions = FailingSessions(database, commit, is_done)
    if commit == 1:
        with pytest.raises(DatabaseUnavailable):
            begin(sessions)
    else:
        log = begin(sessions)
        log.note_woken("me/space", True)
        log.end(**ENDED)  # logs a warning
    as_it_is = {(1, False): [], (3, True): ["ok"]}.get((commit, is_done), ["killed"])
    assert states(database) == as_it_is

    following = begin(partial(get_db_session, database))
    assert not following.others_at_work()
    following.end(**ENDED)

    assert states(database) == ["ok", *as_it_is]
    with get_db_session(database) as session:
        assert not is_unfinished(session, "0/1")
        assert bad_runs(last_runs(session, utcnow(), partial(open_lock, database))) == []
        assert session.scalars(select(RunLog.status).order_by(RunLog.id.desc())).all() == [
            "ok",
            *as_it_is,
        ]


def test_runs_of_other_shards_continue_and_a_presumed_dead_run_can_still_report_its_end(
    database: str,
) -> None:
    sessions = partial(get_db_session, database)
    first, other = begin(sessions), begin(sessions, "1/4")
    following = begin(sessions)
    assert other.others_at_work()
    first.end(**ENDED)  # it had only lost its lock
    following.end(**ENDED)
    assert not other.others_at_work()
    with get_db_session(database) as session:
        assert is_unfinished(session, "1/4")
        assert session.scalars(select(RunLog.status).order_by(RunLog.id)).all() == [
            *("ok", "running", "ok")
        ]
