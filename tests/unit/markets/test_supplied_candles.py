"""The same candles are treated alike in a file, in a frame for a forecast and in a backtest."""

import logging
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.unit.markets.test_data_quality import candles, scaled
from tradingbot.bots.bot import Bot
from tradingbot.data.service import DataService
from tradingbot.errors import DataError
from tradingbot.markets.calendars import session_close
from tradingbot.markets.supplied_candles import supplied_candles
from tradingbot.runtime.clock import utcnow
from tradingbot.settings import Settings

FINE = candles(count=120)


class Buys(Bot):
    def decisionFunction(self, row: Any) -> int:
        return 1


def with_cell(column: str, row: int, value: float) -> pd.DataFrame:
    frame = FINE.copy()
    frame.loc[frame.index[row], column] = value
    return frame


def with_day(frame: pd.DataFrame, day: str) -> pd.DataFrame:
    return pd.concat([frame, frame.iloc[[50]].set_axis(pd.DatetimeIndex([day]))]).sort_index()


def without_prices(row: int) -> pd.DataFrame:
    frame = FINE.copy()
    frame.iloc[row] = np.nan
    return frame


def swapped() -> pd.DataFrame:
    return FINE.rename(columns={"high": "low", "low": "high"})


BAD: dict[str, Callable[[], pd.DataFrame]] = {
    "doubled": lambda: pd.concat([FINE, FINE.iloc[[10, 119]]]),
    "doubled and different": lambda: pd.concat([FINE, FINE.iloc[[10]] * 1.001]),
    "shuffled": lambda: FINE.sample(frac=1, random_state=1),
    "a row without prices": lambda: without_prices(7),
    "no newest prices": lambda: without_prices(119),
    **{
        f"{column} {value} in row {row}": lambda at=(column, row, value): with_cell(*at)
        for row in (50, 119)
        for column, value in [("close", -1.0), ("open", 0.0), ("high", 1.0), ("low", 1e6),
                              ("volume", -5.0), ("volume", np.nan)]
    },
    "high below low": swapped,
    "nothing above 0": lambda: FINE * -1,
    "weekly": lambda: candles(count=250).resample("W-FRI").last(),
    "on Saturdays": lambda: FINE.set_axis(FINE.index + timedelta(days=1)),
    "on Independence Day": lambda: with_day(FINE, "2024-07-04"),
    "a split in the middle": lambda: scaled(FINE, slice(0, 60), 20, volume=True),
    "pence at the end": lambda: scaled(FINE, slice(117, 120), 0.01),
    "a clock that is nobody's": lambda: FINE.set_axis(FINE.index + timedelta(hours=21)),
    "as text": lambda: FINE.astype(str),
    "no volume at all": lambda: FINE.assign(volume=0.0),
}  # fmt: skip


def used(act: Callable[[], pd.DataFrame]) -> tuple[int, Any, float] | str:
    """Return the number of bars, the newest, and the sum of the closes; or why they are refused."""
    try:
        bars = act()
    except DataError as error:
        return error.reason.removeprefix("no bar can be used; ")
    return len(bars), bars.index[-1], round(float(bars["close"].sum()), 6)


@pytest.mark.parametrize("kind", BAD)
def test_frames_backtests_and_files_use_the_same_checks(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    frame = BAD[kind]()
    frame.to_csv(tmp_path / "SPY.csv", index_label="date")
    seen: list[pd.DataFrame] = []

    class Keeps(Buys):
        def decisionFunction(self, row: Any) -> int:
            seen[:] = [self.history]
            return 1

    def backtest() -> pd.DataFrame:
        Keeps("b", "SPY", settings=Settings()).backtest(frame)
        return seen[0]

    def forecast() -> pd.DataFrame:
        return supplied_candles("SPY", frame, "1d", now=utcnow(), max_jump=1.0)

    def file() -> pd.DataFrame:
        found = DataService(f"csv:{tmp_path}", now=utcnow(), min_bars=1).bars(
            "SPY", since=datetime(2000, 1, 1)
        )
        if found.empty:
            raise DataError("; ".join(found.attrs["warnings"]))
        warnings["file"] = found.attrs["warnings"]
        return found

    warnings: dict[str, list[str]] = {}
    with caplog.at_level(logging.WARNING):
        answers = {act.__name__: used(act) for act in (forecast, backtest, file)}
    assert answers["forecast"] == answers["backtest"] == answers["file"]
    assert "\n" not in str(answers["forecast"])
    if answers["forecast"] != used(lambda: FINE) and isinstance(answers["forecast"], tuple):
        about_bars = [line for line in caplog.messages if line.startswith("SPY: ")]
        assert about_bars or kind == "no volume at all", "corrected without a warning"


def test_empty_rows_of_a_multi_ticker_frame_are_dropped_silently(
    caplog: pytest.LogCaptureFixture,
) -> None:
    both = pd.concat({"SPY": FINE, "BTC-USD": candles("BTC-USD", 170)}, axis=1, sort=True)
    result = Buys("b", tickers=["SPY", "BTC-USD"], settings=Settings()).backtest(both)
    assert len(result.equity) > 170
    assert caplog.messages == []


def test_a_backtest_says_that_it_could_not_check_an_unknown_exchange(
    caplog: pytest.LogCaptureFixture,
) -> None:
    Buys("b", "ABC.ZZ", settings=Settings()).backtest(FINE)
    [line] = caplog.messages
    assert line.startswith("ABC.ZZ: sessions could not be checked: no exchange is known for")


@pytest.mark.parametrize("clock", ["America/New_York", "UTC", None])
@pytest.mark.parametrize("symbol", ["SPY", "BTC-USD"])
def test_a_round_decides_on_the_newest_bar_of_a_file_of_hours(
    tmp_path: Path, sqlite_url: str, symbol: str, clock: str | None
) -> None:
    times = pd.DatetimeIndex(
        [
            session_close(symbol, day.to_pydatetime()) - timedelta(hours=left)
            for day in candles(symbol, 20).index
            for left in range(6, 0, -1)
        ]
    )
    frame = candles(symbol, len(times)).set_axis(times, axis=0)
    shown = frame if clock is None else frame.tz_localize("UTC").tz_convert(clock)
    shown.to_csv(tmp_path / f"{symbol}.csv", index_label="date")
    settings = Settings(data_source=f"csv:{tmp_path}")
    bot = Buys("b", symbol, interval="1h", settings=settings)
    bot.use(database_url=sqlite_url)
    [decision] = bot.run().decisions
    assert decision.bar == times[-1]
