"""Rows are inserted or overwrite rows with the same key, on SQLite and on Postgres."""

import itertools
import threading
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Boolean, DateTime, Float, Integer, func, insert, select
from sqlalchemy.orm import Session

from tradingbot.persistence.columns import Base, Json, columns_of
from tradingbot.persistence.damage import EVERY_ROW
from tradingbot.persistence.engine import get_db_session
from tradingbot.persistence.models import HistoricData, HistoricRange, KronosForecast
from tradingbot.persistence.upsert import insert_new, upsert

MONDAY, TUESDAY = datetime(2026, 1, 5), datetime(2026, 1, 6)


def span(symbol: str, since: datetime, fetched_at: datetime = MONDAY) -> dict[str, Any]:
    return {"symbol": symbol, "interval": "1d", "since": since, "fetched_at": fetched_at}


def stored(url: str) -> dict[str, datetime]:
    with get_db_session(url) as session:
        return {row.symbol: row.since for row in session.scalars(select(HistoricRange))}


def test_an_upsert_inserts_new_rows_and_overwrites_existing_ones(database: str) -> None:
    with get_db_session(database) as session:
        assert upsert(session, HistoricRange, [span("SPY", MONDAY)]) == 1
        assert upsert(session, HistoricRange, [span("SPY", TUESDAY), span("QQQ", MONDAY)]) == 2
    assert stored(database) == {"SPY": TUESDAY, "QQQ": MONDAY}


def test_a_conditional_upsert_skips_and_does_not_count_other_rows(database: str) -> None:
    with get_db_session(database) as session:
        upsert(session, HistoricRange, [span("SPY", MONDAY), span("QQQ", TUESDAY)])
        written = upsert(
            session,
            HistoricRange,
            [span("SPY", TUESDAY), span("QQQ", MONDAY), span("IBM", MONDAY)],
            where=lambda proposed: proposed.since > HistoricRange.since,
        )
    assert written == 2
    assert stored(database) == {"SPY": TUESDAY, "QQQ": TUESDAY, "IBM": MONDAY}


def test_insert_new_never_changes_an_existing_row(database: str) -> None:
    with get_db_session(database) as session:
        assert insert_new(session, HistoricRange, [span("SPY", MONDAY)]) == 1
        assert insert_new(session, HistoricRange, [span("SPY", TUESDAY), span("QQQ", MONDAY)]) == 1
    assert stored(database) == {"SPY": MONDAY, "QQQ": MONDAY}


def test_an_upsert_without_rows_sends_no_statement(database: str) -> None:
    with get_db_session(database) as session:
        assert upsert(session, HistoricRange, []) == insert_new(session, HistoricRange, []) == 0


def test_writers_that_name_their_rows_in_opposite_orders_do_not_deadlock(database: str) -> None:
    symbols = ["".join(letters) for letters in itertools.product("ABCDEFGHIJ", repeat=2)]
    errors: list[BaseException] = []

    def write(order: list[str]) -> None:
        try:
            for _ in range(5):
                with get_db_session(database) as session:
                    upsert(session, HistoricRange, [span(symbol, MONDAY) for symbol in order])
        except BaseException as error:
            errors.append(error)

    with get_db_session(database):
        pass  # create the schema before both begin
    writers = [threading.Thread(target=write, args=(order,)) for order in (symbols, symbols[::-1])]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert not errors
    assert len(stored(database)) == len(symbols)


TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=9)
TIMES = st.datetimes(datetime(1900, 1, 1), datetime(2200, 1, 1))
ZONES = st.sampled_from([None, UTC, timezone(timedelta(hours=-5, minutes=-30))])
JSONS = st.dictionaries(TEXTS, st.floats(allow_nan=False, allow_infinity=False) | TEXTS, max_size=3)


def values_of(column: Any) -> st.SearchStrategy[Any]:
    """Return a strategy for the values of a ledger column."""
    match column.type:
        case Json():
            values: st.SearchStrategy[Any] = JSONS
        case Boolean():
            values = st.booleans()
        case Integer():
            values = st.integers(-(2**31), 2**31 - 1)
        case Float():
            values = st.floats().map(lambda number: number + 0.0)  # a literal -0.0 is 0.0
        case type_ if isinstance(getattr(type_, "impl", type_), DateTime):
            values = st.builds(lambda time, zone: time.replace(tzinfo=zone), TIMES, ZONES)
        case _:
            values = TEXTS
    return st.none() | values if column.nullable else values


def all_rows(session: Session, table: type[Base]) -> list[str]:
    every = session.execute(select(*columns_of(table)), execution_options={EVERY_ROW: True})
    return [repr(tuple(row)) for row in every]  # repr: NaN equals NaN


@pytest.mark.integration
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    row=st.fixed_dictionaries(
        {column.name: values_of(column) for column in KronosForecast.__table__.columns}
    )
)
def test_postgres_stores_the_same_values_as_an_ordinary_insert(
    postgres_url: str, row: dict[str, Any]
) -> None:
    with get_db_session(postgres_url) as session:
        session.execute(insert(KronosForecast), [row])
        wanted = all_rows(session, KronosForecast)
        session.rollback()
        assert upsert(session, KronosForecast, [row]) == 1
        assert all_rows(session, KronosForecast) == wanted
        session.rollback()


def test_more_rows_than_fit_in_a_statement_are_all_written(database: str) -> None:
    rows = [
        {"symbol": "SPY", "interval": "1d", "timestamp": MONDAY + timedelta(days=number)}
        | dict.fromkeys(("open", "high", "low", "close", "volume"), 1.5)
        for number in range(10_003)
    ]
    with get_db_session(database) as session:
        assert upsert(session, HistoricData, rows) == len(rows)
        assert insert_new(session, HistoricData, rows) == 0
        assert session.scalar(select(func.count()).select_from(HistoricData)) == len(rows)
