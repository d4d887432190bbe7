"""Random portfolios are recomputed from their trades and from the market's events."""

import logging
import math
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sqlalchemy import select

from tests.support.market import ScriptedBot
from tradingbot.data.service import DataService
from tradingbot.errors import DataError, DataUnavailable, UnknownSymbol
from tradingbot.markets.calendars import next_sessions, opens_of, session_close
from tradingbot.persistence.engine import get_db_session
from tradingbot.persistence.models import BotRow, Trade
from tradingbot.settings import Settings, Timeouts
from tradingbot.settings.commission import Commission

START = datetime(2024, 1, 2)
SPAN = 160  # calendar days
# Sydney's session opens on the day before, in UTC
TICKERS = ("AAPL", "BHP.AX", "7203.T", "BTC-USD", "SAP.DE")
SESSIONS = {
    symbol: [day for day in next_sessions(symbol, START, 200) if day < START + timedelta(SPAN)]
    for symbol in TICKERS
}
SEEDS = {"open": range(7), "close": range(5)}  # 250 seeds each found nothing more
IMPATIENT = Timeouts(data_backoff=0.001)
RATIOS = (10.0, 2.0, 1.5, 1.1, 1.043, 1 / 4, 1 / 25)


@dataclass
class Share:
    """One ticker: prices as they were traded, and its splits and dividends by session date."""

    days: list[datetime]
    closes: list[float]
    opens: list[float]
    splits: dict[datetime, float] = field(default_factory=dict)
    dividends: dict[datetime, float] = field(default_factory=dict)  # USD a share on that day

    def later(self, day: datetime, today: datetime) -> float:
        """Return the number of shares on `today` for one share on `day`."""
        return math.prod(ratio for at, ratio in self.splits.items() if day < at <= today)


def a_share(random: np.random.Generator, symbol: str) -> Share:
    days = SESSIONS[symbol]
    if random.random() < 0.25:
        days = days[: int(random.integers(20, len(days) - 30))]  # delisted
    values = 100 * np.exp(np.cumsum(random.normal(0, 0.02, len(days))))
    opens = values * np.exp(random.normal(0, 0.01, len(days)))
    share = Share(days, values.tolist(), opens.tolist())
    for day in random.choice(days[5:], int(random.integers(0, 3)), replace=False):
        share.splits[day] = float(random.choice(RATIOS))
    for day in random.choice(days[5:], int(random.integers(0, 15)), replace=False):
        share.dividends[day] = float(random.uniform(0.1, 3))
    for prices in (share.closes, share.opens):
        prices[:] = [
            price / math.prod(ratio for at, ratio in share.splits.items() if at <= day)
            for day, price in zip(days, prices, strict=True)
        ]
    return share


class World:
    """A network source, as of `today`, with prices, splits and dividends as Yahoo gives them."""

    remote = True
    knows_outcomes = False
    clock_file: str | None = None

    def __init__(self, shares: dict[str, Share]) -> None:
        self.shares, self.today = shares, START
        self.down: set[str] = set()  # tickers that it does not answer for

    def symbols(self) -> list[str]:
        return []

    def clock(self, horizon: int) -> datetime:
        return self.today + timedelta(days=1, hours=1)

    def fetch(self, symbol: str, interval: str, start: datetime, end: datetime) -> pd.DataFrame:
        if symbol in self.down:
            raise DataUnavailable("out of reach", symbol=symbol)
        share, first = self.shares[symbol], datetime(start.year, start.month, start.day)
        rows = {
            day: (first_price / later, close / later)
            for day, first_price, close in zip(share.days, share.opens, share.closes, strict=True)
            if first <= day <= self.today and (later := share.later(day, self.today))
        }
        if not rows:
            raise UnknownSymbol("possibly delisted", symbol=symbol)
        frame = pd.DataFrame.from_dict(rows, "index", columns=["open", "close"])
        frame["high"], frame["low"] = frame.max(axis=1), frame.min(axis=1)
        inside = [day for day in share.days if first <= day <= self.today]
        frame.attrs["splits"] = {d: r for d, r in share.splits.items() if d in inside}
        frame.attrs["dividends"] = {
            day: amount / share.later(day, self.today)
            for day, amount in share.dividends.items()
            if day in inside
        }
        return frame


def simulated_bot(seed: int, url: str, fill: str) -> tuple[World, dict[str, float], list[Trade]]:
    """Run a bot with random decisions on days far apart."""
    random, outages = np.random.default_rng(seed), np.random.default_rng([seed, 1])
    world = World({symbol: a_share(random, symbol) for symbol in TICKERS})
    name = f"bot {seed} {fill}"
    days = sorted(random.choice(np.arange(15, SPAN), 7, replace=False).tolist())
    for day in days:
        world.today = START + timedelta(days=day)
        share = outages.choice([0.0, 0.0, 0.3, 1.0]) if day != days[-1] else 0.0
        world.down = {symbol for symbol in TICKERS if outages.random() < share}
        answers = {symbol: int(random.integers(-1, 2)) for symbol in TICKERS}
        bot = ScriptedBot(
            name,
            tickers=TICKERS[: int(random.integers(2, 6))],
            period=str(random.choice(["10d", "6mo"])),
            fill=fill,
            answers=answers,
            data=DataService(world, min_bars=1, max_jump=100, timeouts=IMPATIENT),
            sessions=partial(get_db_session, url),
            settings=Settings(slippage_bps=10, commission=Commission(1.0, 0.005, 2.0)),
        )
        try:
            bot.run()
        except DataError:
            continue  # no ticker has traded recently
    with get_db_session(url) as session:
        rows = session.scalars(select(Trade).where(Trade.bot_name == name).order_by(Trade.id)).all()
        portfolio = dict(session.get_one(BotRow, name).portfolio)
        session.expunge_all()
    return world, portfolio, list(rows)


def from_all_trades(trades: list[Trade]) -> dict[str, float]:
    """Return the sum of all rows of `trades`, whatever their notes are."""
    owned = {"USD": 10_000.0}
    for trade in trades:
        amount = trade.quantity * trade.price
        owned["USD"] += (-amount if trade.side == "buy" else amount) - trade.costs
        change = {"buy": trade.quantity, "sell": -trade.quantity, "dividend": 0.0}[trade.side]
        owned[trade.symbol] = owned.get(trade.symbol, 0.0) + change
    return owned


def from_own_trades(trades: list[Trade], world: World, fill: str) -> dict[str, float]:
    """Return the position that results from the bot's trades and the market's events.

    A purchase on the day of a dividend, at the open or later, gets no dividend.
    """
    owned = {"USD": 10_000.0}
    for symbol, share in world.shares.items():
        mine = {
            trade.executed_at: trade
            for trade in trades
            if trade.symbol == symbol and trade.note is None
        }
        quantity = 0.0
        for day, first, close in zip(share.days, share.opens, share.closes, strict=True):
            if day > world.today:
                break
            quantity *= share.splits.get(day, 1.0)
            owned["USD"] += quantity * share.dividends.get(day, 0.0)
            moment = opened(symbol, day) if fill == "open" else session_close(symbol, day)
            if (trade := mine.pop(moment, None)) is None:
                continue
            # a trade at the open is recorded later, in shares of that time
            ratio = (first if fill == "open" else close) / trade.price
            assert any(math.isclose(ratio, share.later(day, at)) for at in share.days)
            sign = 1 if trade.side == "buy" else -1
            quantity += sign * trade.quantity / ratio
            owned["USD"] -= sign * trade.quantity * trade.price + trade.costs
        assert not mine, "a trade when nothing opens or closes"
        if any(trade.note == "delisted" and trade.symbol == symbol for trade in trades):
            owned["USD"] += quantity * share.closes[-1]
            quantity = 0.0
        owned[symbol] = quantity
    return owned


def opened(symbol: str, day: datetime) -> datetime:
    [moment] = opens_of(symbol, np.array([day], "datetime64[us]"))
    found: datetime = moment.item()
    return found


@pytest.mark.slow
@pytest.mark.parametrize("fill", ["open", "close"])
def test_portfolios_follow_from_their_trades_and_market_events(
    sqlite_url: str, caplog: pytest.LogCaptureFixture, fill: str
) -> None:
    caplog.set_level(logging.ERROR)
    noted: set[Any] = set()
    for seed in SEEDS[fill]:
        world, portfolio, trades = simulated_bot(seed, sqlite_url, fill)
        noted |= {trade.note for trade in trades}
        for replayed in (from_all_trades(trades), from_own_trades(trades, world, fill)):
            for symbol in {*replayed, *portfolio}:
                price = 1.0 if symbol == "USD" else world.shares[symbol].closes[-1]
                apart = abs(replayed.get(symbol, 0.0) - portfolio.get(symbol, 0.0)) * price
                assert apart < 0.005, (seed, symbol, replayed, portfolio)
    assert noted == {None, "split", "dividend", "delisted"}


@pytest.mark.parametrize("cached", [False, True])
def test_a_source_that_is_out_of_reach_delists_nothing(sqlite_url: str, cached: bool) -> None:
    sessions = partial(get_db_session, sqlite_url)
    days = SESSIONS["AAPL"]
    world = World({"AAPL": Share(days, [100.0] * len(days), [100.0] * len(days))})

    def a_round(today: datetime) -> dict[str, float]:
        world.today = today
        data = DataService(
            world, min_bars=1, timeouts=IMPATIENT, sessions=sessions if cached else None
        )
        bot = ScriptedBot("b", tickers=["AAPL"], fill="close", answers={"AAPL": 1}, data=data,
                   sessions=sessions, settings=Settings())  # fmt: skip
        with suppress(DataError):
            bot.run()
        with sessions() as session:
            return dict(session.get_one(BotRow, "b").portfolio)

    bought = a_round(days[40])
    assert bought["AAPL"] > 90
    world.down = {"AAPL"}
    assert a_round(days[70]) == bought
