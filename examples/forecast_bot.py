"""A bot of 15 lines that runs offline: a Space on this machine, candles of 2013, a paper account.

python examples/forecast_bot.py
"""

from tradingbot import Bot, KronosClient
from tradingbot.data.service import DataService
from tradingbot.space.local import local_space


class ForecastBot(Bot):
    def decisionFunction(self, row):
        forecast = self.params["client"].predict(self.symbol, horizon=5)
        if forecast is None:
            return 0
        last = forecast.iloc[-1]
        self.reason = f"in 5 days {last['close']:.2f}, P(up) {last['prob_up']:.0%}"
        return 1 if last["prob_up"] > 0.5 else -1


with local_space() as url:
    data = DataService("sample")
    client = KronosClient(url, data=data)
    ForecastBot("forecast-bot", tickers=["AAPL", "GOOG", "IBM"], data=data, client=client).main()
