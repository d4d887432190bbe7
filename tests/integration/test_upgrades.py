"""A database of the previous release is upgraded without losing a row."""

import gzip
from pathlib import Path

import pytest
from sqlalchemy import MetaData, create_engine, make_url, select

from tests.support import DATA
from tests.support.commands import run
from tests.support.postgres import Postgres
from tradingbot.persistence.engine import dispose_engines, init_db

OLD = DATA / "upgrades"
LEDGER = (
    "kronos_predictions", "kronos_forecasts", "kronos_scores", "kronos_events",
    "kronos_event_scores", "kronos_calibrations", "kronos_combinations", "run_logs",
)  # fmt: skip
Row = tuple[tuple[str, str], ...]

pytestmark = pytest.mark.no_tables  # the old version's dump creates them


@pytest.fixture(params=["sqlite", "postgres"])
def old(request: pytest.FixtureRequest, tmp_path: Path, postgres_server: Postgres) -> str:
    """The URL of a database as version 0.1.0 left it."""
    if request.param == "sqlite":
        file = tmp_path / "kronos.db"
        file.write_bytes(gzip.decompress((OLD / "0.1.0-sqlite.db.gz").read_bytes()))
        return f"sqlite:///{file}"
    url: str = request.getfixturevalue("postgres_url")
    statements = gzip.decompress((OLD / "0.1.0-postgres.sql.gz").read_bytes()).decode()
    postgres_server.execute(statements, database=str(make_url(url).database))
    return url


def contents(url: str, columns: dict[str, list[str]] | None = None) -> dict[str, list[Row]]:
    """Return every row of every table, limited to `columns` where given."""
    address = make_url(url)
    if address.drivername == "postgresql":
        address = address.set(drivername="postgresql+psycopg2")
    engine = create_engine(address)
    tables = MetaData()
    tables.reflect(engine)
    found: dict[str, list[Row]] = {}
    with engine.connect() as connection:
        for table in tables.sorted_tables:
            names = (columns or {}).get(table.name, [column.name for column in table.columns])
            rows = connection.execute(select(*(table.c[name] for name in names)))
            found[table.name] = sorted(
                tuple(zip(names, map(repr, row), strict=True)) for row in rows
            )
    engine.dispose()
    return found


def names_of(rows: dict[str, list[Row]]) -> dict[str, list[str]]:
    return {table: [name for name, _ in found[0]] for table, found in rows.items() if found}


def test_an_upgrade_keeps_every_row_unchanged(old: str) -> None:
    before = contents(old)
    assert all(before[table] for table in LEDGER), "there is something to lose"
    init_db(old)
    dispose_engines()
    after = contents(old, names_of(before))
    del before["kronos_schema_version"]
    assert {table: after[table] for table in before} == before


@pytest.mark.parametrize("old", ["postgres"], indirect=True)
def test_all_commands_work_after_an_upgrade(old: str, space_url: str, tmp_path: Path) -> None:
    before = contents(old)
    environ = {
        "DATABASE_URL": old,
        "KRONOS_SPACE_URL": space_url,
        "KRONOS_DATA_SOURCE": "sample",
        "KRONOS_EVENTS": "touch +2%",
    }

    def command(*arguments: str, module: str = "tradingbot.kronosbot") -> str:
        done = run(module, *arguments, cwd=tmp_path, env=environ)
        assert done.returncode == 0, done.stderr
        return done.stdout

    command("run")
    assert "4 of 4 active tickers are fresh" in command("status")
    command("score")
    command("report", "--out", "report.html")
    command("--symbols", "AAPL,MSFT", module="tradingbot.kronostraderbot")
    after = contents(old, names_of(before))
    for table in ("kronos_forecasts", "kronos_events"):
        assert set(before[table]) <= set(after[table]), f"{table}: a row is gone or changed"
    assert len(after["kronos_predictions"]) == 20
    assert len(after["run_logs"]) == len(before["run_logs"]) + 2
