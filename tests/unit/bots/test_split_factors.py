"""Positions between trades: splits, dividends and delistings."""

import math
from collections.abc import Mapping
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from sqlalchemy import select, text

from tests.support.market import Market, ScriptedBot
from tradingbot.bots.bot import Bot
from tradingbot.bots.manual_corrections import close_position, set_quantity
from tradingbot.bots.split_factors import Basis, Unclear, new_shares
from tradingbot.data.service import DataService
from tradingbot.errors import BotError, DataError, DataUnavailable, TradeRefused, UnknownSymbol
from tradingbot.markets.calendars import next_sessions
from tradingbot.persistence.candles import store_splits
from tradingbot.persistence.engine import get_db_session
from tradingbot.persistence.models import BotRow, Trade
from tradingbot.settings import Settings, Timeouts

START = datetime(2024, 1, 2)
DAYS = next_sessions("AAPL", START, 200)
# as traded, not adjusted for splits
CLOSES = [100 + 10 * math.sin(i / 7) + i / 20 for i in range(200)]
RATIOS = [10.0, 20.0, 1.1, 1.2, 1.25, 1.5, 1.043, 1 / 8, 1 / 25]


class CorporateActionSource:
    """A network source with splits and dividends up to `today`, as Yahoo gives them.

    Prices from before a split are adjusted for it.
    """

    remote = True
    knows_outcomes = False
    clock_file: str | None = None

    def __init__(
        self,
        today: int,
        splits: Mapping[int, float] = {},
        dividends: Mapping[int, float] = {},
        ends: Mapping[str, int] = {},
        tells: bool = True,
    ) -> None:
        self.today, self.ends, self.tells = today, ends, tells
        self.splits = {day: ratio for day, ratio in splits.items() if day <= today}
        self.dividends = {day: amount for day, amount in dividends.items() if day <= today}

    def symbols(self) -> list[str]:
        return []

    def clock(self, horizon: int) -> datetime:
        return DAYS[self.today] + timedelta(hours=23)

    def fetch(self, symbol: str, interval: str, start: datetime, end: datetime) -> pd.DataFrame:
        last = min(self.today, self.ends.get(symbol, self.today))
        prices = []
        for i in range(last + 1):
            later = math.prod(ratio for day, ratio in self.splits.items() if day > i)
            sooner = math.prod(ratio for day, ratio in self.splits.items() if day <= i)
            prices.append(CLOSES[i] / later / sooner)
        index = pd.DatetimeIndex(DAYS[: last + 1])
        frame = pd.DataFrame(dict.fromkeys(("open", "high", "low", "close"), prices), index)
        frame = frame[frame.index >= pd.Timestamp(start.date())]
        if frame.empty:
            raise UnknownSymbol("possibly delisted", symbol=symbol)
        if self.tells:
            since = start.date()
            for name, found in (("splits", self.splits), ("dividends", self.dividends)):
                dated = {DAYS[day]: value for day, value in found.items()}
                frame.attrs[name] = {d: v for d, v in dated.items() if d.date() >= since}
        return frame


def bot(url: str, source: Any, answer: int = 0, **options: Any) -> ScriptedBot:
    """Return a bot without costs whose orders fill at the close of the decision."""
    if "data" not in options:
        options["data"] = DataService(source, min_bars=1, max_jump=30)
    return ScriptedBot(
        "b",
        **{"tickers": ["AAPL"], "period": "10d", "fill": "close", **options},
        answers={"AAPL": answer, "IBM": answer},
        sessions=partial(get_db_session, url),
        settings=Settings(slippage_bps=0, max_jump=30),
    )


def portfolio(url: str) -> dict[str, float]:
    with get_db_session(url) as session:
        return dict(session.get_one(BotRow, "b").portfolio)


def trades(url: str) -> list[Trade]:
    with get_db_session(url) as session:
        rows = list(session.scalars(select(Trade).order_by(Trade.id)))
        session.expunge_all()
        return rows


# splits -----------------------------------------------------------------------------------


@pytest.mark.parametrize(  # later: sessions; 60 are many times the bot's period
    ("ratio", "later", "tells"),
    [
        *((ratio, 60, False) for ratio in RATIOS),
        *((ratio, 60, True) for ratio in (10.0, 1.043, 1 / 8)),
        *((ratio, 1, tells) for ratio in (10.0, 1.043, 1 / 8) for tells in (True, False)),
    ],
)
def test_a_split_of_any_ratio_keeps_the_value_of_the_position(
    sqlite_url: str, ratio: float, later: int, tells: bool
) -> None:
    bot(sqlite_url, CorporateActionSource(50), 1).run()
    bought = portfolio(sqlite_url)["AAPL"]
    for _ in range(2):  # applied once, however often rounds run
        done = bot(
            sqlite_url, CorporateActionSource(50 + later, {50 + later: ratio}, tells=tells)
        ).run()
    assert done.portfolio["AAPL"] == pytest.approx(bought * ratio)
    assert [trade.note for trade in trades(sqlite_url)] == [None, "split", "split"]
    sold = bot(
        sqlite_url, CorporateActionSource(50 + later, {50 + later: ratio}, tells=tells)
    ).sell("AAPL")
    assert sold is not None
    worth = bought * CLOSES[50 + later]
    assert portfolio(sqlite_url) == {"AAPL": 0, "USD": pytest.approx(worth)}


def test_all_splits_between_two_rounds_are_applied(sqlite_url: str) -> None:
    bot(sqlite_url, CorporateActionSource(20), 1).run()
    bought = portfolio(sqlite_url)["AAPL"]
    splits = {30: 10.0, 60: 1.1, 90: 1 / 4}
    bot(sqlite_url, CorporateActionSource(100, splits)).run()
    assert portfolio(sqlite_url)["AAPL"] == pytest.approx(bought * 10 * 1.1 / 4)


@pytest.mark.parametrize("tells", [True, False])
def test_manually_set_positions_are_split_too(sqlite_url: str, tells: bool) -> None:
    with get_db_session(sqlite_url) as session:
        session.add(BotRow(name="b", portfolio={"USD": 0.0, "AAPL": 99.0}))
    bot(sqlite_url, CorporateActionSource(50, tells=tells)).run()
    bot(sqlite_url, CorporateActionSource(90, {80: 10.0}, tells=tells)).run()
    assert portfolio(sqlite_url)["AAPL"] == pytest.approx(990)


def test_splits_apply_from_the_day_on_which_the_portfolio_was_written(
    sqlite_url: str,
) -> None:
    written = DAYS[50] + timedelta(hours=23)
    with get_db_session(sqlite_url) as session:
        row = BotRow(name="b", portfolio={"USD": 0.0, "AAPL": 99.0})
        row.created_at = row.updated_at = written
        session.add(row)
    bot(sqlite_url, CorporateActionSource(90, {40: 3.0, 80: 10.0})).run()
    assert portfolio(sqlite_url)["AAPL"] == pytest.approx(990)


def test_a_quantity_edited_around_a_split_is_not_traded_until_it_is_confirmed(
    sqlite_url: str,
) -> None:
    bot(sqlite_url, CorporateActionSource(50), 1).run()
    with get_db_session(sqlite_url) as session:
        row = session.get_one(BotRow, "b")
        row.portfolio["AAPL"] = 7.0
    after = CorporateActionSource(60, {55: 10.0})
    with pytest.raises(DataError, match=r"AAPL: its quantity was written by hand .*portfolio set"):
        bot(sqlite_url, after, -1).run()
    assert portfolio(sqlite_url)["AAPL"] == 7
    with get_db_session(sqlite_url) as session:
        assert set_quantity(session, "b", "aapl", 70.0) == 7
    bot(sqlite_url, after, -1).run()
    assert portfolio(sqlite_url)["USD"] == pytest.approx(70 * CLOSES[60] / 10)


def edited_in_sql(url: str, portfolio: str) -> None:
    """Edit a row as with psql; nothing else changes."""
    with get_db_session(url) as session:
        session.execute(text("UPDATE bots SET portfolio = :new"), {"new": portfolio})


@pytest.mark.parametrize("watched", [True, False])
def test_a_quantity_set_by_sql_has_no_known_date(sqlite_url: str, watched: bool) -> None:
    """An edit by SQL does not change `bots.updated_at`, which has the last round's time."""
    tickers = ["AAPL", "IBM"] if watched else ["AAPL"]
    bot(sqlite_url, CorporateActionSource(50), tickers=tickers).run()
    with get_db_session(sqlite_url) as session:
        session.execute(text("UPDATE bots SET updated_at = :then"), {"then": str(DAYS[50])})
    edited_in_sql(sqlite_url, '{"USD": 0, "AAPL": 0, "IBM": 7}')
    done = bot(sqlite_url, CorporateActionSource(60, {55: 10.0}, {58: 0.5}), tickers=tickers).run()
    assert portfolio(sqlite_url)["IBM"] == 7
    assert any("IBM: its quantity was written by hand" in remark for remark in done.remarks)
    with get_db_session(sqlite_url) as session:
        set_quantity(session, "b", "IBM", 70.0)
    done = bot(sqlite_url, CorporateActionSource(70, {55: 10.0}, {58: 0.5}), tickers=tickers).run()
    assert portfolio(sqlite_url) == {"USD": 0, "AAPL": 0, "IBM": 70}


def test_dividends_before_an_sql_edit_are_reported_but_not_credited(sqlite_url: str) -> None:
    bot(sqlite_url, CorporateActionSource(50), 1).run()
    edited_in_sql(sqlite_url, '{"USD": 5, "AAPL": 7}')
    done = bot(sqlite_url, CorporateActionSource(60, {}, {55: 0.5})).run()
    assert portfolio(sqlite_url) == {"USD": 5, "AAPL": 7}
    assert done.remarks == [
        f"AAPL: its quantity was written by hand after {DAYS[50]:%Y-%m-%d}; dividends since then "
        "(1) are not credited"
    ]
    bot(sqlite_url, CorporateActionSource(70, {}, {55: 0.5, 65: 1.0})).run()
    assert portfolio(sqlite_url)["USD"] == pytest.approx(12)


@pytest.mark.parametrize(("symbol", "reported"), [("AAPL", True), ("BTC-USD", False)])
def test_a_round_warns_if_dividends_are_unknown(
    sqlite_url: str, tmp_path: Path, symbol: str, reported: bool
) -> None:
    market = Market(tmp_path / "candles")
    market.write(symbol, [98.0, 99.0, 101.0, 100.0])
    market.bot(ScriptedBot, sqlite_url, symbol=symbol, answers={symbol: 1}).run()
    remark = f"{symbol}: the source reports no dividends, so none are credited"
    assert (
        remark in market.bot(ScriptedBot, sqlite_url, symbol=symbol, answers={}).run().remarks
    ) is reported


def test_a_manual_edit_without_a_split_is_accepted(sqlite_url: str) -> None:
    bot(sqlite_url, CorporateActionSource(50), 1).run()
    with get_db_session(sqlite_url) as session:
        row = session.get_one(BotRow, "b")
        row.portfolio["AAPL"] = 7.0
    bot(sqlite_url, CorporateActionSource(60)).run()
    assert portfolio(sqlite_url)["AAPL"] == 7


def test_contradictory_candles_stop_only_the_trades_of_their_ticker(
    sqlite_url: str, tmp_path: Path
) -> None:
    market = Market(tmp_path / "before")
    for symbol in ("AAPL", "IBM"):
        market.write(symbol, [98.0, 99.0, 101.0, 100.0])
    options: dict[str, Any] = {"tickers": ["AAPL", "IBM"], "fill": "close"}
    market.bot(ScriptedBot, sqlite_url, answers={"AAPL": 1, "IBM": 1}, **options).run()
    market.write("AAPL", [30.0, 20.0, 25.0, 40.0])  # no single factor explains this
    done = market.bot(ScriptedBot, sqlite_url, answers={"AAPL": -1, "IBM": -1}, **options).run()
    assert "do not show whether there was a split since 2024-05-15" in done.failed["AAPL"]
    assert done.remarks == [
        "AAPL: its candles do not show whether there was a split since 2024-05-15; "
        "it is not traded",
        "IBM: the source reports no dividends, so none are credited",
    ]
    owned = market.bot(ScriptedBot, sqlite_url, answers={}, **options)
    with pytest.raises(DataError, match=r"kronosbot portfolio set b AAPL QUANTITY"):
        owned.sell("AAPL")


def test_a_listed_split_applies_if_old_and_new_candles_share_no_bar() -> None:
    basis = Basis(DAYS[0], "1d", {DAYS[0]: 100.0})
    now = pd.Series([10.0, 10.1], index=pd.DatetimeIndex(DAYS[50:52]))
    assert new_shares(basis, now, {DAYS[20]: 10.0}).shares == 10
    assert new_shares(basis, now, {}).shares == 1
    with pytest.raises(Unclear):
        new_shares(basis, now, None)
    with pytest.raises(Unclear, match="takes effect on"):
        new_shares(basis, now, {DAYS[60]: 10.0})


def series(prices: list[float]) -> "pd.Series[float]":
    return pd.Series(prices, index=pd.DatetimeIndex(DAYS[: len(prices)]))


@pytest.mark.parametrize(
    ("now", "shares"),
    [
        ([10.03, 20.17, 29.99], 1.0),
        ([10.03, 20.17, 29.99, 4.0], 1.0),  # the market fell, but no bar changed
        ([10.03, 20.17, 30.5], 1.0),  # a correction of the newest bar
        ([10.2, 20.17, 29.99], 1.0),  # a correction of an older bar
        ([1.003, 2.017, 2.999], 10.0),
        ([9.12, 18.34, 27.26], 1.1),  # rounded to cents
        ([10.03 / 1.043, 20.17 / 1.043, 29.99 / 1.043], 1.043),
    ],
)
def test_a_common_factor_over_all_bars_is_a_split_and_over_one_bar_is_not(
    now: list[float], shares: float
) -> None:
    then = dict(zip(DAYS, [10.03, 20.17, 29.99], strict=False))
    basis = Basis(DAYS[2], "1d", then)
    assert new_shares(basis, series(now), None).shares == pytest.approx(shares, rel=1e-6)


def test_a_single_changed_common_bar_is_not_a_split_and_stops_trading() -> None:
    basis = Basis(DAYS[2], "1d", {DAYS[2]: 30.0})
    with pytest.raises(Unclear):
        new_shares(basis, series([1.0, 2.0, 3.0]), None)


def test_unadjusted_candles_are_converted_by_the_listed_split() -> None:
    then = dict(zip(DAYS, [100.0, 101.0, 100.0], strict=False))
    basis = Basis(DAYS[2], "1d", then)
    fell = series([100.0, 101.0, 100.0, 83.0])
    assert new_shares(basis, fell, {DAYS[3]: 1.2}).shares == 1.2
    # bought on the day before, when prices were already restated
    stayed = series([100.0, 101.0, 100.0, 99.0])
    assert new_shares(basis, stayed, {DAYS[3]: 1.2}).shares == 1


def test_a_split_already_in_the_candles_is_applied_once() -> None:
    """On the morning of a split Yahoo shows Friday's close in new shares."""
    then = dict(zip(DAYS, [100.0, 110.0, 120.0], strict=False))
    became = new_shares(Basis(DAYS[2], "1d", then), series([10.0, 11.0, 12.0]), {DAYS[3]: 10.0})
    assert (became.shares, became.as_of) == (10, DAYS[3])
    kept = Basis(became.as_of, "1d", dict(zip(DAYS, [10.0, 11.0, 12.0], strict=False)))
    assert new_shares(kept, series([10.0, 11.0, 12.0, 12.1]), {DAYS[3]: 10.0}).shares == 1


def test_stored_splits_are_applied_like_those_of_the_source(sqlite_url: str) -> None:
    with get_db_session(sqlite_url) as session:
        row = BotRow(name="b", portfolio={"USD": 0.0, "AAPL": 99.0})
        row.created_at = row.updated_at = DAYS[50]
        session.add(row)
        store_splits(session, "AAPL", {DAYS[80]: 10.0})
    bot(sqlite_url, CorporateActionSource(90, {80: 10.0}, tells=False)).run()
    assert portfolio(sqlite_url)["AAPL"] == pytest.approx(990)


# dividends --------------------------------------------------------------------------------


@pytest.mark.parametrize("later", [1, 3, 60])
def test_a_dividend_is_credited_once_for_shares_held_before_its_day(
    sqlite_url: str, later: int
) -> None:
    dividends = {45: 5.0, 50: 7.0, 50 + later: 0.5}
    bot(sqlite_url, CorporateActionSource(50, {}, dividends), 1).run()
    bought = portfolio(sqlite_url)["AAPL"]
    for _ in range(2):
        done = bot(sqlite_url, CorporateActionSource(50 + later, {}, dividends)).run()
    assert done.portfolio["USD"] == pytest.approx(0.5 * bought)
    [booked] = [trade for trade in trades(sqlite_url) if trade.side == "dividend"]
    assert (booked.quantity, booked.price, booked.costs) == (bought, 0.5, 0)
    assert booked.executed_at == DAYS[50 + later]


def test_a_dividend_on_the_day_of_a_fill_goes_to_the_seller(
    sqlite_url: str,
) -> None:
    dividends = {53: 0.5, 55: 0.25}
    options: dict[str, Any] = {"fill": "open"}
    bot(sqlite_url, CorporateActionSource(50), 1, **options).run()
    bot(
        sqlite_url, CorporateActionSource(52, {}, dividends), -1, **options
    ).run()  # bought at the open of bar 51
    held = portfolio(sqlite_url)["AAPL"]
    assert held > 0
    bot(
        sqlite_url, CorporateActionSource(57, {}, dividends), **options
    ).run()  # sold at the open of bar 53
    paid = [trade for trade in trades(sqlite_url) if trade.side == "dividend"]
    assert [(trade.quantity, trade.executed_at) for trade in paid] == [(held, DAYS[53])]
    assert portfolio(sqlite_url)["USD"] == pytest.approx(held * (CLOSES[53] + 0.5))


def test_a_dividend_waits_for_an_order_whose_ticker_lacks_its_newest_bar(sqlite_url: str) -> None:
    dividends = {52: 0.5, 55: 0.25}
    options: dict[str, Any] = {"fill": "open", "tickers": ["AAPL", "IBM"]}
    bot(sqlite_url, CorporateActionSource(50), 1, **options).run()  # buys at the open of bar 51
    bot(sqlite_url, CorporateActionSource(51), -1, **options).run()  # sells at the open of bar 52
    missing = CorporateActionSource(57, {}, dividends, ends={"AAPL": 55})
    done = bot(sqlite_url, missing, **options).run()
    assert "AAPL" in done.left_out
    held = portfolio(sqlite_url)["AAPL"]
    assert held > 0
    for _ in range(2):
        bot(sqlite_url, CorporateActionSource(58, {}, dividends), **options).run()
    paid = [trade for trade in trades(sqlite_url) if trade.side == "dividend"]
    of_aapl = [trade for trade in paid if trade.symbol == "AAPL"]
    assert [(trade.quantity, trade.executed_at) for trade in of_aapl] == [(held, DAYS[52])]
    assert portfolio(sqlite_url)["AAPL"] == 0


@pytest.mark.parametrize("later", [3, 100])  # sessions; more than the bot's period contains
def test_an_order_filled_late_earns_the_dividends_since_its_fill(
    sqlite_url: str, later: int
) -> None:
    dividends = {51: 9.0, 52: 0.5}  # the first one on the day of the fill
    bot(sqlite_url, CorporateActionSource(50), 1, fill="open").run()
    for _ in range(2):
        bot(sqlite_url, CorporateActionSource(50 + later, {}, dividends), fill="open").run()
    held = portfolio(sqlite_url)["AAPL"]
    assert held == pytest.approx(10_000 / CLOSES[51])
    [paid] = [trade for trade in trades(sqlite_url) if trade.side == "dividend"]
    assert (paid.quantity, paid.price, paid.executed_at) == (held, 0.5, DAYS[52])
    assert portfolio(sqlite_url)["USD"] == pytest.approx(0.5 * held)


def down(
    url: str, today: int, dividends: Mapping[int, float], splits: Mapping[int, float] = {}
) -> DataService:
    """Return a source that is down; the job has stored the candles up to `today`."""
    shared: dict[str, Any] = {
        "min_bars": 1,
        "max_jump": 30,
        "sessions": partial(get_db_session, url),
    }
    for symbol in ("AAPL", "IBM"):
        DataService(CorporateActionSource(today, splits, dividends), **shared).history(symbol)

    def fetch(symbol: str, *asked: Any) -> pd.DataFrame:
        raise DataUnavailable("no answer", symbol=symbol)

    source = CorporateActionSource(today)
    source.fetch = fetch  # type: ignore[method-assign]
    timeouts = Timeouts(data_backoff=0.001, data_longest_backoff=0.001, data_limit=0.002)
    return DataService(source, timeouts=timeouts, **shared)


@pytest.mark.parametrize("traded", ["kept", "sold", "sold at the next open", "bought"])
def test_dividends_missed_during_an_outage_are_credited_afterwards(
    sqlite_url: str, traded: str
) -> None:
    dividends = {53: 0.5, 58: 0.25}
    options: dict[str, Any] = {
        "fill": "open" if traded.endswith("open") else "close", "tickers": ["AAPL", "IBM"]
    }  # fmt: skip
    bot(sqlite_url, CorporateActionSource(50), 0 if traded == "bought" else 1, **options).run()
    bot(sqlite_url, CorporateActionSource(51), 0, **options).run()  # the order fills at this open
    held = portfolio(sqlite_url).get("AAPL", 0.0)
    answer = {"kept": 0, "bought": 1}.get(traded, -1)
    tried = bot(sqlite_url, None, answer, data=down(sqlite_url, 55, dividends), **options).run()
    if held:
        assert (
            f"AAPL: the source could not be asked for its dividends since {DAYS[51]:%Y-%m-%d}; a "
            "later round credits them" in tried.remarks
        )
    bot(sqlite_url, None, 0, data=down(sqlite_url, 57, dividends), **options).run()
    assert not [trade for trade in trades(sqlite_url) if trade.side == "dividend"]
    for _ in range(2):
        bot(sqlite_url, CorporateActionSource(60, {}, dividends), 0, **options).run()
    now = portfolio(sqlite_url)["AAPL"]
    assert bool(now) is (traded in ("kept", "bought"))
    paid = [
        (trade.quantity, trade.price, trade.executed_at)
        for trade in trades(sqlite_url)
        if trade.side == "dividend" and trade.symbol == "AAPL"
    ]
    expected = [(held, 0.5, DAYS[53]), (now, 0.25, DAYS[58])]
    assert paid == [(pytest.approx(wanted[0]), *wanted[1:]) for wanted in expected if wanted[0]]


@pytest.mark.parametrize("traded", ["kept", "sold", "sold at the next open"])
def test_a_split_found_during_an_outage_waits_for_the_dividends(
    sqlite_url: str, traded: str
) -> None:
    splits, dividends = {53: 10.0}, {52: 0.02, 54: 0.05}  # amounts per share of today
    fill = "open" if traded.endswith("open") else "close"
    bot(sqlite_url, CorporateActionSource(50), 1, fill=fill).run()
    bot(sqlite_url, CorporateActionSource(51), fill=fill).run()  # the order fills at this open
    held = portfolio(sqlite_url)["AAPL"]
    for today in (55, 57):
        data = down(sqlite_url, today, dividends, splits)
        with pytest.raises(DataError, match=r"a split since .* not traded until a round"):
            bot(sqlite_url, None, -1, data=data, fill=fill).run()
        assert portfolio(sqlite_url)["AAPL"] == held
    answer = 0 if traded == "kept" else -1
    for today in (60, 61):
        done = bot(
            sqlite_url, CorporateActionSource(today, splits, dividends), answer, fill=fill
        ).run()
    paid = [
        (trade.quantity, trade.price) for trade in trades(sqlite_url) if trade.side == "dividend"
    ]
    assert paid == [(pytest.approx(10 * held), 0.02), (pytest.approx(10 * held), 0.05)]
    assert done.portfolio["AAPL"] == (pytest.approx(10 * held) if traded == "kept" else 0)


def test_a_dividend_after_a_split_is_per_new_share(sqlite_url: str) -> None:
    bot(sqlite_url, CorporateActionSource(50), 1).run()
    bought = portfolio(sqlite_url)["AAPL"]
    bot(sqlite_url, CorporateActionSource(60, {55: 10.0}, {58: 0.05})).run()
    assert portfolio(sqlite_url)["USD"] == pytest.approx(10 * bought * 0.05)


# delisted, and no longer watched ----------------------------------------------------------


def test_an_unwatched_holding_is_settled_and_reported(sqlite_url: str) -> None:
    both = {"tickers": ["AAPL", "IBM"]}
    bot(sqlite_url, CorporateActionSource(50), 1, **both).run()
    held = portfolio(sqlite_url)["IBM"]
    done = bot(sqlite_url, CorporateActionSource(60, {55: 10.0})).run()
    assert portfolio(sqlite_url)["IBM"] == pytest.approx(10 * held)
    assert f"IBM: {10 * held:.6g} held, and no longer watched: no round trades it" in done.remarks
    assert done.prices["IBM"] == pytest.approx(CLOSES[60] / 10)


@pytest.mark.parametrize("watched", [["AAPL"], ["AAPL", "IBM"]])
def test_after_20_sessions_without_a_bar_a_holding_is_closed_at_the_last_price(
    sqlite_url: str, watched: list[str]
) -> None:
    bot(sqlite_url, CorporateActionSource(50), 1, tickers=["AAPL", "IBM"]).run()
    held = portfolio(sqlite_url)["IBM"]
    ends = {"IBM": 60}
    bot(sqlite_url, CorporateActionSource(79, ends=ends), tickers=watched).run()
    assert portfolio(sqlite_url)["IBM"] == held, "19 sessions may be a halt"
    done = bot(sqlite_url, CorporateActionSource(80, ends=ends), tickers=watched).run()
    assert (
        f"IBM: no bar for 20 sessions, the last of {DAYS[60]:%Y-%m-%d}; {held:.6g} are closed at "
        f"the last price, {CLOSES[60]:.2f}" in done.remarks
    )
    assert portfolio(sqlite_url)["USD"] == pytest.approx(held * CLOSES[60])
    assert trades(sqlite_url)[-1].note == "delisted"


def test_a_ticker_unknown_to_the_source_is_closed_at_its_last_seen_price(
    sqlite_url: str,
) -> None:
    bot(sqlite_url, CorporateActionSource(50), 1).run()
    held = portfolio(sqlite_url)["AAPL"]
    gone = CorporateActionSource(150, ends={"AAPL": 0})
    with pytest.raises(DataError):  # the round has no ticker to decide on
        bot(sqlite_url, gone).run()
    assert portfolio(sqlite_url) == {"AAPL": 0, "USD": pytest.approx(held * CLOSES[50])}


@pytest.mark.parametrize("act", ["sell", "rebalance"])
def test_manual_trades_continue_after_a_delisted_holding_is_closed(
    sqlite_url: str, act: str
) -> None:
    bot(sqlite_url, CorporateActionSource(50), 1, tickers=["AAPL", "IBM"]).run()
    mine = bot(sqlite_url, CorporateActionSource(90, ends={"IBM": 60}), tickers=["AAPL"])
    if act == "sell":
        assert mine.sell("IBM") is None
    else:
        mine.rebalance({"AAPL": 1.0})
    assert not portfolio(sqlite_url).get("IBM")
    assert trades(sqlite_url)[2].note == "delisted"


def test_a_manual_price_closes_a_position(sqlite_url: str) -> None:
    bot(sqlite_url, CorporateActionSource(50), 1).run()
    held = portfolio(sqlite_url)["AAPL"]
    with get_db_session(sqlite_url) as session:
        close_position(session, "b", "aapl", 54.2)
    assert portfolio(sqlite_url) == {"AAPL": 0, "USD": pytest.approx(54.2 * held)}
    assert trades(sqlite_url)[-1].note == "closed by hand"
    with get_db_session(sqlite_url) as session:
        with pytest.raises(TradeRefused, match="b holds no AAPL; it has USD"):
            close_position(session, "b", "AAPL", 1.0)
        with pytest.raises(BotError, match="there is no bot 'c'"):
            close_position(session, "c", "AAPL", 1.0)
    bot(sqlite_url, CorporateActionSource(51), 1).run()  # trades again on the next bar
    assert portfolio(sqlite_url)["AAPL"] == pytest.approx(54.2 * held / CLOSES[51])


def test_bots_cannot_influence_settlements(sqlite_url: str) -> None:
    class Fails(Bot):
        def decisionFunction(self, row: Any) -> int:
            assert self.portfolio["AAPL"] == pytest.approx(10 * bought)
            raise ValueError("no")

    bot(sqlite_url, CorporateActionSource(50), 1).run()
    bought = portfolio(sqlite_url)["AAPL"]
    data = DataService(CorporateActionSource(60, {55: 10.0}), min_bars=1)
    sessions = partial(get_db_session, sqlite_url)
    with pytest.raises(BotError, match="no; nothing was traded"):
        Fails("b", "AAPL", data=data, sessions=sessions, settings=Settings()).run()
    assert portfolio(sqlite_url)["AAPL"] == bought, "as the round is stored as a whole or not"
    bot(sqlite_url, CorporateActionSource(60, {55: 10.0})).run()
    assert portfolio(sqlite_url)["AAPL"] == pytest.approx(10 * bought)
