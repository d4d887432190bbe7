"""Stored forecasts in freqtrade: copy this file into user_data/strategies.

freqtrade backtesting --strategy KronosStrategy --timeframe 1d

freqtrade trades at the open of the candle after a signal. Its BTC/USDT is BTC-USD here; store
forecasts of it with `kronosbot run --symbols BTC-USD`, in the database of DATABASE_URL.
"""

from freqtrade.strategy import IStrategy

from tradingbot import forecasts_as_of


class KronosStrategy(IStrategy):
    INTERFACE_VERSION = 3
    timeframe = "1d"
    startup_candle_count = 0
    minimal_roi = {"0": 100.0}  # none: the forecast decides when to sell  # noqa: RUF012
    stoploss = -0.99

    def populate_indicators(self, dataframe, metadata):
        symbol = metadata["pair"].partition("/")[0] + "-USD"
        closes = dataframe.set_index("date")["close"]
        found = forecasts_as_of(symbol, dataframe["date"], closes=closes)
        dataframe["expected"] = found["expected_return"].to_numpy()
        return dataframe

    def populate_entry_trend(self, dataframe, metadata):
        dataframe.loc[dataframe["expected"] > 0.005, "enter_long"] = 1
        return dataframe

    def populate_exit_trend(self, dataframe, metadata):
        dataframe.loc[dataframe["expected"] < -0.005, "exit_long"] = 1
        return dataframe
