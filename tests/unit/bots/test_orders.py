"""Orders that are filled at the next open, and which bar that is.

New York opens at 13:30 and closes at 20:00 UTC in May 2024; the 27th is a holiday.
"""

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import select, text

from tests.support.market import ScriptedBot
from tradingbot.bots.backtest import run_backtest
from tradingbot.bots.bot import Bot
from tradingbot.bots.console import lines
from tradingbot.bots.orders import Order, added, decided_at, openings, read_orders
from tradingbot.data.service import DataService
from tradingbot.data.sources.csv_files import CsvSource
from tradingbot.errors import ConfigError, DataUnavailable, StrategyError
from tradingbot.markets.calendars import next_sessions
from tradingbot.persistence.engine import get_db_session
from tradingbot.persistence.models import BotRow, RunLog, Trade
from tradingbot.settings import Settings

# day: open, close, volume; for a stock, and for crypto, which also trades at weekends
STOCK = {
    "2024-05-15": (98, 100, 9), "2024-05-16": (101, 102, 9), "2024-05-17": (103, 104, 9),
    "2024-05-20": (90, 95, 9), "2024-05-21": (96, 97, 9), "2024-05-22": (98, 99, 9),
}  # fmt: skip
COIN = {f"2024-05-{day}": (day * 10, day * 10 + 5, 9) for day in range(15, 23)}


class Exchange:
    """CSV files whose candles appear over time, and bots that run at a given time."""

    def __init__(self, folder: Path, database: str) -> None:
        self.folder, self.database = folder, database
        self.lost: set[str] = set()  # days missing from the files
        folder.mkdir()

    def round(self, now: str, kind: type[Bot] = ScriptedBot, **options: Any) -> Any:
        for symbol, bars in {"AAPL": STOCK, "BTC-USD": COIN, **options.pop("bars", {})}.items():
            rows = [
                f"{day},{first},{max(first, close)},{min(first, close)},{close},{volume}"
                for day, (first, close, volume) in bars.items()
                if day not in self.lost
            ]
            table = ["date,open,high,low,close,volume", *rows]
            (self.folder / f"{symbol}.csv").write_text("\n".join(table) + "\n")
        data = DataService(f"csv:{self.folder}", now=datetime.fromisoformat(now), min_bars=1)
        options = {"name": "b", "tickers": ["AAPL"], "settings": Settings(slippage_bps=0)} | options
        sessions = lambda: get_db_session(self.database)  # noqa: E731
        return kind(data=data, sessions=sessions, **options).run()

    def trades(self) -> list[tuple[str, str, float, str]]:
        with get_db_session(self.database) as session:
            rows = session.scalars(select(Trade).order_by(Trade.id))
            return [(t.side, t.symbol, t.price, f"{t.executed_at:%d %H:%M}") for t in rows]


@pytest.fixture
def exchange(tmp_path: Path, database: str) -> Exchange:
    return Exchange(tmp_path / "candles", database)


BUY, SELL = {"AAPL": 1}, {"AAPL": -1}


def test_a_decision_on_fridays_close_is_traded_at_mondays_open(exchange: Exchange) -> None:
    friday = exchange.round("2024-05-17 22:00", answers=BUY)
    assert (friday.fills, friday.portfolio["USD"]) == ([], 10_000)
    assert lines(friday)[-3:] == [
        "Trades     none", "Orders     buy AAPL at its next open", "Portfolio  USD 10,000.00",
    ]  # fmt: skip
    monday = exchange.round("2024-05-20 22:00", answers={})
    assert exchange.trades() == [("buy", "AAPL", 90.0, "20 13:30")]
    assert monday.portfolio == {"USD": 0.0, "AAPL": pytest.approx(10_000 / 90)}
    again = exchange.round("2024-05-20 23:00", answers=SELL)  # repeated runs trade once
    assert len(exchange.trades()) == 1
    assert [order.decision for order in again.orders] == [0, -1]
    exchange.round("2024-05-21 22:00", answers={})
    assert exchange.trades()[1:] == [("sell", "AAPL", 96.0, "21 13:30")]


def test_a_decision_on_saturday_sells_no_stock_at_fridays_price(exchange: Exchange) -> None:
    both = ["AAPL", "BTC-USD"]
    exchange.round("2024-05-15 22:00", tickers=["AAPL"], answers=BUY)
    exchange.round("2024-05-17 22:00", tickers=["AAPL"], answers=BUY)
    exchange.round("2024-05-19 00:10", tickers=both, answers=SELL)  # in the night after Saturday
    assert [trade[:3] for trade in exchange.trades()] == [("buy", "AAPL", 101.0)]
    exchange.round("2024-05-20 22:00", tickers=both, answers={})
    assert exchange.trades()[1:] == [("sell", "AAPL", 90.0, "20 13:30")]


@pytest.mark.parametrize(
    ("now", "opened"),
    [
        ("2024-05-17 20:00", "20 13:30"), ("2024-05-18 12:00", "20 13:30"),
        ("2024-05-20 13:30", "20 13:30"), ("2024-05-20 13:31", "21 13:30"),
        ("2024-05-20 19:59", "21 13:30"),  # decided on Friday's bar, too late for Monday's open
    ],
)  # fmt: skip
def test_a_decision_is_not_traded_at_an_earlier_open(
    exchange: Exchange, now: str, opened: str
) -> None:
    exchange.round(now, answers=BUY)
    exchange.round("2024-05-21 22:00", answers={})
    assert [trade[3] for trade in exchange.trades()] == [opened]


def test_a_prompt_round_in_a_continuous_market_trades_at_the_next_open(
    exchange: Exchange,
) -> None:
    coin = {"tickers": ["BTC-USD"]}
    exchange.round("2024-05-16 00:20", answers={"BTC-USD": 1}, **coin)  # on the bar of the 15th
    # late, on the bar of the 16th
    exchange.round("2024-05-17 09:00", answers={"BTC-USD": -1}, **coin)
    exchange.round("2024-05-18 09:00", answers={"BTC-USD": 0}, **coin)
    exchange.round("2024-05-20 00:00", answers={"BTC-USD": 0}, **coin)
    assert exchange.trades() == [
        ("buy", "BTC-USD", 160.0, "16 00:00"), ("sell", "BTC-USD", 180.0, "18 00:00"),
    ]  # fmt: skip


def test_a_new_decision_before_the_open_replaces_the_old_one(
    exchange: Exchange,
) -> None:
    exchange.round("2024-05-17 22:00", answers=BUY)
    exchange.round("2024-05-18 22:00", answers={})  # now the bot holds a position
    exchange.round("2024-05-20 22:00", answers={})
    assert exchange.trades() == []


def test_a_bar_without_volume_fills_no_order(exchange: Exchange) -> None:
    halted = {"AAPL": STOCK | {"2024-05-20": (90, 90, 0)}}
    exchange.round("2024-05-17 22:00", answers=BUY, bars=halted)
    exchange.round("2024-05-20 22:00", answers={}, bars=halted)
    exchange.round("2024-05-21 22:00", answers={}, bars=halted)
    assert exchange.trades() == [("buy", "AAPL", 96.0, "21 13:30")]
    at_once = exchange.round("2024-05-20 22:00", answers=BUY, bars=halted, fill="close", name="c")
    assert at_once.fills == []


def test_missed_rounds_do_not_change_the_fill_price(exchange: Exchange) -> None:
    exchange.round("2024-05-15 22:00", answers=BUY)
    exchange.round("2024-05-22 22:00", answers={})
    assert exchange.trades() == [("buy", "AAPL", 101.0, "16 13:30")]


@pytest.mark.parametrize("period", ["1d", "2d", "1y"])
def test_a_short_period_does_not_lose_an_order(exchange: Exchange, period: str) -> None:
    exchange.round("2024-05-15 22:00", answers=BUY, period=period)
    exchange.round("2024-05-22 22:00", answers={}, period=period)
    assert exchange.trades() == [("buy", "AAPL", 101.0, "16 13:30")]


def test_an_order_older_than_the_candles_lapses_and_is_reported(
    exchange: Exchange,
) -> None:
    exchange.round("2024-05-15 22:00", answers=BUY)
    for day in ("2024-05-15", "2024-05-16", "2024-05-17"):
        exchange.lost.add(day)
    done = exchange.round("2024-05-22 22:00", answers={})
    assert exchange.trades() == []
    assert done.remarks == [
        "AAPL: the decision on 2024-05-15 00:00 has lapsed: the candles do not reach back to it"
    ]


def test_a_round_that_fails_leaves_the_orders_for_the_next_one(exchange: Exchange) -> None:
    class Fails(Bot):
        def decisionFunction(self, row: Any) -> int:
            assert self.portfolio["AAPL"] > 0, "it sees what Monday's open has brought"
            raise ZeroDivisionError

    exchange.round("2024-05-17 22:00", answers=BUY)
    with pytest.raises(StrategyError, match="ZeroDivisionError"):
        exchange.round("2024-05-20 22:00", kind=Fails)
    assert exchange.trades() == []
    exchange.round("2024-05-20 23:00", answers={})
    assert exchange.trades() == [("buy", "AAPL", 90.0, "20 13:30")]


def test_an_order_made_on_different_candles_is_refused(exchange: Exchange) -> None:
    exchange.round("2024-05-20 22:00", answers=BUY)
    with pytest.raises(ConfigError, match=r"has decided on AAPL of 2024-05-20.*other candles"):
        exchange.round("2024-05-16 22:00", answers=BUY)


def test_overlapping_rounds_fill_an_order_once(
    exchange: Exchange,
) -> None:
    exchange.round("2024-05-17 22:00", answers=BUY)
    exchange.round("2024-05-20 22:00", answers=SELL)
    with get_db_session(exchange.database) as session:  # as if the first round had ended last
        first = session.scalars(select(RunLog).order_by(RunLog.id)).first()
        assert first is not None
        first.finished_at = datetime(2099, 1, 1)
    exchange.round("2024-05-21 22:00", answers={})
    assert [trade[:3] for trade in exchange.trades()] == [("buy", "AAPL", 90.0)]


def test_manually_edited_orders_are_dropped_with_a_warning(
    exchange: Exchange, caplog: pytest.LogCaptureFixture
) -> None:
    exchange.round("2024-05-17 22:00", answers=BUY)
    with get_db_session(exchange.database) as session:
        session.execute(text("""UPDATE run_logs SET details = '{"orders": [1, {"bar": 5}]}'"""))
    exchange.round("2024-05-20 22:00", answers={})
    assert exchange.trades() == []
    assert caplog.text.count("cannot be read, and is dropped") >= 2


def test_the_next_open_of_intraday_bars_is_that_of_the_next_bar() -> None:
    times = pd.date_range("2024-05-15 14:00", periods=4, freq="1h", name="timestamp")
    frame = pd.DataFrame({"open": [1.0, 2, 3, 4], "close": 1.0}, index=times)
    for minutes, position in ((0, 1), (2, 1), (3, 2), (60, 2), (61, 3)):
        closed = datetime(2024, 5, 15, 15)
        now = decided_at(closed, closed + timedelta(minutes=minutes), "1h")
        order = Order("AAPL", 1, datetime(2024, 5, 15, 14), now)
        [opening], waiting = openings([order], {"AAPL": frame}, "1h")
        assert (opening.prices, waiting) == ({"AAPL": position + 1.0}, [])


SESSIONS = [f"{day:%Y-%m-%d}" for day in next_sessions("AAPL", datetime(2024, 5, 14), 60)]


def halted(first: int, last: int, until: int, *, volume: int | None = None) -> dict[str, Any]:
    """Return bars up to position `until`; from `first` to `last` none, or with this volume."""
    shown = [(at, day) for at, day in enumerate(SESSIONS[: until + 1])]
    if volume is None:
        shown = [(at, day) for at, day in shown if not first <= at <= last]
    return {day: (100 + at, 100 + at, volume if first <= at <= last else 9) for at, day in shown}


@pytest.mark.parametrize(  # between: with a round while it is halted
    ("missed", "fills", "volume", "between"),
    [
        *((missed, missed < 20, None, True) for missed in (1, 19, 20, 30)),
        *((missed, missed < 20, volume, False) for missed in (19, 20) for volume in (None, 0)),
        (20, False, 0, True),
    ],
)
def test_an_order_of_a_halted_ticker_lapses_after_20_sessions_with_a_message(
    exchange: Exchange, missed: int, fills: bool, volume: int | None, between: bool
) -> None:
    both = {"tickers": ["AAPL", "BTC-USD"]}
    last, end = 2 + missed, 4 + missed

    def at(position: int, **answers: int) -> Any:
        days = pd.date_range("2024-05-15", SESSIONS[position])
        coin = {f"{day:%Y-%m-%d}": (9, 9, 9) for day in days}
        bars = {"AAPL": halted(3, last, position, volume=volume), "BTC-USD": coin}
        return exchange.round(f"{SESSIONS[position]} 22:00", bars=bars, answers=answers, **both)

    at(2, AAPL=1)
    remarks = [at(last).remarks] if between else []
    found = at(end)
    remarks.append(found.remarks)
    expected = [("buy", "AAPL", 100.0 + last + 1)] if fills else []
    assert [trade[:3] for trade in exchange.trades()] == expected
    lapsed = [note for notes in remarks for note in notes if "has lapsed" in note]
    waited = missed if between else end - 2
    said_once = f"AAPL: the decision on {SESSIONS[2]} 00:00 has lapsed: {waited}"
    assert [note.split(" sessions")[0] for note in lapsed] == ([] if fills else [said_once])


def test_an_order_of_an_unwatched_ticker_lapses_with_a_message(exchange: Exchange) -> None:
    exchange.round("2024-05-17 22:00", answers=BUY)
    done = exchange.round("2024-05-20 22:00", tickers=["BTC-USD"], answers={})
    assert done.remarks == [
        "AAPL: the decision on 2024-05-17 00:00 has lapsed: it is no longer watched"
    ]
    again = exchange.round("2024-05-21 22:00", answers={})
    assert (again.remarks, exchange.trades()) == ([], [])


@pytest.mark.slow
def test_an_order_waits_while_no_source_answers(
    exchange: Exchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = {"tickers": ["AAPL", "BTC-USD"]}
    coin = {f"{day:%Y-%m-%d}": (9, 9, 9) for day in pd.date_range("2024-05-15", SESSIONS[40])}
    bars = {"AAPL": halted(0, -1, 40), "BTC-USD": coin}
    exchange.round(f"{SESSIONS[2]} 22:00", bars=bars, answers=BUY, **both)
    fetch = CsvSource.fetch

    def away(source: CsvSource, symbol: str, *args: Any) -> Any:
        if symbol == "AAPL":
            raise DataUnavailable("no answer", symbol=symbol)
        return fetch(source, symbol, *args)

    with monkeypatch.context() as patched:
        patched.setattr(CsvSource, "fetch", away)
        waiting = exchange.round(f"{SESSIONS[39]} 22:00", bars=bars, answers={}, **both)
    assert [order.symbol for order in waiting.orders if order.decision] == ["AAPL"]
    exchange.round(f"{SESSIONS[40]} 22:00", bars=bars, answers={}, **both)
    assert [trade[:3] for trade in exchange.trades()] == [("buy", "AAPL", 103.0)]


@pytest.mark.parametrize(("missed", "fills"), [(19, True), (20, False)])
def test_an_order_in_a_backtest_lapses_by_the_same_rule(missed: int, fills: bool) -> None:
    def frame(bars: dict[str, Any]) -> pd.DataFrame:
        opens = [float(bar[0]) for bar in bars.values()]
        columns = dict.fromkeys(("open", "high", "low", "close"), opens)
        return pd.DataFrame(columns, index=pd.DatetimeIndex(list(bars)))

    class Once(Bot):
        def decisionFunction(self, row: Any) -> int:
            return int(self.symbol == "AAPL" and str(row.name.date()) == SESSIONS[2])

    history = {"AAPL": frame(halted(3, 2 + missed, 40)), "IBM": frame(halted(0, -1, 40))}
    result = Once("b", tickers=list(history), settings=Settings()).backtest(history)
    assert (len(result.trades) == 1) is fills


def test_an_order_survives_storage_unchanged() -> None:
    order = Order("AAPL", -1, datetime(2024, 5, 17), datetime(2024, 5, 17, 20, 0, 1, 5))
    assert read_orders([order.to_json()]) == [order]
    assert added([order], [order]) == [order]


DAYS = pd.DatetimeIndex(list(STOCK))


@pytest.mark.slow
@settings(deadline=None, max_examples=50)  # a busy machine is slow
@given(
    st.lists(st.sampled_from([-1, 0, 1]), min_size=5, max_size=5),
    st.lists(st.booleans(), min_size=6, max_size=6),
)
def test_daily_rounds_make_the_same_trades_as_the_backtest(
    answers: list[int], traded: list[bool]
) -> None:
    frame = pd.DataFrame(
        {
            "open": [float(v[0]) for v in STOCK.values()],
            "close": [float(v[1]) for v in STOCK.values()],
        },
        index=DAYS,
    )
    frame["high"], frame["low"] = frame.max(axis=1), frame.min(axis=1)
    frame["volume"] = [1.0, *map(float, traded[1:])]
    by_day = dict(zip(DAYS, [*answers, 0], strict=True))

    class Script(Bot):
        def decisionFunction(self, row: Any) -> int:
            return by_day[row.name]

    replayed = run_backtest(Script("b", "AAPL", settings=Settings()), frame, 1e4).trades
    expected = [(t.time, t.price) for t in replayed.itertuples()]
    waiting: list[Order] = []
    held, found = False, []
    for count in range(1, 7):
        seen = frame.iloc[:count]
        day = seen.index[-1].to_pydatetime()
        opened, waiting = openings(waiting, {"AAPL": seen}, "1d")
        for opening in opened:
            want = opening.decisions["AAPL"]
            if (want == 1 and not held) or (want == -1 and held):
                held = not held
                found.append(
                    (opening.moments["AAPL"].replace(hour=0, minute=0), opening.prices["AAPL"])
                )
        closed = day + timedelta(hours=20)
        waiting = added(waiting, [Order("AAPL", by_day[pd.Timestamp(day)], day, closed)])
    assert found == expected


def test_a_bots_row_has_no_new_columns(exchange: Exchange) -> None:
    exchange.round("2024-05-17 22:00", answers=BUY)
    with get_db_session(exchange.database) as session:
        assert session.get_one(BotRow, "b").portfolio == {"USD": 10_000.0, "AAPL": 0.0}
