"""Backtests compared with hand calculations, and tested against look-ahead."""

import math
import time
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.support.market import Market, ScriptedBot, flat_forecast
from tradingbot.bots.account import Fill
from tradingbot.bots.bot import Bot
from tradingbot.bots.kronos_trader import KronosTraderBot
from tradingbot.bots.performance import hit_rate, performance_stats, realised
from tradingbot.client import KronosClient
from tradingbot.data.service import DataService
from tradingbot.errors import ConfigError, DataError, StrategyError, TradeRefused
from tradingbot.persistence.engine import get_db_session
from tradingbot.persistence.forecasts import store_forecasts
from tradingbot.settings import Settings

FREE = Settings(slippage_bps=0)


def history(opens: list[float], closes: list[float], first: str = "2024-01-01") -> pd.DataFrame:
    """Return one bar per day."""
    frame = pd.DataFrame({"open": opens, "close": closes}, dtype="float64")
    frame["high"], frame["low"] = frame.max(axis=1), frame.min(axis=1)
    frame.index = pd.date_range(first, periods=len(frame))
    return frame


class OnDays(Bot):
    """Buy and sell on given days of January."""

    def decisionFunction(self, row: Any) -> int:
        if row.name.day in self.params.get("buys", ()):
            return 1
        return -1 if row.name.day in self.params.get("sells", ()) else 0


def test_a_decision_is_traded_at_the_next_bars_open_with_its_costs() -> None:
    bars = history(opens=[10, 20, 30, 40, 50], closes=[11, 22, 33, 44, 55])
    bot = OnDays("b", "X", buys=[1], sells=[3], settings=Settings(slippage_bps=100))
    result = bot.backtest(bars, cash=2_020.0)
    # bought on the 2nd at 20: 100 units and 1 % of 2,000; sold on the 4th at 40 for 4,000 less 1 %
    assert result.trades.to_dict("records") == [
        {"time": pd.Timestamp("2024-01-02"), "symbol": "X", "side": "buy",
         "quantity": pytest.approx(100.0), "price": 20.0, "costs": pytest.approx(20.0),
         "pnl": pytest.approx(math.nan, nan_ok=True)},
        {"time": pd.Timestamp("2024-01-04"), "symbol": "X", "side": "sell",
         "quantity": pytest.approx(100.0), "price": 40.0, "costs": pytest.approx(40.0),
         "pnl": pytest.approx(3_960 - 2_020)},
    ]  # fmt: skip
    assert list(result.equity) == pytest.approx([2_020.0, 2_200.0, 3_300.0, 3_960.0, 3_960.0])
    assert result.hit_rate == 1.0
    assert result.measures.total_return == pytest.approx(3_960 / 2_020 - 1)
    # the position is 100 units on the 5th, at 55
    assert result.buy_and_hold.total_return == pytest.approx(5_500 / 2_020 - 1)


def test_the_measures_equal_their_formulas() -> None:
    equity = pd.Series(
        [100.0, 110.0, 99.0, 108.9],
        index=pd.to_datetime(["2023-01-01", "2023-07-02", "2024-01-01", "2025-01-01"]),
    )
    found = performance_stats(equity)
    years = 731 / 365.25  # from the first day to the last
    assert found.total_return == pytest.approx(0.089)
    assert found.yearly_return == pytest.approx(1.089 ** (1 / years) - 1)
    # returns +10 %, -10 %, +10 %: mean 1/30, sum of squares 0.0266667 over 2
    deviation = math.sqrt(((0.1 - 1 / 30) ** 2 * 2 + (-0.1 - 1 / 30) ** 2) / 2)
    assert found.sharpe == pytest.approx(1 / 30 / deviation * math.sqrt(3 / years))
    assert found.max_drawdown == pytest.approx(0.1)


def test_undefined_measures_are_nan() -> None:
    bars = history([10, 10, 10], [10, 10, 10])
    result = OnDays("b", "X", settings=FREE).backtest(bars)
    assert result.measures.total_return == 0
    assert result.measures.max_drawdown == 0
    assert math.isnan(result.measures.sharpe)
    assert math.isnan(result.hit_rate)
    assert "nan% of the sales at a profit" in str(result)


def test_profits_of_sales_use_the_average_cost() -> None:
    fills = [
        Fill("X", "buy", 10, 10.0, 1.0),  # cost 101
        Fill("X", "buy", 10, 20.0, 1.0),  # 302 in total for 20: 15.10 each
        Fill("X", "sell", 5, 15.2, 1.0),  # brings 75; the cost was 75.50
        Fill("X", "sell", 15, 15.2, 1.0),  # brings 227; the cost was 226.50
        Fill("Y", "buy", 1, 5.0, 0.0),
        Fill("Y", "sell", 1, 5.0, 0.0),  # no profit
    ]
    assert hit_rate(realised(fills)) == pytest.approx(1 / 3)


def test_several_tickers_share_the_cash_and_keep_their_own_calendars() -> None:
    daily = history([10] * 6, [10, 10, 10, 20, 20, 20])
    every_other = history([5] * 3, [5, 5, 10])
    every_other.index = pd.to_datetime(["2024-01-02", "2024-01-04", "2024-01-06"])
    bot = OnDays("b", tickers=["D", "E"], buys=range(1, 31), settings=FREE)
    result = bot.backtest({"D": daily, "E": every_other}, cash=100.0)
    # D is bought on the 2nd with all cash; on the 4th half of its 100 units are sold at 10 for E
    trades = result.trades.itertuples()
    assert [(str(t.time.date()), t.symbol, t.side, t.quantity) for t in trades] == [
        ("2024-01-02", "D", "buy", 10.0),
        ("2024-01-04", "D", "sell", 5.0),
        ("2024-01-04", "E", "buy", 10.0),
    ]  # fmt: skip
    assert list(result.equity) == [100.0, 100.0, 100.0, 150.0, 150.0, 200.0]
    # each half is bought when its ticker has a second bar
    assert result.buy_and_hold.total_return == pytest.approx((5 * 20 + 10 * 10) / 100 - 1)


def test_a_decision_sees_nothing_after_its_bar() -> None:
    lengths = []

    class Looks(Bot):
        def decisionFunction(self, row: Any) -> int:
            assert self.history.index[-1] == row.name
            lengths.append(len(self.history))
            return 1 if row["close"] > row["open"] else -1

    bars = DataService("sample").history("AAPL", bars=200)
    whole = Looks("b", "AAPL", settings=FREE).backtest(bars)
    assert lengths == list(range(1, 201))
    # a different future leaves the past unchanged
    changed = bars.copy()
    changed.iloc[150:] = changed.iloc[150:].mul(np.linspace(1.02, 3, 50), axis=0)
    other = Looks("b", "AAPL", settings=FREE).backtest(changed)
    pd.testing.assert_series_equal(whole.equity[:150], other.equity[:150])
    until = bars.index[150]
    pd.testing.assert_frame_equal(
        whole.trades[whole.trades["time"] < until], other.trades[other.trades["time"] < until]
    )


def test_access_to_the_present_is_refused_in_a_backtest(tmp_path: Path) -> None:
    from tradingbot.utils.core import kronos_forecast, run_ai_with_tools

    data = DataService("sample")

    class Peeks(Bot):
        def decisionFunction(self, row: Any) -> int:
            self.params["peek"]()
            return 0

    bars = data.history("AAPL", bars=40)
    client = KronosClient("http://127.0.0.1:9", data=data)
    for peek in (
        lambda: client.predict("AAPL"),
        lambda: client.forecast("AAPL"),
        lambda: kronos_forecast.invoke({"symbol": "AAPL"}),
        lambda: run_ai_with_tools("", "", model="any"),
    ):
        with pytest.raises(StrategyError, match="knows the present, and a backtest must not"):
            Peeks("b", "AAPL", peek=peek).backtest(bars)
    client.close()


@pytest.mark.parametrize("look", ["fetch", "data"])
def test_candles_of_today_are_refused_in_a_backtest(
    tmp_path: Path, sqlite_url: str, look: str
) -> None:
    class Looks(Bot):
        def decisionFunction(self, row: Any) -> int:
            candles = self.fetch("AAPL") if look == "fetch" else self.data.history("AAPL")
            return 1 if candles["close"].iloc[-1] > row["close"] else -1

    market = Market(tmp_path / "candles")
    market.write("AAPL", [100.0, 101.0, 102.0])
    bot = market.bot(Looks, sqlite_url, symbol="AAPL")
    with pytest.raises(StrategyError, match=r"Bot.data knows the present.*Bot.history has the b"):
        bot.backtest()
    bot.run()  # allowed here: a round is in the present


def test_overflowing_growth_does_not_end_a_backtest() -> None:
    tenfold = OnDays("b", "X", buys=[1], settings=FREE).backtest(history([1, 1, 1], [1, 1, 1e9]))
    assert tenfold.measures.yearly_return == math.inf
    minutes = history([10] * 4, [10, 11, 12, 13])
    minutes.index = pd.date_range("2024-01-01 15:00", periods=4, freq="1min")
    within_a_day = OnDays("b", "X", buys=[1], interval="1m", settings=FREE).backtest(minutes)
    assert within_a_day.measures.total_return == pytest.approx(0.3)
    assert math.isnan(within_a_day.measures.yearly_return)


@pytest.mark.parametrize("cash", [0, -5.0, math.nan, "100", None])
def test_a_backtest_needs_cash(cash: Any) -> None:
    bars = history([10, 10, 10], [10, 10, 10])
    with pytest.raises(TradeRefused, match="expected"):
        ScriptedBot("b", "X", answers={}).backtest(bars, cash=cash)


def test_an_exception_or_a_wrong_answer_ends_the_backtest_and_names_the_bar() -> None:
    bars = history([10, 10, 10], [10, 10, 10])
    with pytest.raises(StrategyError, match=r"deciding on X of 2024-01-01.*answered 7"):
        ScriptedBot("b", "X", answers={"X": 7}).backtest(bars)


def test_frames_of_yfinance_are_replayed_like_your_own() -> None:
    bars = history(opens=[10, 20, 30, 40, 50], closes=[11, 22, 33, 44, 55])
    titled = bars.rename(columns=str.title)
    bot = OnDays("b", "X", buys=[1], sells=[3], settings=FREE)
    expected = bot.backtest(bars)
    for frame in (titled.tz_localize("America/New_York"), titled.reset_index(names="Date")):
        assert bot.backtest(frame).equity.tolist() == expected.equity.tolist()
    both = pd.concat({"X": titled, "Y": titled * 2}, axis=1).swaplevel(axis=1)
    two = OnDays("b", tickers=["X", "Y"], buys=[1], sells=[3], settings=FREE)
    assert two.backtest(both).trades["symbol"].tolist() == ["X", "Y", "X", "Y"]


def test_impossible_histories_are_refused() -> None:
    bars = history([10, 10, 10], [10, 10, 10])
    two = ScriptedBot("b", tickers=["X", "Y"], answers={})
    with pytest.raises(ConfigError, match="give a history of each"):
        two.backtest(bars)
    with pytest.raises(DataError, match="Y: the backtest was given no history of this ticker"):
        two.backtest({"X": bars})
    single = ScriptedBot("b", "X", answers={})
    with pytest.raises(DataError, match="two bars at least"):
        single.backtest(bars.iloc[:1])
    with pytest.raises(DataError, match="exactly one column close"):
        single.backtest(bars.drop(columns="close"))
    with pytest.raises(DataError, match="expected a DataFrame"):
        single.backtest({"X": [1, 2]})  # type: ignore[dict-item]


def test_a_bar_with_a_price_of_0_is_dropped(
    caplog: pytest.LogCaptureFixture,
) -> None:
    bars = history([10, 10, 0, 10, 10], [10, 10, 0, 10, 10])
    result = OnDays("b", "X", buys=[1, 2, 3, 4], settings=FREE).backtest(bars, cash=100.0)
    assert list(result.equity) == [100.0] * 4
    assert "bars dropped for missing or impossible prices: 1 of 5" in caplog.text


def test_the_portfolio_in_the_database_is_not_touched(tmp_path: Path, sqlite_url: str) -> None:
    market = Market(tmp_path / "candles")
    market.write("AAPL", [100.0 + i % 7 for i in range(60)])
    bot = market.bot(OnDays, sqlite_url, symbol="AAPL", buys=[2, 9, 20], sells=[5, 12])
    result = bot.backtest()  # with its default period
    assert len(result.trades) > 2
    assert bot.portfolio == {"USD": 10_000.0}


def test_a_backtest_of_the_trader_uses_the_forecasts_known_then(
    tmp_path: Path, database: str
) -> None:
    market = Market(tmp_path / "candles", today=datetime(2024, 5, 15))
    market.write("AAPL", [100.0] * 8 + [110.0, 110.0])
    bars = market.data().history("AAPL")
    day = bars.index[-4].to_pydatetime()  # the only forecast, of a rise, was made on this day
    rising = flat_forecast("AAPL", day, last_close=100, close=109, low=101, high=118, prob_up=0.95)
    with get_db_session(database) as session:
        store_forecasts(session, [rising])
    bot = market.bot(KronosTraderBot, database, tickers=["AAPL"], fill="open")
    result = bot.backtest(bars)
    [trade] = result.trades.to_dict("records")
    assert (trade["time"], trade["side"], trade["price"]) == (bars.index[-3], "buy", 100.0)
    assert result.measures.total_return == pytest.approx(1.1 / 1.0005 - 1)


@pytest.mark.slow
def test_ten_years_of_daily_bars_take_less_than_a_second() -> None:
    class Crosses(Bot):
        def decisionFunction(self, row: Any) -> int:
            closes = self.history["close"]
            return 1 if row["close"] > closes.iloc[-20:].mean() else -1

    bars = DataService("sample").history("AAPL", bars=2520)
    bot = Crosses("b", "AAPL")
    took = []
    for _ in range(3):  # the best of three: other work on the machine only slows it down
        began = time.process_time()
        result = bot.backtest(bars)
        took.append(time.process_time() - began)
    assert len(result.equity) == 2520
    assert min(took) < 1.0


def test_a_backtest_reads_no_database(tmp_path: Path) -> None:
    bars = history([10, 10, 10], [10, 10, 10])
    nowhere = partial(get_db_session, "postgresql://me@127.0.0.1:9/kronos")
    ScriptedBot("b", "X", answers={"X": 1}, sessions=nowhere).backtest(bars)


def test_a_fill_at_the_close_is_reported_as_optimistic() -> None:
    bars = history(opens=[10, 20, 30, 40], closes=[11, 22, 33, 44])
    for result in (
        OnDays("b", "X", buys=[1], sells=[3], settings=FREE, fill="close").backtest(bars, cash=22),
        OnDays("b", "X", buys=[1], sells=[3], settings=FREE).backtest(bars, cash=22, fill="close"),
    ):
        assert [(t.time.day, t.price) for t in result.trades.itertuples()] == [(1, 11.0), (3, 33.0)]
        assert list(result.equity) == pytest.approx([22.0, 44.0, 66.0, 66.0])
        assert result.buy_and_hold.total_return == pytest.approx(44 / 11 - 1)
        assert "optimistic" in str(result)
    assert "optimistic" not in str(OnDays("b", "X", settings=FREE).backtest(bars))
    for wrong in ("high", None, 1):
        with pytest.raises(ConfigError, match=r"fill=.*expected open .*or close"):
            OnDays("b", "X", fill=wrong)


@pytest.mark.parametrize(("fill", "day", "price"), [("open", 4, 40.0), ("close", 3, 33.0)])
def test_a_bar_without_volume_trades_nothing_and_the_order_waits(
    fill: Any, day: int, price: float
) -> None:
    bars = history(opens=[10, 20, 30, 40, 50], closes=[11, 22, 33, 44, 55])
    # decided on the 1st, or on the 2nd if the fill is at the close of a bar with volume
    bars["volume"] = [5.0, 0.0, 0.0, 5.0, 5.0] if fill == "open" else [5.0, 0.0, 5.0, 5.0, 5.0]
    buys = [1] if fill == "open" else [2]
    result = OnDays("b", "X", buys=buys, settings=FREE, fill=fill).backtest(bars)
    [trade] = result.trades.itertuples()
    assert (trade.time.day, trade.price) == (day, price)
    if fill == "open":  # buy and hold cannot trade at that open either
        assert result.buy_and_hold.total_return == pytest.approx(55 / 40 - 1)
        # a new decision replaces the waiting one
        mind = OnDays("b", "X", buys=[1], sells=[2], settings=FREE).backtest(bars)
        assert mind.trades.empty


@pytest.mark.parametrize(
    ("symbol", "interval", "times", "bars_a_year"),
    [
        ("SPY", "1m", pd.date_range("2024-01-02 14:30", periods=390, freq="1min"), 252 * 390),
        ("SPY", "1h", pd.date_range("2024-01-02 14:30", periods=7, freq="1h"), 252 * 7),
        ("SPY", "1d", pd.DatetimeIndex(["2024-01-05", "2024-01-08", "2024-01-09"]), 252),
        ("BTC-USD", "1h", pd.date_range("2024-01-02", periods=24, freq="1h"), 365 * 24),
        ("EURUSD=X", "1d", pd.date_range("2024-01-05", periods=3, freq="B"), 261),
        # no trading during the lunch break
        ("7203.T", "1m", pd.date_range("2024-01-04", periods=150, freq="1min"), 252 * 300),
        (
            "SPY",
            "1d",
            pd.date_range("2020-01-01", periods=1001, freq="7D"),
            365.25 / 7,
        ),  # a long lunch break
    ],
)
def test_a_short_history_is_annualised_with_the_exchanges_calendar(
    symbol: str, interval: str, times: pd.DatetimeIndex, bars_a_year: float
) -> None:
    returns = np.resize([0.002, -0.001], len(times) - 1)
    equity = pd.Series([100.0, *100 * np.cumprod(1 + returns)], index=times)
    found = performance_stats(equity, [symbol], interval)
    expected = returns.mean() / returns.std(ddof=1) * math.sqrt(bars_a_year)
    assert found.sharpe == pytest.approx(expected)
    if times[-1] - times[0] >= pd.Timedelta(days=1):
        growth = equity.iloc[-1] / 100
        assert found.yearly_return == pytest.approx(growth ** (bars_a_year / len(returns)) - 1)
    else:
        assert math.isnan(found.yearly_return)
