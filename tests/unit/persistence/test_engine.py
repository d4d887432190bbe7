"""Database connections and the schema, on SQLite and on a real Postgres."""

import logging
import os
import sqlite3
import string
import subprocess
import sys
import threading
import traceback
import warnings
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psycopg2
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine, MetaData, event, inspect, make_url, text
from sqlalchemy.exc import OperationalError
from typer.testing import CliRunner

from tests.support import commands
from tests.support.schema import upgrade_at_once
from tradingbot.cli.main import app
from tradingbot.errors import ConfigError, DatabaseError, KronosError
from tradingbot.persistence import engine as db
from tradingbot.persistence.engine import (
    dispose_engines,
    get_db_session,
    get_engine,
    init_db,
    read_only_session,
)
from tradingbot.persistence.failures import unreachable
from tradingbot.persistence.models import (
    SCHEMA_VERSION,
    Base,
    BotRow,
    HistoricData,
    KronosEvent,
    KronosEventScore,
    KronosPrediction,
    KronosScore,
    RunLog,
    Trade,
)
from tradingbot.persistence.schema import VERSION_TABLE, schema_version
from tradingbot.persistence.url import _SHOWN, database_url, redact, without_password

pytestmark = pytest.mark.migrations
MIDNIGHT = datetime(2026, 1, 6)


def prediction(**changes: Any) -> KronosPrediction:
    columns: dict[str, Any] = dict(
        symbol="SPY",
        interval="1d",
        target_date=MIDNIGHT,
        model_name="NeoQuasar/Kronos-mini",
        prediction_made_at=datetime(2026, 1, 5, 22, 5),
        as_of=datetime(2026, 1, 5),
        horizon_days=1,
        last_close=680.0,
        predicted_open=681.0,
        predicted_high=684.0,
        predicted_low=679.0,
        predicted_close=682.5,
        predicted_volume=5e7,
        close_p10=670.0,
        close_p50=682.0,
        close_p90=695.0,
        prob_up=0.6,
        samples=20,
    )
    return KronosPrediction(**columns | changes)


def run_python(code: str, *args: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *args],
        capture_output=True,
        text=True,
        timeout=60,
        **options,
    )


def described(engine: Engine) -> dict[str, Any]:
    """Return the complete structure of a database's tables, and its schema version."""
    found = inspect(engine)
    with engine.connect() as connection:
        return {
            "version": schema_version(connection),
            "columns": str(sorted(found.get_multi_columns().items())),
            "primary keys": sorted(found.get_multi_pk_constraint().items()),
            "foreign keys": sorted(found.get_multi_foreign_keys().items()),
            "unique": sorted(found.get_multi_unique_constraints().items()),
            "checked": sorted(found.get_multi_check_constraints().items()),
            "indexes": sorted(found.get_multi_indexes().items()),
        }


# the address of the database ------------------------------------------------------------------


def test_the_default_database_is_a_file_in_the_working_directory() -> None:
    assert database_url({}) == "sqlite:///kronos.db"


def test_database_url_overrides_postgres_uri_which_overrides_its_parts() -> None:
    environ = {"POSTGRES_HOST": "c"}
    assert database_url(environ) == "postgresql+psycopg2://c"
    environ |= {"POSTGRES_URI": "postgresql://b/x"}
    assert database_url(environ) == "postgresql+psycopg2://b/x"
    environ |= {"DATABASE_URL": "sqlite:///a.db"}
    assert database_url(environ) == "sqlite:///a.db"
    environ |= {"DATABASE_URL": ""}  # a chart sets unset values to an empty string
    assert database_url(environ) == "postgresql+psycopg2://b/x"


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg2"])
def test_postgres_addresses_use_psycopg2(scheme: str) -> None:
    url = database_url({"DATABASE_URL": f"{scheme}://me:s%40fe@db:5433/bots?sslmode=require"})
    assert url == "postgresql+psycopg2://me:s%40fe@db:5433/bots?sslmode=require"


def test_a_driver_named_in_the_address_is_kept() -> None:
    assert database_url({"DATABASE_URL": "postgresql+psycopg://h/x"}).startswith(
        "postgresql+psycopg:"
    )


def test_postgres_password_may_contain_any_character() -> None:
    environ = {
        "POSTGRES_HOST": "db",
        "POSTGRES_PORT": "5433",
        "POSTGRES_USER": "me@home",
        "POSTGRES_PASSWORD": "p@ss/w:rd%41 #?",
        "POSTGRES_DATABASE": "bots",
    }
    url = get_engine(database_url(environ)).url
    assert (url.username, url.password) == ("me@home", "p@ss/w:rd%41 #?")
    assert (url.host, url.port, url.database) == ("db", 5433, "bots")


def test_the_port_that_kubernetes_sets_for_a_service_is_accepted() -> None:
    environ = {"POSTGRES_HOST": "postgres", "POSTGRES_PORT": "tcp://10.0.0.7:5432"}
    assert database_url(environ) == "postgresql+psycopg2://postgres:5432"
    # POSTGRES_PORT alone, set by Kubernetes for a service, does not configure our database
    assert database_url({"POSTGRES_PORT": "tcp://10.0.0.7:5432"}) == "sqlite:///kronos.db"


def test_a_port_that_is_not_a_number_is_a_config_error() -> None:
    with pytest.raises(ConfigError, match="POSTGRES_PORT='54e2': expected a whole number"):
        database_url({"POSTGRES_HOST": "db", "POSTGRES_PORT": "54e2"})


def test_a_missing_host_is_a_config_error_instead_of_the_default_file() -> None:
    with pytest.raises(ConfigError, match="POSTGRES_USER is set but POSTGRES_HOST is not"):
        database_url({"POSTGRES_USER": "me", "POSTGRES_PASSWORD": "secret"})


@pytest.mark.parametrize("url", ["bots:secret", "postgresql://me:secret@db:port/bots"])
def test_an_unreadable_address_is_a_config_error_that_hides_the_password(url: str) -> None:
    with pytest.raises(ConfigError, match="DATABASE_URL cannot be read: expected") as caught:
        database_url({"DATABASE_URL": url})
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "postgres://me:se@cret@127.0.0.1:1/x",
        "postgres://me:se@cr/et@127.0.0.1:1/x",
        "mysql://me:se@cret@127.0.0.1:1/x",
    ],
)
def test_an_address_with_an_unescaped_at_sign_in_its_password_is_refused_and_hidden(
    url: str,
) -> None:
    with pytest.raises(ConfigError) as caught:
        get_engine(url)
    assert str(caught.value) == ("the database URL has an @ too many: write @ in a password as %40")
    assert redact(url) == "(unreadable URL)"


def test_the_address_of_a_file_may_contain_an_at_sign(tmp_path: Path) -> None:
    url = database_url({"DATABASE_URL": f"sqlite:///{tmp_path}/a@b.db"})
    init_db(url)
    db.dispose_engines()
    assert (tmp_path / "a@b.db").exists()


@pytest.mark.parametrize(
    "url", ["postgresql://me:secret@db/x", "postgresql://db/x?user=me&password=secret"]
)
def test_an_address_is_shown_without_its_password(url: str) -> None:
    assert "db/x" in redact(url)
    assert "secret" not in redact(url)


@given(st.text(string.ascii_letters + "_", min_size=1, max_size=12))
def test_values_of_unknown_options_are_hidden(option: str) -> None:
    known = {"sslmode": "require", "connect_timeout": "5", "target_session_attrs": "any"}
    pairs = "&".join(f"{name}={value}" for name, value in known.items())
    url = f"postgresql://me@db/x?{pairs}&{option}=k3y-s3cret"
    shown = redact(url)
    assert all(f"{name}={value}" in shown for name, value in known.items() if name != option)
    message = without_password(make_url(url), f"{url} is wrong, k3y-s3cret")
    if option not in _SHOWN:
        assert "s3cret" not in shown + message


@pytest.mark.parametrize("option", ["password", "PASSWORD", "sslpassword", "api_key", "token"])
def test_secrets_in_options_are_hidden(option: str) -> None:
    url = f"postgresql://db/x?{option}=s3cret&sslmode=require"
    assert "s3cret" not in redact(url) + without_password(make_url(url), url)


# sessions -------------------------------------------------------------------------------------


def test_the_query_of_the_original_summary_works(
    database: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DATABASE_URL", database)
    tomorrow = datetime.now(UTC).replace(tzinfo=None) + timedelta(days=1)
    midnight = tomorrow.replace(hour=0, minute=0, second=0, microsecond=0)
    with get_db_session() as session:
        session.add(prediction(target_date=midnight))

    with get_db_session() as session:
        found = (
            session.query(KronosPrediction)
            .filter_by(
                symbol="SPY",
                # microseconds are kept
                target_date=tomorrow.replace(hour=0, minute=0, second=0),
            )
            .first()
        )
    assert found is not None
    assert found.predicted_close == 682.5
    assert found.target_date == midnight


@pytest.mark.integration
def test_a_session_needs_no_preparation_in_a_fresh_directory(tmp_path: Path) -> None:
    code = (
        "from tradingbot.utils.db import KronosPrediction, get_db_session\n"
        "with get_db_session() as session:\n"
        "    print(session.query(KronosPrediction).filter_by(symbol='SPY').count())\n"
    )
    environ = {k: v for k, v in os.environ.items() if not k.startswith(("POSTGRES", "DATABA"))}
    done = run_python(code, cwd=tmp_path, env=environ)
    assert (done.stdout, done.stderr) == ("0\n", "")
    assert (tmp_path / "kronos.db").exists()


def test_a_session_commits_at_its_end(database: str) -> None:
    with get_db_session(database) as session:
        session.add(prediction())
    with get_db_session(database) as session:
        assert session.query(KronosPrediction).count() == 1


def test_a_session_rolls_back_when_its_block_raises(database: str) -> None:
    with pytest.raises(ZeroDivisionError), get_db_session(database) as session:  # noqa: PT012
        session.add(prediction())
        session.flush()
        _ = 1 / 0
    with get_db_session(database) as session:
        assert session.query(KronosPrediction).count() == 0


def test_an_engine_keeps_its_file_when_the_process_changes_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    engine = get_engine("sqlite:///here.db")
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert engine.url.database == str(tmp_path / "here.db")
    assert get_engine("sqlite:///here.db") is not engine
    db.dispose_engines()


def test_all_threads_share_one_database_in_memory() -> None:
    with get_db_session("sqlite://") as session:
        session.add(prediction())
    counted: list[int] = []

    def count_rows() -> None:
        with get_db_session("sqlite://") as session:
            counted.append(session.query(KronosPrediction).count())

    thread = threading.Thread(target=count_rows)
    thread.start()
    thread.join()
    db.dispose_engines()
    assert counted == [1]


def test_a_change_inside_a_portfolio_is_saved(database: str) -> None:
    with get_db_session(database) as session:
        session.add(BotRow(name="trend", portfolio={"USD": 10_000.0}))
    with get_db_session(database) as session:
        bot = session.get_one(BotRow, "trend")
        bot.portfolio["AAPL"] = 2.0
    with get_db_session(database) as session:
        assert session.get_one(BotRow, "trend").portfolio == {"USD": 10_000.0, "AAPL": 2.0}


def test_a_time_with_a_zone_is_stored_as_utc(database: str) -> None:
    new_york = datetime.fromisoformat("2026-01-05T16:00:00.25-05:00")
    with get_db_session(database) as session:
        session.add(RunLog(name="kronosbot", status="running", started_at=new_york))
    with get_db_session(database) as session:
        run = session.query(RunLog).one()
    assert run.started_at == datetime(2026, 1, 5, 21, 0, 0, 250_000)
    assert (run.counts, run.durations, run.details) == ({}, {}, {})


def test_candles_and_trades_can_be_stored(database: str) -> None:
    with get_db_session(database) as session:
        bar = dict(open=1.0, high=2.0, low=0.5, close=1.5, volume=9.0)
        session.add(HistoricData(symbol="SPY", interval="1d", timestamp=MIDNIGHT, **bar))
        session.add(BotRow(name="trend"))
        session.flush()
        trade = dict(symbol="SPY", side="buy", quantity=2.0, price=1.5, costs=0.01)
        session.add(Trade(bot_name="trend", **trade))
    with get_db_session(database) as session:
        assert session.query(HistoricData).one().close == 1.5
        assert session.query(Trade).one().executed_at.tzinfo is None


def test_a_disconnecting_server_is_a_one_line_error(postgres_url: str) -> None:
    with (
        pytest.raises(DatabaseError, match="server closed the connection") as caught,
        get_db_session(postgres_url) as session,
    ):
        session.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))
    assert "\n" not in str(caught.value)
    with get_db_session(postgres_url) as session:  # the next session works
        assert session.query(KronosPrediction).count() == 0


def test_a_connection_dropped_by_the_server_while_idle_is_replaced(postgres_url: str) -> None:
    init_db(postgres_url)
    from_outside = get_engine(postgres_url + "&application_name=outside")
    with from_outside.connect() as connection:
        connection.execute(
            text(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE"
                " datname = current_database() AND pid <> pg_backend_pid()"
            )
        )
    with get_db_session(postgres_url) as session:
        assert session.query(KronosPrediction).count() == 0


# the schema -----------------------------------------------------------------------------------


def test_the_schema_equals_the_models(database: str) -> None:
    with init_db(database).connect() as connection:
        options = {"compare_type": True, "version_table": VERSION_TABLE}
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, Base.metadata) == []


def test_a_schema_created_at_once_for_the_tests_equals_the_migrated_one(sqlite_url: str) -> None:
    engine = init_db(sqlite_url)
    made = described(engine)
    for _ in range(2):  # recorded, then replayed
        everything = MetaData()
        everything.reflect(engine)
        everything.drop_all(engine)
        with engine.begin() as connection:
            upgrade_at_once(connection)
        assert described(engine) == made


def test_the_schema_has_the_keys_and_indexes_that_the_queries_need(database: str) -> None:
    found = inspect(init_db(database))
    assert found.get_pk_constraint("kronos_predictions")["constrained_columns"] == [
        "symbol",
        "interval",
        "target_date",
        "model_name",
    ]
    (index,) = found.get_indexes("kronos_predictions")
    assert index["column_names"] == ["symbol", "target_date"]


def test_the_schema_version_is_that_of_the_newest_migration() -> None:
    folder = Path(db.__file__).with_name("migrations")
    assert ScriptDirectory(str(folder)).get_current_head() == SCHEMA_VERSION


def test_a_current_schema_is_not_upgraded_again(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    init_db(database)
    with get_db_session(database) as session:
        session.add(prediction())
    monkeypatch.setattr(db, "upgrade", lambda connection: pytest.fail("upgraded again"))
    init_db(database)
    with get_db_session(database) as session:
        assert session.query(KronosPrediction).count() == 1


def test_a_schema_of_a_newer_version_is_refused(database: str) -> None:
    with init_db(database).begin() as connection:
        connection.execute(text("UPDATE kronos_schema_version SET version_num = '9999'"))
    with pytest.raises(DatabaseError, match=r"schema 9999, newer than .* upgrade the program"):
        init_db(database)


def test_the_schema_is_unchanged_when_an_upgrade_fails_half_way(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with get_engine(database).begin() as connection:
        connection.execute(text("CREATE TABLE trades (whose INTEGER)"))  # blocks the migration
    with pytest.raises(DatabaseError, match=r"trades.* already exists"):
        init_db(database)
    assert inspect(get_engine(database)).get_table_names() == ["trades"]


def test_the_schema_is_created_without_output(
    database: str, caplog: pytest.LogCaptureFixture
) -> None:
    logging.getLogger("alembic").setLevel(logging.NOTSET)
    with caplog.at_level(logging.INFO):
        init_db(database)
    assert caplog.messages == []


@pytest.mark.integration
def test_several_processes_that_start_together_create_the_schema_once(database: str) -> None:
    done = together(4, database)
    assert done == [(0, "ready\nok\n", "")] * 4
    with get_db_session(database) as session:
        assert session.query(RunLog).count() == 4


def test_several_threads_that_start_together_create_the_schema_once(database: str) -> None:
    errors: list[Exception] = []

    def use() -> None:
        try:
            with get_db_session(database) as session:
                session.add(RunLog(name="kronosbot", status="running"))
        except Exception as error:  # checked by the assertion below
            errors.append(error)

    threads = [threading.Thread(target=use) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    with get_db_session(database) as session:
        assert session.query(RunLog).count() == 6


def tables(url: str) -> set[str]:
    return set(inspect(get_engine(url)).get_table_names())


def alembic_table(url: str, version: str | None) -> None:
    """Create Alembic's own version table, with its constraint."""
    with get_engine(url).begin() as connection:
        connection.execute(
            text(
                "CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL,"
                " CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num))"
            )
        )
        if version is not None:
            connection.execute(text(f"INSERT INTO alembic_version VALUES ('{version}')"))


def versions(url: str, table: str) -> list[str]:
    with get_engine(url).connect() as connection:
        return list(connection.scalars(text(f"SELECT version_num FROM {table}")))


# the version table ----------------------------------------------------------------------------


@pytest.fixture
def older_database(database: str) -> str:
    """A database of an earlier version, whose schema version is in Alembic's own table."""
    with get_db_session(database) as session:
        session.add(RunLog(name="kronosbot", status="ok"))
    with get_engine(database).begin() as connection:
        connection.execute(text(f"DROP TABLE {VERSION_TABLE}"))
    alembic_table(database, "0003")
    dispose_engines()
    return database


def test_the_version_moves_from_alembics_table_and_all_rows_are_kept(older_database: str) -> None:
    for _ in range(2):
        init_db(older_database)
        assert versions(older_database, VERSION_TABLE) == [SCHEMA_VERSION]
        assert "alembic_version" not in tables(older_database)
    with get_db_session(older_database) as session:
        assert session.query(RunLog).count() == 1
    # the old table's name, and the name of its index, are free
    alembic_table(older_database, "ae1027a6acf")
    init_db(older_database)
    assert versions(older_database, "alembic_version") == ["ae1027a6acf"]


def test_a_read_only_session_reads_the_version_from_alembics_table(older_database: str) -> None:
    with get_engine(older_database).connect() as connection:
        assert schema_version(connection) == "0003"
    assert "alembic_version" in tables(older_database)


@pytest.mark.integration
def test_several_processes_move_the_version_once(older_database: str) -> None:
    assert together(4, older_database) == [(0, "ready\nok\n", "")] * 4
    assert versions(older_database, VERSION_TABLE) == [SCHEMA_VERSION]
    with get_db_session(older_database) as session:
        assert session.query(RunLog).count() == 5


@pytest.mark.parametrize("version", ["ae1027a6acf", "0001", "0003", "9999", None])
def test_the_version_of_another_application_is_not_changed(
    database: str, version: str | None
) -> None:
    alembic_table(database, version)
    init_db(database)
    init_db(database)
    assert versions(database, VERSION_TABLE) == [SCHEMA_VERSION]
    assert versions(database, "alembic_version") == ([] if version is None else [version])


def test_scores_from_before_the_intervals_are_kept_and_mase_is_renamed(database: str) -> None:
    with get_db_session(database) as session:
        key = {"model_name": "m", "model_revision": "", "interval": "1d", "symbol": "*"}
        rest = {"step": 0, "last_sessions": 0, "n": 300, "sessions": 60, "mase": 1.03}
        days = dict.fromkeys(("first_target", "last_target", "scored_at"), datetime(2024, 5, 17))
        session.add(KronosScore(**key, **rest, **days))
    with get_engine(database).begin() as connection:
        added = ("relative_mae", "skill_low", "skill_high", "ewma_walk_crps", "ewma_skill")
        bands = [f"coverage_{band}_{end}" for band in (50, 80, 90) for end in ("low", "high")]
        for name in (*added, *bands):
            connection.execute(text(f"ALTER TABLE kronos_scores DROP COLUMN {name}"))
        connection.execute(text(f"UPDATE {VERSION_TABLE} SET version_num = '0004'"))
    dispose_engines()
    init_db(database)
    with get_db_session(database) as session:
        [row] = session.query(KronosScore).all()
        assert (row.mase, row.relative_mae, row.n) == (1.03, 1.03, 300)
        assert (row.skill_low, row.ewma_skill, row.coverage_80_low) == (None, None, None)


def test_scores_from_before_the_parts_are_kept_as_served(database: str) -> None:
    key = {"model_name": "m", "model_revision": "", "interval": "1d", "symbol": "*", "step": 0}
    days = dict.fromkeys(("first_target", "last_target", "scored_at"), datetime(2024, 5, 17))
    with get_db_session(database) as session:
        session.add(KronosScore(**key, last_sessions=0, n=300, sessions=60, crps=0.01, **days))
    with get_engine(database).begin() as connection:  # as migration 0007 left it
        if connection.dialect.name == "sqlite":
            connection.execute(text("CREATE TABLE old AS SELECT * FROM kronos_scores"))
            connection.execute(text("DROP TABLE kronos_scores"))
            connection.execute(text("ALTER TABLE old DROP COLUMN forecast"))
            connection.execute(text("ALTER TABLE old RENAME TO kronos_scores"))
        else:
            connection.execute(text("ALTER TABLE kronos_scores DROP COLUMN forecast"))
            connection.execute(
                text(
                    "ALTER TABLE kronos_scores ADD CONSTRAINT pk_kronos_scores PRIMARY KEY "
                    "(model_name, model_revision, interval, symbol, step, last_sessions)"
                )
            )
        connection.execute(text(f"UPDATE {VERSION_TABLE} SET version_num = '0007'"))
    dispose_engines()
    init_db(database)
    with get_db_session(database) as session:
        [row] = session.query(KronosScore).all()
        assert (row.forecast, row.n, row.crps) == ("served", 300, 0.01)
        raw = KronosScore(**key, last_sessions=0, n=300, sessions=60, forecast="raw", **days)
        session.add(raw)
    with get_db_session(database) as session:
        assert session.query(KronosScore).count() == 2


def test_a_database_from_before_events_gets_their_tables_and_keeps_its_rows(database: str) -> None:
    with get_db_session(database) as session:
        session.add(prediction())
    with get_engine(database).begin() as connection:  # as migration 0008 left it
        for table in ("kronos_events", "kronos_event_scores"):
            connection.execute(text(f"DROP TABLE {table}"))
        connection.execute(text(f"UPDATE {VERSION_TABLE} SET version_num = '0008'"))
    dispose_engines()
    init_db(database)
    with get_db_session(database) as session:
        assert session.query(KronosPrediction).count() == 1
        assert session.query(KronosEvent).count() == session.query(KronosEventScore).count() == 0


# the first layout -----------------------------------------------------------------------------


@pytest.fixture
def first_layout(database: str) -> str:
    with get_engine(database).begin() as connection:
        serial = "SERIAL" if connection.dialect.name == "postgresql" else "INTEGER"
        connection.execute(
            text(
                f"CREATE TABLE kronos_predictions (id {serial} PRIMARY KEY,"
                " symbol VARCHAR(20) NOT NULL, model_name VARCHAR(50), interval VARCHAR(10),"
                " prediction_made_at TIMESTAMP, target_date TIMESTAMP,"
                " predicted_open FLOAT, predicted_high FLOAT, predicted_low FLOAT,"
                " predicted_close FLOAT, predicted_volume FLOAT, horizon_days INTEGER,"
                " UNIQUE (symbol, target_date, model_name))"
            )
        )
        # names that the current layout uses too
        connection.execute(
            text(
                "CREATE INDEX ix_kronos_predictions_symbol_target_date"
                " ON kronos_predictions (symbol, target_date)"
            )
        )
        for symbol, made, target, close in FIRST_LAYOUT_ROWS:
            connection.execute(
                text(
                    "INSERT INTO kronos_predictions (symbol, model_name, interval,"
                    " prediction_made_at, target_date, predicted_open, predicted_high,"
                    " predicted_low, predicted_close, predicted_volume, horizon_days) VALUES"
                    " (:symbol, 'Kronos-mini', '1d', :made, :target, 1, 9, 0.5, :close, 7, 3)"
                ),
                {"symbol": symbol, "made": made, "target": target, "close": close},
            )
    return database


def test_upgrading_the_first_layout_keeps_its_rows_and_counts_their_steps(
    first_layout: str,
) -> None:
    with get_db_session(first_layout) as session:
        rows = session.query(KronosPrediction).order_by("symbol", "target_date").all()
    assert [(r.symbol, r.target_date.day, r.horizon_days, r.predicted_close) for r in rows] == [
        ("QQQ", 6, 1, 5.0),
        ("SPY", 6, 1, 2.0),  # the part of the first run that the second left unchanged
        ("SPY", 7, 1, 3.0),
        ("SPY", 8, 2, 4.0),
        ("SPY", 9, 3, 4.5),
    ]
    assert {(r.model_name, r.interval, r.as_of, r.prob_up) for r in rows} == {
        ("Kronos-mini", "1d", None, None)
    }
    assert rows[0].prediction_made_at == datetime(2026, 1, 5, 22, 5, 1, 250_000)
    assert (rows[0].predicted_open, rows[0].predicted_volume) == (1.0, 7.0)


def test_a_read_only_session_does_not_change_the_first_layout(first_layout: str) -> None:
    with get_db_session(first_layout, create=False) as session:
        assert session.scalar(text("SELECT count(*) FROM kronos_predictions")) == 5
    assert inspect(get_engine(first_layout)).get_table_names() == ["kronos_predictions"]


def test_forecasts_of_the_first_layout_are_found_by_date_and_can_be_replaced(
    first_layout: str,
) -> None:
    key = {"symbol": "SPY", "target_date": MIDNIGHT}
    with get_db_session(first_layout) as session:
        assert session.query(KronosPrediction).filter_by(**key).one().predicted_close == 2.0
        session.merge(prediction(model_name="Kronos-mini"))
    with get_db_session(first_layout) as session:
        assert session.query(KronosPrediction).filter_by(**key).one().predicted_close == 682.5


def test_the_first_layout_equals_the_models_after_one_or_two_upgrades(first_layout: str) -> None:
    init_db(first_layout)
    with init_db(first_layout).connect() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
        assert compare_metadata(context, Base.metadata) == []
    with get_db_session(first_layout) as session:
        assert session.query(KronosPrediction).count() == 5


@pytest.mark.integration
def test_several_processes_upgrade_the_first_layout_once(first_layout: str) -> None:
    assert together(2, first_layout) == [(0, "ready\nok\n", "")] * 2
    with get_db_session(first_layout) as session:
        assert session.query(KronosPrediction).count() == 5


def test_the_first_layout_is_unchanged_when_its_upgrade_fails(first_layout: str) -> None:
    with get_engine(first_layout).begin() as connection:
        # blocks the migration
        connection.execute(text("CREATE TABLE run_logs (whose INTEGER)"))
    with pytest.raises(DatabaseError, match=r"run_logs.* already exists"):
        init_db(first_layout)
    with get_engine(first_layout).connect() as connection:
        count = connection.scalar(text("SELECT sum(horizon_days) FROM kronos_predictions"))
    assert count == 5 * 3


FIRST_LAYOUT_ROWS = [  # symbol, made at, target date, close
    ("SPY", "2026-01-05 22:05:00.500000", "2026-01-06 00:00:00.000000", 2.0),
    ("QQQ", "2026-01-05 22:05:01.250000", "2026-01-06 00:00:00.000000", 5.0),
    ("SPY", "2026-01-06 22:05:00.500000", "2026-01-09 00:00:00.000000", 4.5),
    ("SPY", "2026-01-06 22:05:00.500000", "2026-01-07 00:00:00.000000", 3.0),
    ("SPY", "2026-01-06 22:05:00.500000", "2026-01-08 00:00:00.000000", 4.0),
]

SET_UP_AND_ADD = """
import sys, warnings
warnings.simplefilter("error")
from tradingbot.persistence.models import RunLog
from tradingbot.persistence.engine import get_db_session
print("ready", flush=True)
sys.stdin.readline()
with get_db_session(sys.argv[1]) as session:
    session.add(RunLog(name="kronosbot", status="running"))
print("ok")
"""


def together(count: int, url: str) -> list[tuple[int, str, str]]:
    """Start processes, release them together when all are ready; return (code, output, errors) of
    each.
    """
    processes = [commands.piped("-c", SET_UP_AND_ADD, url, env=os.environ) for _ in range(count)]
    ready = [process.stdout.readline() for process in processes]
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    done = []
    for process, first in zip(processes, ready, strict=True):
        output, errors = process.communicate(timeout=120)
        done.append((process.wait(), first + output, errors))
    return done


# databases out of reach -----------------------------------------------------------------------


def refusal(url: str, kind: type[KronosError] = DatabaseError) -> str:
    with pytest.raises(kind) as caught:
        init_db(url)
    message = str(caught.value)
    assert "\n" not in message
    assert "secret" not in message
    return message


def test_a_database_file_in_a_missing_folder_is_a_one_line_error(tmp_path: Path) -> None:
    message = refusal(f"sqlite:///{tmp_path}/none/kronos.db")
    assert message == (
        f"database sqlite:///{tmp_path}/none/kronos.db: unable to open database file;"
        " is its folder there and writable? Else set DATABASE_URL"
    )


def test_a_database_file_in_a_read_only_folder_is_a_one_line_error() -> None:
    assert "unable to open database file" in refusal("sqlite:////proc/kronos.db")


@pytest.mark.parametrize(
    ("reason", "code", "hint"),
    [
        ("connection to server failed: Connection refused", None, "is the server up"),
        ("server closed the connection unexpectedly", None, "is the server up"),
        ("timeout expired", None, "is the server up"),
        ("terminating connection due to administrator command", "57P01", "is the server up"),
        ('FATAL: password authentication failed for user "me"', None, "the password in"),
        ("fe_sendauth: no password supplied", None, "the password in"),
        ('FATAL: database "bots" does not exist', None, "correct its name"),
        ('FATAL: role "me" does not exist', None, "correct its name"),
        ("FATAL: no such database: bots", None, "correct its name"),  # the message of a pooler
        ("FATAL: no such user: me", None, "correct its name"),
        ("FATAL: unsupported startup parameter: options", None, "ignore_startup_parameters"),
        ("FATAL: no more connections allowed (max_client_conn)", None, "try again later"),
        ("FATAL: no pg_hba.conf entry for host", None, "does not let this user in"),
        ("FATAL: sorry, too many clients already", None, "try again later"),
        ("FATAL: the database system is starting up", None, "try again once it is up"),
        ("server does not support SSL, but SSL was required", None, "check sslmode"),
        ('could not translate host name "db" to address', None, "correct the host"),
        ("could not extend file: No space left on device", "53100", "make room"),
        ("canceling statement due to statement timeout", "57014", "see the server's log"),
        ("idle-in-transaction timeout", "25P03", "see the server's log"),
    ],
)
def test_an_error_suggests_a_stopped_server_only_if_that_is_possible(
    reason: str, code: str | None, hint: str
) -> None:
    class Refusal(Exception):
        pgcode = code

    error = OperationalError("SELECT", {}, Refusal(reason))
    address = make_url("postgresql+psycopg2://me@db/bots")
    assert hint in str(unreachable(address, error)).rpartition(";")[2]


@pytest.mark.parametrize(
    ("address", "hint"),
    [
        ("me@db/bots?pgbouncer=true", "meant for Prisma; remove it"),
        ("me@db/bots?sslmode=require&schema=bots", "write options=-csearch_path%3DNAME"),
        ("me@db/bots?ssl=true", "write sslmode=require"),
        ("me@db/bots?ssl_mode=require", "'ssl_mode': remove it, or correct its name"),
        ("me@one:5432,two:5433/bots", "?host=HOST1:5432&host=HOST2:5432"),
        ("me:secret@one:5432,two/bots", "?host=HOST1:5432&host=HOST2:5432"),
    ],
)
def test_the_address_format_of_another_program_is_refused_with_the_right_one(
    address: str, hint: str
) -> None:
    assert hint in refusal(f"postgresql://{address}", ConfigError)


@pytest.mark.parametrize(
    "query",
    [
        "sslmode=require",
        "options=-csearch_path%3Dbots",
        "host=a:1&host=b:2",
        "application_name=x",
    ],
)
def test_an_address_may_have_any_option_of_postgres(query: str) -> None:
    assert get_engine(f"postgresql://me@/bots?{query}").dialect.name == "postgresql"


def test_a_file_that_is_not_a_database_is_a_one_line_error(tmp_path: Path) -> None:
    (tmp_path / "notes.db").write_text("milk, eggs, bread\n" * 100)
    assert "file is not a database" in refusal(f"sqlite:///{tmp_path}/notes.db")


def test_a_port_without_a_server_is_a_one_line_error() -> None:
    message = refusal("postgresql://me:secret@127.0.0.1:9/bots")
    assert message.startswith("database postgresql+psycopg2://me:***@127.0.0.1:9/bots: ")
    assert "Connection refused" in message
    assert message.endswith("is the server up, and is DATABASE_URL (or POSTGRES_*) right?")


def test_hiding_a_short_password_keeps_words_that_contain_it() -> None:
    message = refusal("postgresql://me:p@127.0.0.1:9/bots")
    assert "***@127.0.0.1" in message
    assert "o***" not in message
    assert "connection" in message
    assert "port 9 failed" in message


def test_a_password_that_the_driver_repeats_is_hidden() -> None:
    address = make_url("postgresql://me:secret@db/bots?password=hidden")
    reason = 'no "secret" in postgresql://me:secret@db/bots?password=hidden, hidden; unsecretive'
    assert without_password(address, reason) == (
        'no "***" in postgresql://me:***@db/bots, ***; unsecretive'
    )


def test_a_refused_password_is_a_one_line_error(postgres_url: str) -> None:
    with get_engine(postgres_url).begin() as connection:
        connection.execute(text("CREATE USER locked PASSWORD 'right'"))
        hba = Path(str(connection.scalar(text("SHOW hba_file"))))
        before = hba.read_text()
        hba.write_text("local all locked scram-sha-256\n" + before)
        connection.execute(text("SELECT pg_reload_conf()"))
    try:
        wrong = postgres_url.replace("postgres:@", "locked:secret@")
        assert 'authentication failed for user "locked"' in refusal(wrong)
    finally:
        hba.write_text(before)
        with get_engine(postgres_url).begin() as connection:
            connection.execute(text("SELECT pg_reload_conf()"))
            connection.execute(text("DROP USER locked"))


def test_a_database_missing_on_the_server_is_a_one_line_error(postgres_url: str) -> None:
    url = postgres_url.replace("/test_", "/no_test_")
    assert "does not exist" in refusal(url)


def test_an_unsupported_kind_of_database_is_a_one_line_error() -> None:
    message = refusal("mysql://me:secret@db/bots", ConfigError)
    assert message == (
        "mysql://me:***@db/bots: databases of the kind 'mysql' are not supported;"
        " use a postgresql:// or sqlite:/// URL"
    )


@pytest.mark.parametrize("driver", ["pg8000", "nonsense"])
def test_a_missing_driver_is_a_one_line_error(driver: str) -> None:
    message = refusal(f"postgresql+{driver}://me:secret@db/bots", ConfigError)
    assert f"there is no driver 'postgresql+{driver}' here" in message


@pytest.mark.parametrize(("query", "seconds"), [("", 10), ("?connect_timeout=3", "3")])
def test_connecting_has_a_time_out(query: str, seconds: object) -> None:
    asked: dict[str, Any] = {}
    engine = get_engine(f"postgresql://me@db/bots{query}")

    @event.listens_for(engine, "do_connect")
    def stop(dialect: Any, record: Any, arguments: Any, options: dict[str, Any]) -> None:
        asked.update(options)
        raise psycopg2.OperationalError("seen enough")

    with pytest.raises(OperationalError, match="seen enough"):
        engine.connect()
    assert asked["connect_timeout"] == seconds


def as_nobody(work: Callable[[], object]) -> int:
    """Run `work` in a process without write permission for our files; return its exit code."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about threads: this process only reads and ends
        pid = os.fork()
    if pid == 0:
        code = 1
        try:
            if os.geteuid() == 0:
                os.setuid(65534)
            work()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.mark.parametrize("in_wal_mode", [True, False])
def test_a_sqlite_file_that_cannot_be_written_to_can_be_read(in_wal_mode: bool) -> None:
    with TemporaryDirectory() as folder:
        file = Path(folder, "kronos.db")
        url = f"sqlite:///{file}"
        with get_db_session(url) as session:
            session.add(prediction())
        dispose_engines()
        if not in_wal_mode:
            with closing(sqlite3.connect(file)) as connection:
                connection.execute("PRAGMA journal_mode = DELETE")
        file.chmod(0o444)
        Path(folder).chmod(0o555)
        before = sorted(path.name for path in Path(folder).iterdir())

        def read() -> None:
            for _ in range(2):
                with read_only_session(url) as session:
                    assert session.query(KronosPrediction).count() == 1
                with get_db_session(url, create=False) as session:
                    assert session.query(KronosPrediction).count() == 1
                with get_db_session(url) as session:
                    assert session.query(KronosPrediction).count() == 1
            with pytest.raises(DatabaseError), get_db_session(url) as session:
                session.add(RunLog(name="kronosbot", status="ok"))

        assert as_nobody(read) == 0
        assert sorted(path.name for path in Path(folder).iterdir()) == before
        Path(folder).chmod(0o755)


@pytest.mark.parametrize("kind", ["a directory", "a pipe", "a device"])
def test_a_path_that_is_not_a_file_is_refused_in_one_line(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "kronos.db"
    match kind:
        case "a directory":
            path.mkdir()
        case "a pipe":
            os.mkfifo(path)
        case _:
            path.symlink_to("/dev/null")
    for command in ("status", "portfolio", "score", "report", "export forecasts"):
        url = ["--database-url", f"sqlite:///{path}"]
        done = CliRunner().invoke(app, [*command.split(), *url])
        assert done.exit_code == 2, done.output
        assert "a directory;" in done.output or "not a regular file;" in done.output
        assert "name a file in DATABASE_URL" in done.output


def test_an_empty_file_is_reported_as_empty(tmp_path: Path) -> None:
    (tmp_path / "kronos.db").touch()
    for command in ("status", "portfolio", "report", "export forecasts"):
        url = ["--database-url", f"sqlite:///{tmp_path}/kronos.db"]
        done = CliRunner().invoke(app, [*command.split(), *url])
        assert done.exit_code == 1
        assert "is empty: " in done.output


@pytest.mark.integration
def test_importing_the_modules_opens_no_database_and_reads_no_environment(tmp_path: Path) -> None:
    code = (
        "import tradingbot.persistence.engine as db, tradingbot.persistence.forecasts\n"
        "print(db._engines)"
    )
    done = run_python(code, cwd=tmp_path, env={"DATABASE_URL": "nonsense"})
    assert (done.stdout, done.stderr) == ("{}\n", "")
    assert list(tmp_path.iterdir()) == []


def test_a_database_of_an_earlier_version_is_reported_as_upgraded_by_the_next_run(
    database: str,
) -> None:
    with init_db(database).begin() as connection:
        connection.execute(text("ALTER TABLE kronos_scores DROP COLUMN relative_mae"))
    for session_on in (read_only_session, partial(get_db_session, create=False)):
        with (
            pytest.raises(DatabaseError, match="the next `kronosbot run` upgrades older ones"),
            session_on(database) as session,
        ):
            session.query(KronosScore).all()
