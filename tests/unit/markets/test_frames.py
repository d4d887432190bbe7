"""Frames of candles in common forms: yfinance's, with a column of dates, of other libraries."""

from collections.abc import Callable
from datetime import date
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tradingbot.errors import DataError
from tradingbot.markets.candles import checked, with_every_volume
from tradingbot.markets.frames import normalised

DAYS = pd.date_range("2026-03-02", periods=10, freq="B", name="Date")  # over a change of clocks
CLOSE = np.linspace(10, 11, 10)
BARS = pd.DataFrame(
    {"open": CLOSE - 0.1, "high": CLOSE + 0.5, "low": CLOSE - 0.5, "close": CLOSE, "volume": 1e3},
    index=DAYS,
)
TITLED = BARS.rename(columns=str.title)


class Foreign:
    """A frame of another library, which has only the interchange protocol."""

    def __init__(self, frame: pd.DataFrame) -> None:
        self._frame = frame

    def __dataframe__(self, *args: Any, **options: Any) -> Any:
        return self._frame.__dataframe__(*args, **options)


class Convertible:
    """A frame of another library that can be converted to pandas."""

    def __init__(self, frame: pd.DataFrame) -> None:
        self._frame = frame

    def to_pandas(self) -> pd.DataFrame:
        return self._frame


def history() -> pd.DataFrame:
    """Return a frame like that of `yf.Ticker("AAPL").history()`."""
    return TITLED.assign(Dividends=0.0, **{"Stock Splits": 0.0}).tz_localize("America/New_York")


def download(*tickers: str, ticker_first: bool = False) -> pd.DataFrame:
    """Return a frame like that of `yf.download(tickers)`; each ticker has different prices."""
    parts = {name: TITLED * (i + 1) for i, name in enumerate(tickers)}
    frame = pd.concat(parts, axis=1, names=["Ticker", "Price"])
    return frame if ticker_first else frame.swaplevel(axis=1)


FRAMES: dict[str, Callable[[], Any]] = {
    "ours": lambda: BARS,
    "Ticker.history()": history,
    "Ticker.history() in UTC": lambda: TITLED.tz_localize("UTC"),
    "yf.download()": lambda: download("AAPL"),
    "yf.download() of several": lambda: download("AAPL", "MSFT"),
    "yf.download(group_by='ticker')": lambda: download("AAPL", "MSFT", ticker_first=True),
    "yf.download() of another spelling": lambda: download("aapl", "MSFT"),
    "yf.download().reset_index()": lambda: download("AAPL").reset_index(),
    "yf.download(auto_adjust=False)": lambda: TITLED.assign(**{"Adj Close": 1.0}),
    "a date column": lambda: BARS.reset_index(),
    "a timestamp column": lambda: BARS.reset_index(names="timestamp"),
    "Kronos' timestamps": lambda: BARS.assign(amount=1.0).reset_index(names="timestamps"),
    "dates as objects": lambda: TITLED.set_axis(pd.Index(DAYS.date)),
    "dates as text": lambda: TITLED.set_axis(pd.Index(DAYS.strftime("%Y-%m-%d"))),
    "a file of yfinance, read again": lambda: history().set_axis(history().index.astype(str)),
    "milliseconds, as ccxt": lambda: BARS.reset_index().assign(
        Date=DAYS.as_unit("ms").astype("int64")
    ),
    "microseconds": lambda: BARS.reset_index().assign(Date=DAYS.as_unit("us").astype("int64")),
    "nanoseconds": lambda: BARS.reset_index().assign(Date=DAYS.as_unit("ns").astype("int64")),
    "seconds": lambda: BARS.reset_index().assign(Date=DAYS.as_unit("s").astype("int64")),
    "periods": lambda: BARS.set_axis(DAYS.to_period("D")),
    "the newest first": lambda: TITLED.iloc[::-1],
    "an index of tickers and dates": lambda: pd.concat(
        {"AAPL": BARS, "MSFT": BARS * 2}, names=["symbol"]
    ),
    "an index of tickers and dates as text": lambda: pd.concat(
        {"AAPL": BARS, "MSFT": BARS * 2}, names=["symbol"]
    ).pipe(lambda both: both.set_index(both.index.set_levels(DAYS.astype(str), level=1))),
    "an unfinished bar that says so": lambda: pd.concat(
        [BARS.assign(complete=True), (BARS.shift(freq="14D") * 2).assign(complete=False)]
    ),
    "a column of tickers": lambda: pd.concat(
        [BARS.assign(Symbol="AAPL"), BARS.assign(Symbol="MSFT")]
    ),
    "nullable types": lambda: TITLED.convert_dtypes(),
    "numbers as text": lambda: TITLED.astype(str),
    "the interchange protocol": lambda: Foreign(TITLED.reset_index()),
    "to_pandas": lambda: Convertible(TITLED.reset_index()),
    "Alpha Vantage": lambda: BARS.rename(
        columns={name: f"{i + 1}. {name}" for i, name in enumerate(BARS)}
    ),
    "short names": lambda: BARS.rename(columns=lambda name: name[0]).reset_index(names="t"),
}


@pytest.mark.parametrize("name", FRAMES)
def test_a_frame_is_read_in_every_usual_form(name: str) -> None:
    frame = FRAMES[name]()
    before = frame.copy() if isinstance(frame, pd.DataFrame) else None
    bars = checked("AAPL", frame, "1d")
    pd.testing.assert_frame_equal(bars, BARS, check_freq=False, check_names=False,
                                  check_index_type=False)  # fmt: skip
    assert [str(time) for time in bars.index] == [str(day) for day in DAYS]
    if before is not None:
        pd.testing.assert_frame_equal(frame, before)  # the caller's frame stays as it was


def test_each_ticker_of_a_download_is_found() -> None:
    both = download("AAPL", "MSFT")
    assert checked("MSFT", both, "1d")["close"].tolist() == list(CLOSE * 2)


@pytest.mark.parametrize(
    ("frame", "complaint"),
    [
        (lambda: download("MSFT", "SPY"), "the history is of MSFT, SPY, not of this ticker"),
        (
            lambda: pd.concat([BARS.assign(ticker=name) for name in ("SPY", "MSFT")]),
            "the history is of SPY, MSFT, not of this ticker",
        ),
        (
            lambda: pd.concat([TITLED, BARS], axis=1),
            "exactly one column open, high, low, close, volum",
        ),
        (lambda: BARS.reset_index(drop=True), "expected a DataFrame with a DatetimeIndex"),
        (lambda: {"open": [1.0]}, "expected a DataFrame with a DatetimeIndex"),
        (lambda: BARS.drop(columns="close").assign(**{"Adj Close": 1}), "exactly one column close"),
        (lambda: BARS.assign(date="soon").reset_index(drop=True), "times are not read"),
        (lambda: BARS.reset_index().assign(Date=range(10)), "0 is not an epoch"),
        (lambda: Convertible(None), "expected a DataFrame with a DatetimeIndex"),  # type: ignore[arg-type]
        (lambda: Foreign("x"), "is not a frame that pandas reads"),  # type: ignore[arg-type]
    ],
)
def test_a_frame_without_candles_is_reported_in_one_line(
    frame: Callable[[], Any], complaint: str
) -> None:
    with pytest.raises(DataError, match=complaint) as caught:
        normalised("AAPL", frame())
    assert str(caught.value).startswith("AAPL: ")
    assert "\n" not in str(caught.value)


@given(st.lists(st.floats(1, 1e9) | st.just(np.nan), min_size=10, max_size=10))
def test_a_missing_volume_does_not_discard_the_others(volumes: list[float]) -> None:
    bars, notes = with_every_volume(BARS.assign(volume=volumes))
    missing = int(np.isnan(volumes).sum())
    if missing == len(volumes):
        assert "volume" not in bars
        assert notes == []
        return
    assert bars["volume"].tolist() == [0.0 if np.isnan(v) else v for v in volumes]
    expected = [f"bars without a volume, which counts as 0: {missing}"] if missing else []
    assert notes == expected


def test_the_volume_in_base_currency_is_used_or_its_absence_reported(
    caplog: pytest.LogCaptureFixture,
) -> None:
    frame = BARS.rename(columns={"volume": "Volume BTC"}).assign(**{"Volume USDT": 5.0})
    assert normalised("BTC-USD", frame)["volume"].tolist() == [1e3] * 10
    assert caplog.records == []
    assert "volume" not in normalised("SPY", frame)
    assert caplog.messages == [
        "SPY: no volume: none of Volume BTC, Volume USDT is known to be in units of it"
    ]


class PolarsColumn:
    """The part of polars.Series that is needed."""

    def __init__(self, name: str, values: list[object]) -> None:
        self.name, self._values = name, values

    def to_list(self) -> list[object]:
        return self._values


class PolarsFrame:
    """The part of polars.DataFrame that is needed; `to_pandas` fails as without pyarrow."""

    def __init__(self, columns: dict[str, list[object]]) -> None:
        self._columns = columns

    def get_columns(self) -> list[PolarsColumn]:
        return [PolarsColumn(*column) for column in self._columns.items()]

    def to_pandas(self) -> None:
        raise ModuleNotFoundError("No module named 'pyarrow'")


@pytest.mark.parametrize(
    ("name", "values", "reported"),
    [
        ("Omsatt antall", [900.0, 1100.0] * 5, True),
        ("VWAP", list(CLOSE), False),  # like the price
        ("change", [0.1, 0.3] * 5, False),
        ("momentum", [-900.0, 900.0] * 5, False),  # never a volume
        ("period", [1440.0] * 10, False),  # the same in every row
        ("Dividends", [0.0] * 9 + [50.0], False),  # mostly 0
    ],
)
def test_a_column_that_could_be_the_volume_is_reported(
    caplog: pytest.LogCaptureFixture, name: str, values: list[float], reported: bool
) -> None:
    frame = BARS.drop(columns="volume").assign(**{name: values})
    assert "volume" not in normalised("SPY", frame)
    assert (f"SPY: no volume: {name} could be it" in caplog.text) == reported
    assert bool(caplog.records) == reported


def test_a_frame_of_polars_is_read_without_pyarrow() -> None:
    days = [date(2026, 11, 19), date(2026, 11, 20)]
    prices = {name: [10.0, 11.0] for name in ("Open", "High", "Low", "Close")}
    bars = normalised("SPY", PolarsFrame({"Date": [*days], **prices, "Volume": [5, 6]}))
    assert [f"{day:%Y-%m-%d}" for day in bars.index] == ["2026-11-19", "2026-11-20"]
    assert bars["volume"].tolist() == [5.0, 6.0]
