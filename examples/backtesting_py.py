"""Stored forecasts in backtesting.py: buy where Kronos expected a rise, at the next open.

pip install backtesting
python examples/backtesting_py.py AAPL
"""

import sys

from backtesting import Strategy
from backtesting.lib import FractionalBacktest

from tradingbot import forecasts_as_of
from tradingbot.data.service import DataService
from tradingbot.settings import Settings


class Expects(Strategy):
    def init(self):
        pass  # backtesting.py would wait for an indicator, and skip the first forecast

    def next(self):
        expected = self.data.expected_return[-1]
        if expected > 0.005 and not self.position:
            self.buy()
        elif expected < -0.005 and self.position:
            self.position.close()


symbol = sys.argv[1] if len(sys.argv) > 1 else "AAPL"
candles = DataService(Settings.from_env().data_source).history(symbol)
forecasts = forecasts_as_of(symbol, candles.index, closes=candles["close"])
frame = candles.rename(columns=str.title).assign(expected_return=forecasts["expected_return"])
test = FractionalBacktest(frame, Expects, cash=10_000, commission=0.0005)
print(test.run()[["# Trades", "Return [%]", "Buy & Hold Return [%]", "Sharpe Ratio"]])
