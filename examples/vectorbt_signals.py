"""Stored forecasts as signals of vectorbt; `shift(1)` trades them at the next bar's open.

pip install vectorbt
python examples/vectorbt_signals.py AAPL
"""

import sys

import vectorbt

from tradingbot import forecasts_as_of
from tradingbot.data.service import DataService
from tradingbot.settings import Settings

symbol = sys.argv[1] if len(sys.argv) > 1 else "AAPL"
candles = DataService(Settings.from_env().data_source).history(symbol)
forecasts = forecasts_as_of(symbol, candles.index, closes=candles["close"])
expected = forecasts["expected_return"].shift(1)  # decided on a close, traded at the next open
portfolio = vectorbt.Portfolio.from_signals(
    candles["close"],
    entries=expected > 0.005,
    exits=expected < -0.005,
    price=candles["open"],
    fees=0.0005,
    init_cash=10_000,
    freq="1D",
)
print(portfolio.stats()[["Total Trades", "Total Return [%]", "Benchmark Return [%]"]])
