"""Splits, dividends and delistings in a backtest."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import pandas as pd
import pytest

from tests.support.market import ScriptedBot
from tests.unit.bots.test_split_factors import CLOSES, DAYS, CorporateActionSource, bot
from tradingbot.bots.backtest import Backtest
from tradingbot.bots.bot import Bot
from tradingbot.settings import Settings

FREE = Settings(slippage_bps=0, max_jump=30)


def frame(closes: Sequence[float], **columns: Sequence[float]) -> pd.DataFrame:
    index = pd.DatetimeIndex(DAYS[: len(closes)])
    prices = {name: list(closes) for name in ("Open", "High", "Low", "Close")}
    return pd.DataFrame({**prices, **columns}, index=index)


def held(history: Any, tickers: Sequence[str] = ("AAPL",)) -> Backtest:
    answers = dict.fromkeys(tickers, 1)
    result: Backtest = ScriptedBot("b", tickers=tickers, answers=answers, settings=FREE).backtest(
        history
    )
    return result


@pytest.mark.parametrize("ratio", [20.0, 1.2, 1 / 10])
def test_a_listed_split_missing_from_the_candles_is_applied_and_reported(ratio: float) -> None:
    closes = [*CLOSES[:30], *(close / ratio for close in CLOSES[30:60])]
    splits = [0.0] * 60
    splits[30] = ratio
    result = held(frame(closes, **{"Stock Splits": splits}))
    assert result.measures.total_return == pytest.approx(CLOSES[59] / CLOSES[1] - 1)
    assert result.buy_and_hold.total_return == pytest.approx(CLOSES[59] / CLOSES[1] - 1)
    assert any("leave out the split" in note for note in result.notes)


@pytest.mark.parametrize("ratio", [20.0, 1.2, 1.043])
def test_candles_adjusted_for_a_listed_split_are_unchanged(ratio: float) -> None:
    splits = [0.0] * 60
    splits[30] = ratio
    result = held(frame(CLOSES[:60], **{"Stock Splits": splits}))
    assert result.measures.total_return == pytest.approx(CLOSES[59] / CLOSES[1] - 1)


def test_dividends_are_credited_if_prices_are_unadjusted() -> None:
    paid = [0.0] * 10
    paid[1], paid[4], paid[7] = 9.0, 0.5, 0.25  # the first dividend is before the first purchase
    columns = {"Adj Close": [1.0] * 10, "Dividends": paid}
    result = held(frame([100.0] * 10, **columns))
    assert result.equity.iloc[-1] == pytest.approx(10_000 * 1.005 * 1.0025)  # fully invested
    assert list(result.dividends["amount"]) == [0.5, 0.25]
    adjusted = held(frame([100.0] * 10, Dividends=paid))  # the default of yfinance
    assert adjusted.equity.iloc[-1] == 10_000
    assert adjusted.notes == ["AAPL: its dividends are unknown, and not credited"]


def test_the_profit_of_a_sale_includes_its_dividends() -> None:
    paid = [0.0] * 12
    paid[4] = 5.0  # 100 shares; half of them are sold on the 6th bar, the rest on the 9th

    class Halves(Bot):
        def decisionFunction(self, row: Any) -> int:
            at = len(self.history) - 1
            if self.symbol == "IBM":
                return 1 if at == 5 else 0  # the position is halved to buy another
            return {0: 1, 8: -1}.get(at, 0)

    flat = frame([100.0] * 12, **{"Adj Close": [1.0] * 12, "Dividends": paid})
    bot = Halves("b", tickers=["AAPL", "IBM"], settings=FREE)
    result = bot.backtest({"AAPL": flat, "IBM": frame([100.0] * 12)})
    assert result.trades["side"].tolist() == ["buy", "sell", "buy", "sell"]
    sold = result.trades[result.trades["side"] == "sell"]
    assert sold["pnl"].to_numpy() == pytest.approx(5 * sold["quantity"].to_numpy())
    assert sold["pnl"].sum() == pytest.approx(result.equity.iloc[-1] - 10_000)
    assert result.hit_rate == 1


def test_dividends_before_an_unadjusted_split_are_per_old_share() -> None:
    closes, splits, paid = [100.0] * 10 + [10.0] * 10, [0.0] * 20, [0.0] * 20
    splits[10], paid[5], paid[10], paid[15] = 10.0, 2.0, 0.1, 0.1
    columns = {"Adj Close": [1.0] * 20, "Dividends": paid, "Stock Splits": splits}
    result = held(frame(closes, **columns))  # 100 shares for 10,000, then 1,000 shares
    assert list(result.dividends["amount"]) == pytest.approx([0.2, 0.1, 0.1])
    assert result.equity.iloc[-1] == pytest.approx(10_000 * 1.02 * 1.01 * 1.01)  # fully invested


@pytest.mark.parametrize("symbol", ["BHP.AX", "AAPL"])
def test_a_purchase_in_a_dividends_session_gets_no_dividend(symbol: str) -> None:
    """Sydney's session of 16 January begins at 23:00 UTC on the 15th."""
    first = pd.Timestamp("2024-01-15 23:00" if symbol == "BHP.AX" else "2024-01-16 14:30")
    days = [first - pd.Timedelta(days=1), first, first + pd.Timedelta(days=1)]
    times = pd.DatetimeIndex([day + pd.Timedelta(hours=i) for day in days for i in range(5)])
    bars = pd.DataFrame(dict.fromkeys(("open", "high", "low", "close"), 100.0), times)
    bars["volume"] = 1.0
    bars.attrs["dividends"] = {datetime(2024, 1, 16): 1.0}
    for begin, paid in ((0, 1), (4, 0), (5, 0), (7, 0)):  # decided on this bar, bought on the next

        class Buys(Bot):
            def decisionFunction(self, row: Any) -> int:
                return int(row.name == times[begin])  # noqa: B023

        bot = Buys("b", symbol, interval="1h", settings=FREE)
        assert len(bot.backtest(bars).dividends) == paid, (symbol, begin)


def test_dividends_of_a_bots_own_source_are_credited(sqlite_url: str) -> None:
    mine = bot(sqlite_url, CorporateActionSource(50, {}, {20: 1.0}), 1, period="1y", fill="open")
    without = bot(sqlite_url, CorporateActionSource(50), 1, period="1y", fill="open")
    with_it, plain = mine.backtest(), without.backtest()
    [quantity] = with_it.dividends["quantity"]
    assert with_it.equity.iloc[20] - plain.equity.iloc[20] == pytest.approx(quantity)


def test_a_ticker_without_bars_is_closed_after_20_days_and_frees_the_money() -> None:
    history = {"AAPL": frame(CLOSES[:100]), "IBM": frame([50.0] * 30)}
    result = held(history, ["AAPL", "IBM"])
    closing = result.trades[result.trades["symbol"] == "IBM"].iloc[-1]
    assert (closing["side"], closing["price"], closing["time"]) == ("sell", 50.0, DAYS[49])
    assert "IBM: no bar on 20 days" in result.notes[-1]
    bought = result.trades[result.trades["time"] >= DAYS[49]]
    assert ("AAPL", "buy") in zip(bought["symbol"], bought["side"], strict=True)
