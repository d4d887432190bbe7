"""`Bot.backtest` and backtesting.py give the same trades and final equity for the same rule.

Ten tickers: four real and six made up. Both fill at the next open and charge 10 basis points.
"""

import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tradingbot.bots.bot import Bot
from tradingbot.data.service import DataService
from tradingbot.settings import Settings

pytestmark = pytest.mark.slow  # imports all of bokeh
COSTS = 10  # basis points
REAL = ["AAPL", "GOOG", "IBM", "MSFT"]


def made_up_candles(seed: int) -> pd.DataFrame:
    """Return 500 sessions with gaps between a close and the next open."""
    random = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(random.normal(0, 0.02, 500)))
    first = np.r_[100.0, close[:-1]] * np.exp(random.normal(0, 0.01, 500))
    frame = pd.DataFrame({"open": first, "close": close})
    frame["high"] = frame.max(axis=1) * (1 + random.uniform(0, 0.01, 500))
    frame["low"] = frame[["open", "close"]].min(axis=1) * (1 - random.uniform(0, 0.01, 500))
    frame["volume"] = 1000.0
    frame.index = pd.bdate_range("2020-01-01", periods=500, unit="us")
    return frame


@pytest.fixture(scope="module")
def tickers() -> dict[str, pd.DataFrame]:
    data = DataService("sample", min_bars=1)
    real = {symbol: data.history(symbol, bars=500) for symbol in REAL}
    return real | {f"MADE{seed}": made_up_candles(seed) for seed in range(6)}


class Crosses(Bot):
    """Hold while the close is above its mean of 20 bars."""

    def decisionFunction(self, row: Any) -> int:
        closes = self.history["close"].to_numpy()
        return 1 if closes[-1] > closes[-20:].mean() else -1


def replayed(frame: pd.DataFrame) -> tuple[pd.DataFrame, float]:
    """Return the trades of backtesting.py, open ones included, and its final equity."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # from its dependencies
        from backtesting import Strategy
        from backtesting.lib import FractionalBacktest

        class TheSame(Strategy):  # type: ignore[misc]
            def init(self) -> None:
                pass

            def next(self) -> None:
                closes = np.asarray(self.data.Close)
                up = closes[-1] > closes[-20:].mean()
                if up and not self.position:
                    self.buy()
                elif not up and self.position:
                    self.position.close()

        test = FractionalBacktest(
            frame.rename(columns=str.title), TheSame, cash=10_000, commission=COSTS / 10_000,
            fractional_unit=1e-8,
        )  # fmt: skip
        found = test.run()
    strategy = found["_strategy"]
    closed = found["_trades"][["Size", "EntryTime", "EntryPrice", "ExitTime", "ExitPrice"]]
    open_ = [
        {"Size": trade.size * 1e-8, "EntryTime": trade.entry_time, "EntryPrice": trade.entry_price}
        for trade in strategy.trades
    ]
    return pd.concat([closed, pd.DataFrame(open_)]), float(found["Equity Final [$]"])


@pytest.mark.parametrize("symbol", [*REAL, *(f"MADE{seed}" for seed in range(6))])
def test_a_rule_gives_the_same_trades_and_equity_in_backtesting_py(
    tickers: dict[str, pd.DataFrame], symbol: str
) -> None:
    frame = tickers[symbol]
    mine = Crosses("b", symbol, settings=Settings(slippage_bps=COSTS)).backtest(frame)
    # its `next` skips the first bar, whose close equals its own mean
    theirs, equity = replayed(frame)
    buys, sells = (mine.trades[mine.trades["side"] == side] for side in ("buy", "sell"))
    assert len(buys) > 10
    assert buys["time"].tolist() == theirs["EntryTime"].tolist()
    assert sells["time"].tolist() == theirs["ExitTime"].dropna().tolist()
    assert buys["quantity"].to_numpy() == pytest.approx(theirs["Size"].to_numpy(), rel=1e-6)
    assert mine.equity.iloc[-1] == pytest.approx(equity, rel=1e-6)
