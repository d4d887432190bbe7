"""Damaged rows are left out, reported in one line, and replaced."""

import re
import sqlite3
from collections.abc import Iterator
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest
from sqlalchemy import (
    Boolean,
    Executable,
    Float,
    Integer,
    LargeBinary,
    Select,
    String,
    event,
    func,
    insert,
    select,
    text,
    update,
)
from typer.testing import CliRunner

import tradingbot
from tests.support.records import LAST, Past
from tradingbot.cli.main import app
from tradingbot.data.cache import HistoryCache
from tradingbot.markets.candles import Bars
from tradingbot.persistence.columns import Base, Json
from tradingbot.persistence.damage import count_damaged, damaged_rows
from tradingbot.persistence.engine import get_db_session
from tradingbot.persistence.forecasts import latest_stored, store_forecasts
from tradingbot.persistence.ledger import ledger_parts, read_part
from tradingbot.persistence.models import (
    BotRow,
    HistoricData,
    KronosForecast,
    KronosPrediction,
    Trade,
)
from tradingbot.persistence.row_ranges import NEWER
from tradingbot.reports.combination_shares import read_shares_by_day

TABLES = sorted(  # sorted, so that all workers have the same order
    (mapper.class_ for mapper in Base.registry.mappers if mapper.class_ is not BotRow),
    key=lambda table: table.__tablename__,
)

TIMES = [
    *("yesterday", "", 5, 1.5, b"\xff", "9999-12-31 00:00:00", "0001-01-01 00:00:00"),
    *("2024-02-30 00:00:00", "2024-01-01 00:00:00Z", "2024-01-01 00:00:00.00000Z", "2024-01-01"),
]
WHOLE = ["much", "", -(2**40), 2**62, 1.5, 1e300, b"x"]
NUMBERS = ["much", "", b"x", 9e999, -9e999, -1e301]
TEXTS = [b"x", b""]
JSON = ["", "no json", "5", '"text"', "null", b"\xff", f"{'[' * 9999}{']' * 9999}"]


def possible_row(table: type[Base]) -> dict[str, Any]:
    """Return a valid row."""
    row: dict[str, Any] = {}
    for column in table.__table__.columns:
        match column.type:
            case Json():
                row[column.name] = column.type.kind()
            case String():
                row[column.name] = "AAPL"
            case Boolean():
                row[column.name] = False
            case Integer():
                row[column.name] = 1
            case LargeBinary():
                row[column.name] = b""
            case Float():
                row[column.name] = 0.5
            case _:
                row[column.name] = LAST
    row |= {"target_date": LAST + timedelta(days=1)} if "target_date" in row else {}
    return row | ({"side": "buy"} if table is Trade else {})


def accidents(table: type[Base]) -> Iterator[tuple[str, Any]]:
    """Return each column with the damaged values that it can contain."""
    for column in table.__table__.columns:
        if column.name in NEWER.get(table, ()):
            continue
        match column.type:
            case Json():
                values: list[Any] = []
            case String():
                values = TEXTS
            case Boolean():
                values = []
            case Integer():
                values = [] if column.name == "id" else WHOLE
            case LargeBinary():
                values = [5, "text"]
            case Float():
                values = NUMBERS
            case _:
                values = TIMES
        for value in values:
            yield column.name, value


def put(url: str, table: type[Base], rows: list[dict[str, Any]]) -> None:
    """Insert rows without SQLAlchemy's checks."""
    names = [column.name for column in table.__table__.columns]
    places = ", ".join(f":{name}" for name in names)
    with sqlite3.connect(url.removeprefix("sqlite:///")) as connection:
        connection.executemany(f"INSERT INTO {table.__tablename__} VALUES ({places})", rows)
    connection.close()


def as_stored(row: dict[str, Any]) -> dict[str, Any]:
    return {
        name: str(value) if isinstance(value, datetime)
        else ("[]" if value == [] else "{}") if isinstance(value, dict | list)
        else value
        for name, value in row.items()
    }  # fmt: skip


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.__tablename__)
def test_any_damaged_row_is_skipped_and_counted(sqlite_url: str, table: type[Base]) -> None:
    with get_db_session(sqlite_url) as session:
        session.execute(insert(BotRow), [{"name": "AAPL", "portfolio": {}}])
        session.execute(insert(table), [possible_row(table)])
    key = [column.name for column in table.__table__.primary_key]
    damages = list(accidents(table))
    rows = []
    for number, (name, value) in enumerate(damages):
        other = next(item for item in key if item != name) if len(key) > 1 else key[0]
        apart = {other: number + 2 if other == "id" else f"another {number}"}
        if isinstance(possible_row(table)[other], datetime):
            apart = {other: LAST + timedelta(minutes=number)}
        rows.append(as_stored(possible_row(table) | apart | {name: value}))
    put(sqlite_url, table, rows)
    with get_db_session(sqlite_url) as session:
        assert count_damaged(session, table) == len(damages)
        assert len(session.scalars(select(table)).all()) == 1
        [line] = damaged_rows(session)
    assert line.startswith(f"{table.__tablename__}: {len(damages)} rows are damaged (")
    assert "\n" not in line


PAST = Past(["AAPL", "IBM"], sessions=8, horizon=2, calibrated=1.0)
COMMANDS = [
    *("status", "score", "calibrate --dry-run", "report --out report.html"),
    *("export forecasts --format json", "export scores --format json", "export events"),
]


@pytest.mark.slow
def test_every_command_continues_with_damaged_rows(
    tmp_path: Path, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tables contain each kind of damage of each column, and invalid JSON."""
    monkeypatch.chdir(tmp_path)
    PAST.store(sqlite_url, source=f"csv:{tmp_path}")
    for symbol in PAST.symbols:
        pd.DataFrame(PAST.candles(symbol)).to_csv(f"{symbol}.csv")
    before = stdout_of(sqlite_url, "export forecasts --format json")
    for table in TABLES:
        ways = dict(accidents(table))
        if table is not KronosForecast:  # the message names the table
            ways |= {c.name: "no json" for c in table.__table__.columns if isinstance(c.type, Json)}
        for number, (name, value) in enumerate(ways.items()):
            row = possible_row(table) | ({"id": 50 + number} if name != "id" else {})
            apart = {key: f"another {number}" for key in ("interval", "bot_name") if key in row}
            put(sqlite_url, table, [as_stored(only(table, row | apart) | {name: value})])
    for command in COMMANDS:
        stdout_of(sqlite_url, command)
    assert stdout_of(sqlite_url, "export forecasts --format json") == before


def only(table: type[Base], row: dict[str, Any]) -> dict[str, Any]:
    return {column.name: row[column.name] for column in table.__table__.columns}


def stdout_of(url: str, command: str) -> str:
    """Return the command's output on stdout; only expected errors are allowed."""
    done = CliRunner().invoke(app, [*command.split(), "--database-url", url])
    if not isinstance(done.exception, SystemExit | None):
        raise done.exception
    assert "Traceback" not in done.output
    return done.stdout


@pytest.mark.parametrize(
    "column", ["close_quantiles", "calibrated_quantiles", "combined_quantiles"]
)
def test_invalid_quantiles_affect_only_their_forecast(sqlite_url: str, column: str) -> None:
    PAST.store(sqlite_url)
    newest = f"UPDATE kronos_forecasts SET {column} = :value WHERE symbol = 'AAPL' AND as_of = :at"
    sessions = partial(get_db_session, sqlite_url)
    for damage in JSON:
        with sessions() as session:
            session.execute(text(newest), {"value": damage, "at": str(LAST)})
        with sessions() as session:
            read = partial(latest_stored, session, interval="1d", horizon=2, as_of=LAST)
            assert read("IBM") is not None
            assert (read("AAPL") is None) == (column == "close_quantiles")
            parts = ledger_parts(session)
        rows = [read_part(sessions, part) for part in parts]
        kept = [np.isfinite(row.raw_quantiles).all(axis=1).sum() for row in rows if row]
        assert kept == [14 if column == "close_quantiles" else 16, 16]


def test_columns_of_invalid_json_are_named(database: str) -> None:
    PAST.store(database)
    with get_db_session(database) as session:
        assert [*damaged_rows(session)] == []
        session.execute(text("UPDATE kronos_forecasts SET shares = 'null' WHERE symbol = 'IBM'"))
        assert [*damaged_rows(session)] == []
    wrong = ["5", '"text"', "[1]"]
    if database.startswith("sqlite"):
        wrong += [document for document in JSON if document != "null"]
    for damage in wrong:
        with get_db_session(database) as session:
            change = "UPDATE kronos_forecasts SET shares = :value WHERE symbol = 'AAPL'"
            session.execute(text(change), {"value": damage})
            [line] = damaged_rows(session)
        assert line.startswith(
            "kronos_forecasts: 16 rows are damaged (shares) of AAPL and left out"
        )


def test_the_largest_tables_are_not_checked_beyond_a_total_of_rows(database: str) -> None:
    PAST.store(database)
    tables = KronosForecast, HistoricData
    with get_db_session(database) as session:
        rows = [session.scalar(select(func.count()).select_from(table)) or 0 for table in tables]
        session.execute(text("ANALYZE"))  # Postgres estimates the rows
        session.execute(text("UPDATE kronos_forecasts SET last_close = -1"))
        session.execute(text("UPDATE historic_data SET close = -1"))
    assert 0 < rows[0] < rows[1]
    with get_db_session(database) as session:
        for most, checked in ((sum(rows), [0, 1]), (sum(rows) - 1, [0]), (rows[0] - 1, [])):
            said = list(damaged_rows(session, tables, most=most))
            assert [line.partition(":")[0] for line in said] == [
                tables[place].__tablename__ for place in checked
            ]


SHARES = [
    *('{"kronos":NaN}', '{"kronos":-Infinity}', '{"kronos":1e999}', '{"kronos":"x"}'),
    *("[1]", f'{{"kronos":1{"0" * 400}}}', '{"other/model":{}}', '{"kronos":null}'),
]


def test_invalid_shares_are_left_out_of_the_report(sqlite_url: str) -> None:
    PAST.store(sqlite_url)
    with get_db_session(sqlite_url) as session:
        session.execute(update(KronosForecast).values(shares={"kronos": 1.0}))
    key = "mini", "r1", "1d", datetime(2020, 1, 1)
    for damage in [*JSON, *SHARES]:
        with get_db_session(sqlite_url) as session:
            days = read_shares_by_day(session, *key).days
            change = "UPDATE kronos_forecasts SET shares = :value WHERE as_of = :at"
            session.execute(text(change), {"value": damage, "at": str(LAST)})
            assert read_shares_by_day(session, *key).days == days[:7]


def test_storing_again_replaces_damaged_rows(sqlite_url: str) -> None:
    PAST.store(sqlite_url)
    with get_db_session(sqlite_url) as session:
        made = latest_stored(session, "AAPL", interval="1d", horizon=2, as_of=LAST)
        assert made is not None
        store_forecasts(session, [made])
    for table in (KronosForecast, KronosPrediction):
        with get_db_session(sqlite_url) as session:
            change = f"UPDATE {table.__tablename__} SET predicted_close = 'x', samples = -1"
            session.execute(text(change))
    with get_db_session(sqlite_url) as session:
        assert latest_stored(session, "AAPL", interval="1d", horizon=2, as_of=LAST) is None
        store_forecasts(session, [made])
        found = latest_stored(session, "AAPL", interval="1d", horizon=2, as_of=LAST)
    assert found == made


def test_the_filter_of_damaged_rows_adds_no_values_to_a_statements_key() -> None:
    """SQLAlchemy computes this key for each execution, and the filter has hundreds of values."""
    statement = select(KronosForecast).where(KronosForecast.symbol == "AAPL")
    executed: list[Executable] = []
    with get_db_session("sqlite://") as session:
        event.listen(session, "do_orm_execute", lambda state: executed.append(state.statement))
        session.scalars(statement)
    key = cast("Select[Any]", executed[0])._generate_cache_key()
    assert key is not None
    assert [parameter.value for parameter in key.bindparams] == ["AAPL"]


def test_every_query_goes_through_the_sessions_filter() -> None:
    """The filter applies to ORM attributes only; a query of a Core table would avoid it."""
    past_it = re.compile(r"__table__\.c\b|select\([^)]*__table__")
    allowed = {"columns.py", "damage.py", "upsert.py"}
    sources = Path(tradingbot.__file__).parent.rglob("*.py")
    found = [
        f"{source.name}: {match[0]}"
        for source in sources
        if source.name not in allowed and "migrations" not in source.parts
        for match in past_it.finditer(source.read_text())
    ]
    assert found == ["forecasts.py: __table__.c"], "of which one is the target of an upsert"


def test_a_ticker_with_a_damaged_candle_is_fetched_again(sqlite_url: str) -> None:
    cache = HistoryCache(partial(get_db_session, sqlite_url))
    index = pd.DatetimeIndex([LAST - timedelta(days=day) for day in range(20)][::-1])
    bars = pd.DataFrame(
        {"open": 1.0, "high": 1.0, "low": 1.0, "close": 1.0, "volume": 5.0}, index=index
    )
    asked = []

    def fetch(since: datetime) -> Bars:
        asked.append(since)
        return bars[since:], []

    read = partial(cache.bars, "AAPL", index[0].to_pydatetime(), LAST, fetch, enough=1)
    read()
    read()
    with get_db_session(sqlite_url) as session:
        session.execute(text("UPDATE historic_data SET close = -1 WHERE timestamp LIKE '%-05-0%'"))
    found, _ = read()
    assert asked == [index[0], index[-7], index[0]]
    assert found["close"].tolist() == [1.0] * 20
