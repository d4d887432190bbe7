"""A Strategy alone: without candles, database or trades."""

from typing import Any

import pandas as pd
import pytest

from tradingbot.bots.account import CASH, Account
from tradingbot.bots.backtest import run_backtest
from tradingbot.bots.strategy import Strategy
from tradingbot.settings import Settings

BARS = pd.DataFrame(
    {"open": [9.0, 10.0, 11.0], "high": [12.0] * 3, "low": [8.0] * 3, "close": [10.0, 11.0, 12.0]},
    index=pd.DatetimeIndex(["2024-05-13", "2024-05-14", "2024-05-15"]),
)


class Rises(Strategy):
    def decisionFunction(self, row: pd.Series) -> int:
        self.reason = f"{len(self.history)} bars, {self.portfolio[CASH]:g} USD"
        return 1 if row["close"] > self.params["above"] else -1


def rises(**params: Any) -> Strategy:
    return Rises("rises", "AAPL", settings=Settings(), **params)


def test_a_decision_sees_the_bars_up_to_its_own_and_the_account() -> None:
    strategy = rises(above=10.5)
    with strategy.deciding(Account({CASH: 500.0}, {}, 0.0)):
        assert [strategy.decide("AAPL", BARS, end) for end in (1, 2)] == [-1, 1]
    assert strategy.reason == "2 bars, 500 USD"


@pytest.mark.parametrize("name", ["history", "portfolio"])
def test_outside_a_decision_the_account_is_not_available(name: str) -> None:
    with pytest.raises(RuntimeError, match=f"{name} is available in a decision only"):
        getattr(rises(), name)


def test_a_strategy_is_replayed_without_a_bot() -> None:
    done = run_backtest(rises(above=0.0), BARS, 100.0)
    assert list(done.trades["side"]) == ["buy"]
    assert done.trades["price"][0] == 10.0, "the open after the first decision"
