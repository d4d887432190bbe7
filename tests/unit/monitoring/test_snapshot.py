"""The snapshot for the metrics, read from a real database."""

from functools import partial

import pytest
from sqlalchemy import make_url, text

from tests.support.postgres import Postgres
from tests.support.records import NOW, Past
from tradingbot.errors import ConfigError, HubRefused
from tradingbot.jobs.summary import Ending, RunSummary
from tradingbot.monitoring.metrics import metrics_text
from tradingbot.monitoring.snapshot import read_snapshot
from tradingbot.persistence.database_locks import open_lock
from tradingbot.persistence.engine import (
    dispose_engines,
    get_db_session,
    init_db,
    read_only_session,
)
from tradingbot.persistence.monitoring_queries import space_is_awake
from tradingbot.persistence.run_log import RunLogWriter
from tradingbot.runtime.clock import utcnow
from tradingbot.settings import Settings


def test_the_space_counts_as_awake_from_a_wake_to_a_pause(database: str) -> None:
    init_db(database)
    sessions = partial(get_db_session, database)

    def awake() -> bool:
        with read_only_session(database) as session:
            return space_is_awake(session)

    assert not awake()
    killed = RunLogWriter.begin(sessions, started_at=NOW, details={"shard": "0/1"})
    assert not awake()
    killed.note_woken("me/space", True)
    assert awake()
    summary = RunSummary(Ending.by(HubRefused("no")))
    following = RunLogWriter.begin(sessions, started_at=NOW, details=summary.details())
    assert awake(), "the run that was killed left it running"
    following.note_woken("me/space", False)
    following.end(**summary.record())
    assert not awake()

    found = read_snapshot(database, Settings(), source="yahoo", max_age=1)
    assert found.status is not None
    assert [(run.state, run.error) for run in found.status.runs] == [
        ("failed", "HubRefused"), ("killed", None),
    ]  # fmt: skip


def test_a_missing_or_refusing_database_is_reported_as_such(sqlite_url: str) -> None:
    gone = "postgresql+psycopg2://me:s3cret@127.0.0.1:9/kronos"
    for url, why in ((sqlite_url, "there is no sqlite"), (gone, "is the server up")):
        snapshot = read_snapshot(url, Settings(), source=None, max_age=1)
        assert snapshot.status is None
        assert why in snapshot.why
        assert "s3cret" not in snapshot.why
        assert metrics_text(snapshot, "1").count(b"\nkronosbot_") == 2
    Past(["AAPL"], sessions=2).store(sqlite_url, source="csv:/nowhere")
    with pytest.raises(ConfigError, match="no such folder"):
        read_snapshot(sqlite_url, Settings(), source=None, max_age=1)


def test_a_read_only_role_is_enough(postgres_server: Postgres, postgres_url: str) -> None:
    Past(["AAPL"], sessions=2).store(postgres_url)
    RunLogWriter.begin(
        partial(get_db_session, postgres_url), started_at=utcnow(), details={"shard": "0/1"}
    )
    with get_db_session(postgres_url) as session:
        session.execute(text("CREATE ROLE metrics_reader LOGIN"))
        session.execute(text("GRANT SELECT ON ALL TABLES IN SCHEMA public TO metrics_reader"))
    as_metrics_reader = (
        make_url(postgres_url).set(username="metrics_reader").render_as_string(False)
    )
    try:
        with open_lock(postgres_url, "run 0/1") as lock:
            assert lock.try_exclusive()
            found = read_snapshot(as_metrics_reader, Settings(), source="yahoo", max_age=1)
        assert found.why == ""
        assert found.status is not None
        assert [run.state for run in found.status.runs] == ["running", "ok"]
    finally:
        dispose_engines()
        with get_db_session(postgres_url) as session:
            session.execute(text("DROP OWNED BY metrics_reader"))
            session.execute(text("DROP ROLE metrics_reader"))
