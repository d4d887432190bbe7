"""The ledger as a partitioned table, on a real Postgres."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

import pytest
from sqlalchemy import Connection, make_url, text

from tests.support.command_line import kronosbot
from tests.support.postgres import Postgres
from tradingbot.errors import DatabaseError
from tradingbot.persistence.engine import get_db_session
from tradingbot.persistence.partitions import (
    add_partitions,
    is_partitioned,
    partition_ledger,
    partitions,
)

pytestmark = pytest.mark.integration
NOW = datetime(2026, 11, 28, 22, 5)
EXPECTED = {
    "kronos_forecasts_before_2026_12": "FROM (MINVALUE) TO ('2026-12-01 00:00:00')",
    "kronos_forecasts_2026_12": "FROM ('2026-12-01 00:00:00') TO ('2027-01-01 00:00:00')",
    "kronos_forecasts_2027_01": "FROM ('2027-01-01 00:00:00') TO ('2027-02-01 00:00:00')",
    "kronos_forecasts_2027_02": "FROM ('2027-02-01 00:00:00') TO ('2027-03-01 00:00:00')",
}
FORECASTS = """
    INSERT INTO kronos_forecasts
      (symbol, interval, model_name, as_of, target_date, prediction_made_at, horizon_days, last_close,
       predicted_open, predicted_high, predicted_low, predicted_close, predicted_volume,
       close_quantiles, prob_up, samples)
    SELECT 'T' || n % 7, '1d', 'a', day, day + interval '1 day', day, 1, 1, 1, 1, 1, 1, 1, '{}', 0.5, 9
    FROM generate_series(1, :rows) n, LATERAL (SELECT CAST(:first AS timestamp) + n * interval '1 day') d(day)
    ON CONFLICT DO NOTHING
"""  # noqa: E501 (SQL)


@contextmanager
def connected(url: str) -> Iterator[Connection]:
    """Yield a connection with one transaction."""
    with get_db_session(url) as session:
        yield session.connection()


def store(connection: Connection, first: str, rows: int) -> int:
    return connection.execute(text(FORECASTS), {"first": first, "rows": rows}).rowcount


def bounds(connection: Connection) -> dict[str, str]:
    return {found.name: found.bound.removeprefix("FOR VALUES ") for found in partitions(connection)}


def test_existing_rows_stay_in_place_and_future_months_get_partitions(
    postgres_url: str,
) -> None:
    with connected(postgres_url) as connection:
        store(connection, "2026-01-01", 300)
        before = connection.scalar(
            text("SELECT relfilenode FROM pg_class WHERE relname = 'kronos_forecasts'")
        )
    with connected(postgres_url) as connection:
        partition_ledger(connection, NOW)
    with connected(postgres_url) as connection:
        assert bounds(connection) == EXPECTED
        assert connection.scalar(text("SELECT count(*) FROM kronos_forecasts")) == 300
        [[file, rows]] = connection.execute(
            text(
                "SELECT relfilenode, (SELECT count(*) FROM kronos_forecasts_before_2026_12)"
                " FROM pg_class WHERE relname = 'kronos_forecasts_before_2026_12'"
            )
        )
        assert (file, rows) == (before, 300), "the rows were copied"


def test_a_forecast_goes_into_its_months_partition_once(postgres_url: str) -> None:
    with connected(postgres_url) as connection:
        store(connection, "2026-11-20", 1)
        partition_ledger(connection, NOW)
        assert store(connection, "2026-12-30", 3) == 3
        assert store(connection, "2026-12-30", 3) == 0, "the key still holds"
        assert store(connection, "2026-11-20", 1) == 0, "for what was there, too"
        found = connection.execute(
            text("SELECT tableoid::regclass::text, count(*) FROM kronos_forecasts GROUP BY 1")
        )
        assert dict(map(tuple, found)) == {
            "kronos_forecasts_before_2026_12": 1,
            "kronos_forecasts_2026_12": 1,
            "kronos_forecasts_2027_01": 2,
        }


def test_partitions_are_created_ahead_without_gaps(postgres_url: str) -> None:
    with connected(postgres_url) as connection:
        partition_ledger(connection, NOW)
        assert add_partitions(connection, NOW) == []
        assert add_partitions(connection, datetime(2026, 12, 1)) == ["kronos_forecasts_2027_03"]
        made = add_partitions(connection, datetime(2027, 12, 31))  # as after a year without a run
        assert made[0] == "kronos_forecasts_2027_04"
        assert made[-1] == "kronos_forecasts_2028_03"
        assert len(made) == 12


def test_a_ledger_with_future_bars_is_converted_completely(postgres_url: str) -> None:
    """Bars are in the future if the clock of the machine that stored them was ahead."""
    with connected(postgres_url) as connection:
        store(connection, "2027-01-14", 1)
        partition_ledger(connection, NOW)
        assert next(iter(bounds(connection))) == "kronos_forecasts_before_2027_02"


def test_partitioning_is_done_once(postgres_url: str) -> None:
    with connected(postgres_url) as connection:
        partition_ledger(connection, NOW)
        partition_ledger(connection, datetime(2027, 6, 1))
        assert bounds(connection) == EXPECTED


def test_partitioning_keeps_the_read_permissions(
    postgres_url: str, postgres_server: Postgres
) -> None:
    database = str(make_url(postgres_url).database)
    with connected(postgres_url):
        pass
    postgres_server.execute('CREATE ROLE "A reader" LOGIN')
    try:
        postgres_server.execute('GRANT SELECT ON kronos_forecasts TO "A reader"', database=database)
        with connected(postgres_url) as connection:
            partition_ledger(connection, NOW)
            connection.execute(text('SET LOCAL ROLE "A reader"'))
            assert connection.scalar(text("SELECT count(*) FROM kronos_forecasts")) == 0
    finally:
        postgres_server.execute('DROP OWNED BY "A reader"', database=database)
        postgres_server.execute('DROP ROLE "A reader"')


def test_a_dependent_view_is_named_and_nothing_is_changed(postgres_url: str) -> None:
    with connected(postgres_url) as connection:
        connection.execute(text("CREATE VIEW mine AS SELECT symbol FROM kronos_forecasts"))
    with (
        pytest.raises(DatabaseError, match=r"^mine would show only"),
        connected(postgres_url) as connection,
    ):
        partition_ledger(connection, NOW)
    with connected(postgres_url) as connection:
        assert not is_partitioned(connection)


def test_partitioning_sqlite_is_refused_with_an_explanation(sqlite_url: str) -> None:
    with (
        pytest.raises(DatabaseError, match="a SQLite file needs none"),
        connected(sqlite_url) as connection,
    ):
        partition_ledger(connection, NOW)
    with connected(sqlite_url) as connection:
        assert add_partitions(connection, NOW) == []


def test_the_command_lists_the_partitions_and_the_job_writes_to_them(
    postgres_url: str, space_url: str, tmp_path: object
) -> None:
    settings = {"DATABASE_URL": postgres_url, "KRONOS_SPACE_URL": space_url}
    assert kronosbot("partition", "--show", folder=tmp_path, **settings).stdout.startswith(
        "kronos_forecasts is one table"
    )
    shown = kronosbot("partition", folder=tmp_path, **settings)
    assert shown.returncode == 0, shown.stderr
    assert len(shown.stdout.splitlines()) == 4
    done = kronosbot("run", "--source", "sample", folder=tmp_path, **settings)
    assert done.returncode == 0, done.stderr
    with connected(postgres_url) as connection:
        assert connection.scalar(text("SELECT count(*) FROM kronos_forecasts")) == 20
        assert connection.scalar(text("SELECT count(*) FROM kronos_scores")) > 0
