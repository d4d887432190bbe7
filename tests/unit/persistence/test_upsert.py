"""Rows that are inserted, or written over those of the same key; on SQLite and on Postgres."""

import itertools
import threading
from datetime import datetime
from typing import Any

from sqlalchemy import select

from tradingbot.persistence.engine import get_db_session
from tradingbot.persistence.models import HistoricRange
from tradingbot.persistence.upsert import insert_new, upsert

MONDAY, TUESDAY = datetime(2026, 1, 5), datetime(2026, 1, 6)


def span(symbol: str, since: datetime, fetched_at: datetime = MONDAY) -> dict[str, Any]:
    return {"symbol": symbol, "interval": "1d", "since": since, "fetched_at": fetched_at}


def stored(url: str) -> dict[str, datetime]:
    with get_db_session(url) as session:
        return {row.symbol: row.since for row in session.scalars(select(HistoricRange))}


def test_an_upsert_inserts_new_rows_and_overwrites_those_that_are_there(database: str) -> None:
    with get_db_session(database) as session:
        assert upsert(session, HistoricRange, [span("SPY", MONDAY)]) == 1
        assert upsert(session, HistoricRange, [span("SPY", TUESDAY), span("QQQ", MONDAY)]) == 2
    assert stored(database) == {"SPY": TUESDAY, "QQQ": MONDAY}


def test_a_condition_leaves_other_rows_as_they_are_and_does_not_count_them(database: str) -> None:
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


def test_insert_new_never_touches_a_row_that_is_there(database: str) -> None:
    with get_db_session(database) as session:
        assert insert_new(session, HistoricRange, [span("SPY", MONDAY)]) == 1
        assert insert_new(session, HistoricRange, [span("SPY", TUESDAY), span("QQQ", MONDAY)]) == 1
    assert stored(database) == {"SPY": MONDAY, "QQQ": MONDAY}


def test_no_rows_are_no_statement(database: str) -> None:
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
        pass  # the schema is there before both begin
    writers = [threading.Thread(target=write, args=(order,)) for order in (symbols, symbols[::-1])]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert not errors
    assert len(stored(database)) == len(symbols)
