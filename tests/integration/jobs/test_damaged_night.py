"""A night on a database of which half the rows are damaged, each in another way."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from sqlalchemy import Connection, Float, Integer, select, text
from sqlalchemy.exc import DBAPIError

from tests.support.records import LAST, Past
from tests.unit.persistence.test_damage import JSON, TABLES, accidents
from tradingbot.ai.forecast_tool import kronos_forecast
from tradingbot.client import KronosClient
from tradingbot.data.service import DataService
from tradingbot.forecast import ANCHORED
from tradingbot.jobs.database import JobDatabase
from tradingbot.jobs.nightly import JobOptions, NightlyJob
from tradingbot.path_events.grammar import parse_events
from tradingbot.persistence.columns import Base, Json
from tradingbot.persistence.engine import dispose_engines, get_db_session, get_engine
from tradingbot.persistence.models import KronosForecast, KronosPrediction
from tradingbot.runtime.progress import ProgressReporter
from tradingbot.settings import Settings, Timeouts
from tradingbot.space.address import SpaceAddress
from tradingbot.space.client import SpaceClient

SYMBOLS = ("AAPL", "IBM")
TIMES = ["infinity", "-infinity", "0044-03-15 BC", "294276-12-31"]  # that Postgres takes
QUICK = Timeouts(space_backoff=0.01)
WRONG = [*JSON, "[1]", '{"a":1}', '{"0.1":NaN,"0.5":1,"0.9":2}', '{"kronos":1e999}', "[[1,2]]"]


def night(space_url: str, database: str, candles: Path) -> Any:
    """Run the job on top of earlier state, forecasting everything again."""

    @contextmanager
    def opener(_lock: Any, _log: Any) -> Iterator[SpaceClient]:
        with SpaceClient(SpaceAddress(space_url, timeouts=QUICK)) as client:
            yield client

    source = f"csv:{candles}"
    settings = Settings(
        data_source=source, horizon=2, samples=4, timeouts=QUICK, events=parse_events("touch +1%")
    )
    place = JobDatabase(database)
    data = DataService(source, horizon=2, sessions=place.storage)
    options = JobOptions(symbols=SYMBOLS, force=True)
    job = NightlyJob(settings, options, place, data, opener, ProgressReporter())
    return job.summary(job.run())


def ways(table: type[Base], *, on_sqlite: bool) -> list[tuple[str, Any]]:
    """Return the columns with the values that damage them: SQLite takes any, Postgres a few."""
    columns = table.__table__.columns
    json = [column.name for column in columns if isinstance(column.type, Json)]
    found = [(name, value) for name in json for value in WRONG]
    if on_sqlite:
        return [*accidents(table), *found]
    for column in columns:
        if isinstance(column.type, Float):
            found += [(column.name, value) for value in ("NaN", "Infinity", "-1e301")]
        if isinstance(column.type, Integer) and column.name != "id":
            found += [(column.name, value) for value in ("-1", "2147483647")]
    times = [column.name for column in columns if "TIME" in str(column.type).upper()]
    return [(name, value) for name in times for value in TIMES] + found


def damage(url: str, table: type[Base]) -> None:
    """Damage every other row, each in another way, as far as the keys allow."""
    on_sqlite = url.startswith("sqlite")
    possible = ways(table, on_sqlite=on_sqlite)
    place = "rowid" if on_sqlite else "ctid, tableoid"
    with get_engine(url).begin() as connection:
        rows = connection.execute(text(f"SELECT {place} FROM {table.__tablename__}")).all()
        for number, row in enumerate(rows[::2]):
            # a database refuses some of the values
            for turn in range(len(possible)):
                name, value = possible[(number * 7 + turn) % len(possible)]
                with suppress(DBAPIError), connection.begin_nested():
                    _change(connection, table, dict(row._mapping), name, value)
                    break


def _change(
    connection: Connection, table: type[Base], row: dict[str, Any], name: str, value: Any
) -> None:
    where = " AND ".join(f"{key} = :{key}" for key in row)
    change = text(f"UPDATE {table.__tablename__} SET {name} = :value WHERE {where}")
    if connection.dialect.name != "sqlite":
        value = str(value)  # the database casts it
    connection.execute(change, {"value": value, **row})


def test_a_night_continues_with_damaged_rows_in_every_table(
    space_url: str,
    tmp_path: Path,
    database: str,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with SpaceClient(SpaceAddress(space_url)) as client:
        health = client.health()
    revision = health["model_revision"] + ANCHORED
    past = Past(
        SYMBOLS, sessions=40, horizon=2, model=health["model"], revision=revision, calibrated=1.0
    )
    past.store(database)
    candles = tmp_path / "candles"
    candles.mkdir()
    for symbol in SYMBOLS:
        frame = pd.DataFrame(past.candles(symbol)).set_index("timestamp").rename_axis("date")
        frame.drop(columns=["symbol", "interval"]).to_csv(candles / f"{symbol}.csv")
    assert night(space_url, database, candles).ending.exit_code == 0
    dispose_engines()
    for table in TABLES:
        damage(database, table)
    caplog.clear()

    done = night(space_url, database, candles)

    assert (done.ending.exit_code, sorted(done.made)) == (0, [*SYMBOLS])
    assert not [record for record in caplog.records if record.exc_info]
    named = {record.getMessage().partition(":")[0] for record in caplog.records}
    assert named >= {
        *("kronos_forecasts", "kronos_predictions", "kronos_scores", "kronos_events"),
        *("kronos_calibrations", "kronos_combinations", "kronos_matured", "run_logs"),
    }
    with get_db_session(database) as session:
        for model in (KronosPrediction, KronosForecast):
            newest = session.scalars(select(model).where(model.as_of == LAST)).all()
            assert {(row.symbol, row.horizon_days) for row in newest} == {
                (symbol, step) for symbol in SYMBOLS for step in (1, 2)
            }

    monkeypatch.setenv("DATABASE_URL", database)
    monkeypatch.setenv("KRONOS_DATA_SOURCE", f"csv:{candles}")
    ask = partial(KronosClient, data=DataService(f"csv:{candles}"))
    with ask(space_url) as asleep_or_not, ask("http://127.0.0.1:9") as stored:
        for client, source in ((asleep_or_not, "space"), (stored, "stored")):
            frame = client.predict("AAPL", 2)
            assert frame is not None
            assert frame.attrs["source"] == source
    assert "AAPL" in kronos_forecast.invoke({"symbol": "AAPL", "horizon": 2})
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]
