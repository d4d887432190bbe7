"""A small market for bots: CSV files with given closes, on real sessions."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from tradingbot.bots.bot import Bot
from tradingbot.data.service import DataService
from tradingbot.forecast import Forecast, ForecastBar
from tradingbot.markets.calendars import next_sessions
from tradingbot.persistence.engine import get_db_session
from tradingbot.persistence.forecasts import store_forecasts
from tradingbot.settings import Settings


class Market:
    """Daily candles in `folder`; the last bar of each file is on the session `today`."""

    def __init__(self, folder: Path, today: datetime = datetime(2024, 5, 15)) -> None:
        folder.mkdir(exist_ok=True)
        self.folder = folder
        self.today = today

    @property
    def source(self) -> str:
        return f"csv:{self.folder}"

    def write(self, symbol: str, closes: Sequence[float], *, today: datetime | None = None) -> None:
        """Write one bar per session with these closes; each bar opens at the previous close."""
        last = today or self.today
        span = 2 * len(closes) + 10  # calendar days, enough to contain a session for each close
        days = next_sessions(symbol, last - timedelta(days=span), span)
        days = [day for day in days if day <= last][-len(closes) :]
        assert days[-1] == last
        rows = ["date,open,high,low,close,volume"]
        opens = [closes[0], *closes[:-1]]
        for day, first, close in zip(days, opens, closes, strict=True):
            high, low = max(first, close), min(first, close)
            rows.append(f"{day:%Y-%m-%d},{first},{high},{low},{close},1000")
        (self.folder / f"{symbol}.csv").write_text("\n".join(rows) + "\n")

    def data(self, now: datetime | None = None) -> DataService:
        return DataService(self.source, now=now, min_bars=1)

    def bot(self, kind: type[Bot], database: str, **options: Any) -> Any:
        """Return a bot on this market and database, with costs of 5 basis points.

        It trades immediately at the newest close, so that the effect of a round is visible at once.
        The default of bots is `fill="open"`.
        """
        options = {
            "fill": "close",
            "name": "b",
            "data": self.data(),
            "sessions": partial(get_db_session, database),
            "settings": Settings(),
            **options,
        }
        return kind(**options)


class ScriptedBot(Bot):
    """A bot with fixed signals, such as `answers={"AAPL": 1}`; 0 for other tickers."""

    def decisionFunction(self, row: Any) -> Any:
        return self.params["answers"].get(self.symbol, 0)


def flat_forecast(
    symbol: str,
    as_of: datetime,
    *,
    last_close: float,
    close: float,
    low: float,
    high: float,
    prob_up: float,
    model: str = "some-model",
    made_at: datetime = datetime(2024, 5, 15, 22, 5),
    horizon: int = 5,
) -> Forecast:
    """Return a forecast with the same numbers on each day."""
    bars = [
        ForecastBar(
            step=step,
            target_date=day,
            open=last_close,
            high=high,
            low=low,
            close=close,
            volume=0.0,
            close_quantiles={0.1: low, 0.5: close, 0.9: high},
            prob_up=prob_up,
        )
        for step, day in enumerate(next_sessions(symbol, as_of, horizon), start=1)
    ]
    return Forecast(
        symbol=symbol,
        interval="1d",
        model_name=model,
        model_revision=None,
        as_of=as_of,
        made_at=made_at,
        last_close=last_close,
        samples=20,
        seed=None,
        bars=tuple(bars),
    )


def rises_and_falls(database: str) -> pd.DataFrame:
    """Return the sample's bars and three forecasts: rises on the 40th and 20th last bar, a fall
    between.

    The fall is forecast on the 30th last bar.
    """
    bars = DataService("sample").history("AAPL")
    moves = {-40: 1.02, -30: 0.98, -20: 1.02}
    forecast = [
        flat_forecast("AAPL", bars.index[at].to_pydatetime(), last_close=close, close=close * move,
                low=close * 0.9, high=close * 1.1, prob_up=0.5)
        for at, move in moves.items() if (close := float(bars["close"].iloc[at]))
    ]  # fmt: skip
    with get_db_session(database) as session:
        store_forecasts(session, forecast)
    return bars
