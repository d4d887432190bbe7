"""Histories are clean, complete and as of the clock, for every source."""

import json
import logging
import socket
import sys
from datetime import datetime
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pytest
import requests

from tests.support.fake_yahoo import (
    EMPTY,
    NO_RANGE,
    NOT_FOUND,
    Chart,
    FakeYahoo,
    candles,
    chart_json,
    opening,
)
from tradingbot.data import circuit_breaker
from tradingbot.data.circuit_breaker import CircuitBreaker
from tradingbot.data.service import DataService
from tradingbot.data.sources import yahoo as yahoo_source
from tradingbot.data.sources.yahoo import YahooSource
from tradingbot.errors import (
    ConfigError,
    DataError,
    DataUnavailable,
    KronosError,
    TooFewBars,
    UnknownSymbol,
)
from tradingbot.markets.calendars import next_sessions
from tradingbot.settings import Timeouts

HEADER = "timestamp,open,high,low,close,volume"


def day(text: str) -> datetime:
    return datetime.fromisoformat(text)


def bars(first: str, count: int, symbol: str = "SPY", price: float = 100.0) -> list[str]:
    """Return CSV rows of `count` sessions after `first`, each slightly higher."""
    return [
        f"{session:%Y-%m-%d},{price + i},{price + i + 2},{price + i - 2},{price + i + 1},{1000 + i}"
        for i, session in enumerate(next_sessions(symbol, day(first), count))
    ]


def write(folder: Path, name: str, rows: list[str], header: str = HEADER) -> Path:
    file = folder / name
    file.write_text("\n".join([header, *rows, ""]), encoding="utf-8")
    return file


def csv_service(folder: Path, **options: Any) -> DataService:
    return DataService(f"csv:{folder}", **options)


# --- the sample ---------------------------------------------------------------------------


def test_the_clock_of_the_sample_is_six_sessions_before_its_end() -> None:
    service = DataService("sample")
    assert service.symbols() == ["AAPL", "GOOG", "IBM", "MSFT"]
    assert service.now() == day("2013-02-21T21:00")
    history = service.history("AAPL", bars=100)
    assert list(history.columns) == ["open", "high", "low", "close", "volume"]
    assert set(history.dtypes.astype(str)) == {"float64"}
    assert history.index.name == "timestamp"
    assert history.index.tz is None
    assert len(history) == 100
    assert history.index[-1] == day("2013-02-21")
    assert history.loc["2013-02-21"].tolist() == [446.0, 449.17, 442.82, 446.06, 15_970_800]
    assert history.attrs["warnings"] == []
    targets = next_sessions("AAPL", day("2013-02-21"), 6)
    assert service.outcome("AAPL", targets) == dict(
        zip(targets, [450.81, 442.80, 448.97, 444.57, 441.40, 430.47], strict=True)
    )


def test_the_sample_leaves_room_for_a_longer_horizon() -> None:
    service = DataService("sample", horizon=24)
    history = service.history("GOOG")
    targets = next_sessions("GOOG", history.index[-1].to_pydatetime(), 24)
    assert targets[-1] == day("2013-03-01")
    assert len(service.outcome("GOOG", targets)) == 24


def test_the_samples_splits_do_not_look_like_crashes() -> None:
    history = DataService("sample").history("AAPL", bars=4000)
    assert len(history) == 3264
    # split 2:1 on 2005-02-28: traded at 88.99 on the Friday before, at 44.86 on the Monday
    assert history.loc["2005-02-25", "close"] == pytest.approx(44.495)
    assert history.loc["2005-02-28", "close"] == pytest.approx(44.86)
    # an earlier 2:1 split on 2000-06-21
    assert history.loc["2000-03-01", "close"] == pytest.approx(130.31 / 4)
    assert history.loc["2000-03-01", "volume"] == 9_616_100 * 4


def test_a_ticker_that_is_not_in_the_sample_is_unknown() -> None:
    with pytest.raises(UnknownSymbol, match="SPY: the sample has AAPL, GOOG, IBM, MSFT only"):
        DataService("sample").history("SPY")


def test_a_horizon_beyond_the_sample_is_a_one_line_error() -> None:
    with pytest.raises(DataError, match="horizon=9999: the sample has 3270 bars in all"):
        DataService("sample", horizon=9999).history("AAPL")


def test_without_the_samples_package_an_error_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "bokeh_sampledata", None)
    with pytest.raises(ConfigError, match=r"pip install bokeh-sampledata"):
        DataService("sample")


def test_a_custom_clock_hides_later_bars_and_gives_them_as_outcome() -> None:
    service = DataService("sample", now=day("2008-09-15T19:59"))  # New York closes at 20:00
    assert service.history("IBM").index[-1] == day("2008-09-12")
    assert service.outcome("IBM", [day("2008-09-15")]) == {day("2008-09-15"): 115.19}
    service = DataService("sample", now=day("2008-09-15T20:00"))
    assert service.history("IBM").index[-1] == day("2008-09-15")


# --- CSV files ----------------------------------------------------------------------------


def test_the_clock_of_a_folder_of_files_is_their_newest_bar(tmp_path: Path) -> None:
    write(tmp_path, "SPY.csv", bars("2024-01-01", 60))  # up to 2024-03-27
    write(tmp_path, "brk-b.csv", bars("2024-01-01", 40))
    write(tmp_path, "BTC-USD.csv", bars("2024-01-01", 50, "BTC-USD"))
    service = csv_service(tmp_path)
    assert service.symbols() == ["BRK-B", "BTC-USD", "SPY"]
    assert service.history("SPY").index[-1] == day("2024-03-27")
    assert service.now() == day("2024-03-27T20:00")
    # a file that ends earlier is still usable, and its age is reported
    history = service.history("BRK-B")
    assert len(history) == 40
    assert history.attrs["warnings"] == [
        "the newest bar is of 2024-02-28; sessions since: 20; "
        "the clock is the newest bar, in SPY.csv"
    ]


def test_a_date_of_the_future_fails_its_own_file_and_does_not_move_the_clock(
    tmp_path: Path,
) -> None:
    write(tmp_path, "SPY.csv", bars("2024-01-01", 40))
    write(tmp_path, "QQQ.csv", [*bars("2024-01-01", 60), "2099-01-02,1,1,1,1,1"])
    service = csv_service(tmp_path)
    assert service.now() == day("2024-02-28T21:00")
    assert len(service.history("SPY")) == 40
    with pytest.raises(DataError, match=r"QQQ\.csv row 62: 2099-01-02 is in the future, today is"):
        service.history("QQQ")


def test_crypto_bars_of_a_weekend_move_the_current_time_of_every_csv_file(tmp_path: Path) -> None:
    write(tmp_path, "SPY.csv", bars("2024-01-01", 44))  # up to Tuesday, 2024-03-05
    write(tmp_path, "BTC-USD.csv", bars("2024-01-31", 35, "BTC-USD"))  # up to Wednesday, 03-06
    service = csv_service(tmp_path)
    assert service.now() == day("2024-03-07")
    assert service.history("BTC-USD").index[-1] == day("2024-03-06")


def test_a_clock_before_the_end_of_the_files_hides_later_closes(tmp_path: Path) -> None:
    write(tmp_path, "SPY.csv", bars("2024-01-01", 60))
    service = csv_service(tmp_path, now=day("2024-03-07T12:00"))
    assert service.history("SPY").index[-1] == day("2024-03-06")
    assert service.outcome("SPY", [day("2024-03-07"), day("2024-12-24")]) == {
        day("2024-03-07"): 146.0
    }


def test_the_newest_bars_are_kept_when_there_are_more_than_asked_for(tmp_path: Path) -> None:
    write(tmp_path, "SPY.csv", bars("2024-01-01", 60))
    history = csv_service(tmp_path).history("SPY", bars=40)
    assert len(history) == 40
    assert history["close"].iloc[-1] == 160.0


def test_yahoos_own_csv_is_read_unchanged(tmp_path: Path) -> None:
    rows = [
        f"{session:%Y-%m-%d},10.5,11.5,9.5,11.0,9.9,123"
        for session in next_sessions("SPY", day("2024-01-01"), 40)
    ]
    rows[3] = rows[3][:10] + ",null,null,null,null,null,null"
    write(tmp_path, "SPY.csv", rows, "Date,Open,High,Low,Close,Adj Close,Volume")
    history = csv_service(tmp_path).history("SPY")
    assert len(history) == 39
    assert history["close"].unique().tolist() == [11.0]
    assert history.attrs["warnings"] == [
        "bars dropped for missing or impossible prices: 1 of 40, the last of 2024-01-05"
    ]


def test_dates_with_a_utc_offset_keep_their_day_across_clock_changes(
    tmp_path: Path,
) -> None:
    zone = ZoneInfo("America/New_York")
    sessions = next_sessions("SPY", day("2024-02-01"), 40)  # clocks change on 2024-03-10
    rows = [f"{s.replace(tzinfo=zone).isoformat(' ')},10,11,9,10,1" for s in sessions]
    assert rows[0].startswith("2024-02-02 00:00:00-05:00")
    assert rows[-1].startswith("2024-04-01 00:00:00-04:00")
    write(tmp_path, "SPY.csv", rows)
    assert csv_service(tmp_path).history("SPY").index.tolist() == sessions


def test_byte_order_mark_blank_lines_spaces_and_spare_commas_are_ignored(
    tmp_path: Path,
) -> None:
    rows = bars("2024-01-01", 40)
    text = "\ufeff" + "\n".join(
        [" Timestamp , Open,High,Low,Close,Volume", *rows[:9], "", *rows[9:]]
    )
    (tmp_path / "SPY.csv").write_text(text + "\n\n", encoding="utf-8")
    assert len(csv_service(tmp_path).history("SPY")) == 40


def test_without_volumes_there_is_no_volume_column(tmp_path: Path) -> None:
    rows = [row.rpartition(",")[0] for row in bars("2024-01-01", 40)]
    write(tmp_path, "SPY.csv", rows, "date,open,high,low,close")
    write(tmp_path, "QQQ.csv", [f"{row}," for row in rows])
    service = csv_service(tmp_path)
    for symbol in service.symbols():
        assert list(service.history(symbol).columns) == ["open", "high", "low", "close"]


def test_a_missing_volume_among_others_counts_as_zero(tmp_path: Path) -> None:
    rows = bars("2024-01-01", 40)
    rows[5] = rows[5].rpartition(",")[0] + ","
    write(tmp_path, "SPY.csv", rows)
    history = csv_service(tmp_path).history("SPY")
    assert history["volume"].iloc[4:7].tolist() == [1004.0, 0.0, 1006.0]
    assert history.attrs["warnings"] == ["bars without a volume, which counts as 0: 1"]


def test_duplicate_and_unsorted_bars_are_repaired_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = bars("2024-01-01", 40)
    corrected = rows[7].rpartition(",")[0] + ",7777"
    write(tmp_path, "SPY.csv", [*reversed(rows), corrected])
    service = csv_service(tmp_path)
    with caplog.at_level(logging.WARNING):
        history = service.history("SPY")
        service.history("SPY")
    assert history.index.is_monotonic_increasing
    assert history.index.is_unique
    assert len(history) == 40
    assert history["volume"].iloc[7] == 7777.0
    assert history.attrs["warnings"] == [
        "repeated bars dropped, the last of each kept: 1",
        "bars were not in order of time: sorted",
    ]
    assert [record.getMessage() for record in caplog.records] == [
        "SPY: repeated bars dropped, the last of each kept: 1; "
        "bars were not in order of time: sorted"
    ]


@pytest.mark.parametrize("others", [0.995, 3.0], ids=["near", "far"])
@pytest.mark.parametrize(("repeated", "refused"), [(2, False), (3, True), (40, True)])
def test_different_prices_at_the_same_times_mean_several_tickers(
    tmp_path: Path, others: float, repeated: int, refused: bool
) -> None:
    rows = [row + ",1301" for row in bars("2024-01-01", 40)]
    doubled = [
        ",".join([day, *(str(float(price) * others) for price in prices), volume, "1332"])
        for day, *prices, volume, _ in (row.split(",") for row in rows[:repeated])
    ]
    write(tmp_path, "SPY.csv", [*doubled, *rows], header=f"{HEADER},SecuritiesCode")
    service = csv_service(tmp_path)
    if not refused:
        history = service.history("SPY")
        assert history["close"].tolist() == [float(row.split(",")[4]) for row in rows]
        assert history.attrs["warnings"] == [
            "repeated bars dropped, the last of each kept: 2, 2 with different closes"
        ]
        return
    for read in (service.history, service.inspect):
        with pytest.raises(DataError, match=r"^SPY: .* bars of several tickers"):
            read("SPY")


@pytest.mark.parametrize(
    "prices",
    [
        ",,,",
        "nan,11,9,10",
        "10,11,9,0",
        "-10,11,-11,10",
        "inf,inf,9,10",
        "10,9,11,10",
        "10,9.5,9,10",
        "10,11,10.5,11",
    ],
)
def test_a_bar_with_missing_or_impossible_prices_is_dropped(tmp_path: Path, prices: str) -> None:
    rows = bars("2024-01-01", 40)
    rows[2] = f"{rows[2][:10]},{prices},5"
    write(tmp_path, "SPY.csv", rows)
    history = csv_service(tmp_path).history("SPY")
    assert len(history) == 39
    assert day(rows[2][:10]) not in history.index
    assert history.attrs["warnings"] == [
        "bars dropped for missing or impossible prices: 1 of 40, the last of 2024-01-04"
    ]


def test_a_high_rounded_below_the_close_is_corrected(tmp_path: Path) -> None:
    rows = bars("2024-01-01", 40)
    rows[2] = f"{rows[2][:10]},100.0,103.999,99.0,104.0,5"
    write(tmp_path, "SPY.csv", rows)
    history = csv_service(tmp_path).history("SPY")
    assert history["high"].iloc[2] == 104.0
    assert history.attrs["warnings"] == []


def test_too_few_bars_are_counted_in_the_error(tmp_path: Path) -> None:
    write(tmp_path, "SPY.csv", bars("2024-01-01", 31))
    write(tmp_path, "QQQ.csv", bars("2024-01-01", 32))
    service = csv_service(tmp_path)
    with pytest.raises(TooFewBars, match=r"SPY: 31 usable 1d bars up to .* needs at least 32"):
        service.history("SPY")
    assert len(service.history("QQQ")) == 32
    assert len(csv_service(tmp_path, min_bars=10).history("SPY")) == 31


def test_the_error_of_too_few_bars_says_why_others_were_dropped(tmp_path: Path) -> None:
    write(tmp_path, "SPY.csv", [row.replace(",1", ",-1") for row in bars("2024-01-01", 40)])
    with pytest.raises(TooFewBars, match=r"SPY: 0 usable .* impossible prices: 40 of 40"):
        csv_service(tmp_path).history("SPY")


def broken(position: int, row: str) -> list[str]:
    rows = bars("2024-01-01", 40)
    rows[position] = row
    return rows


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "SPY.csv: the file is empty; expected a header"),
        (HEADER + "\n", "SPY.csv: the file has a header and no bars"),
        (
            "date,open,close\n2024-01-02,1,1\n",
            "SPY.csv: no column high, low; the first line has date, open, close; expected",
        ),
        ("open,high,low,close\n1,1,1,1\n", "SPY.csv: no column timestamp; the first line has"),
        (
            "Date;Open;High\n2024-01-02;1;1\n",
            "no column low, close; the first line has Date, Open, H",
        ),
        (
            "\n".join([HEADER, *broken(15, "17/01/2024,1,1,1,1,1")]),
            "SPY.csv row 17: '17/01/2024' is not a date; expected 2024-01-31",
        ),
        (
            "\n".join([HEADER, *broken(15, "2024-02-30,1,1,1,1,1")]),
            "SPY.csv row 17: '2024-02-30' is not a date",
        ),
        (
            "\n".join([HEADER, "", *broken(15, "2024-01-24,1,abc,1,1,1")]),
            "SPY.csv row 18: 'abc' in high is not a number; correct or remove the row",
        ),
        (
            "\n".join([HEADER, *broken(15, '2024-01-24,1,1,1,1,"1,23"')]),
            "SPY.csv row 17: '1,23' in volume is not a number",
        ),
        (
            "\n".join([HEADER, *broken(15, "2024-01-24,1,1,1,1,1,1,1")]),
            "SPY.csv row 17: 8 values under a header of 6; numbers are written without thousands",
        ),
        (
            "\n".join([HEADER, "2024-01-24T09:00,1,1,1,1,1", "2024-01-24T10:00,1,1,1,1,1"]),
            "SPY.csv row 3: a second bar of 2024-01-24, at 10:00; daily bars have one row per "
            "session",
        ),
    ],
)
def test_a_broken_file_is_named_in_one_line_and_fails_alone(
    tmp_path: Path, text: str, complaint: str
) -> None:
    (tmp_path / "SPY.csv").write_text(text, encoding="utf-8")
    write(tmp_path, "QQQ.csv", bars("2024-01-01", 40))
    service = csv_service(tmp_path)
    with pytest.raises(DataError, match=complaint) as caught:
        service.history("SPY")
    assert "\n" not in str(caught.value)
    assert len(service.history("QQQ")) == 40


def test_an_empty_file_is_reported_even_if_it_is_the_only_one(tmp_path: Path) -> None:
    (tmp_path / "SPY.csv").touch()
    with pytest.raises(DataError, match=r"SPY.csv: the file is empty"):
        csv_service(tmp_path).history("SPY")


def test_a_binary_file_is_reported_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "SPY.csv").write_bytes(bytes(range(255, 127, -1)))
    with pytest.raises(DataError, match=r"SPY.csv: cannot be read: it is not UTF-8"):
        csv_service(tmp_path).history("SPY")


def test_two_files_of_one_ticker_are_refused_without_affecting_others(tmp_path: Path) -> None:
    for name in ("SPY.csv", "spy.csv", "QQQ.CSV"):
        write(tmp_path, name, bars("2024-01-01", 40))
    service = csv_service(tmp_path)
    assert service.symbols() == ["QQQ", "SPY"]
    with pytest.raises(DataError, match=r"SPY: SPY.csv and spy.csv in .* remove or rename one"):
        service.history("SPY")
    assert len(service.history("QQQ")) == 40


def test_skipped_rows_of_a_file_are_logged_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [f"{row},7" for row in bars("2024-01-01", 40)]
    write(tmp_path, "SPY.csv", rows, "date,open,high,low,close,Volume ABC,Volume XYZ")
    service = csv_service(tmp_path)
    assert "volume" not in service.history("SPY")
    service.history("SPY")
    assert [record.getMessage() for record in caplog.records] == [
        f"{tmp_path}/SPY.csv: no volume: none of Volume ABC and Volume XYZ is known to be in "
        "units of SPY"
    ]


def test_a_ticker_without_file_is_unknown(tmp_path: Path) -> None:
    for letter in "ABCDEF":
        write(tmp_path, f"{letter}.csv", bars("2024-01-01", 40))
    with pytest.raises(UnknownSymbol, match=r"SPY: no file SPY.csv in .*, which has A, B, C, D, E"):
        csv_service(tmp_path).history("SPY")


def test_a_file_of_an_unknown_exchange_fails_alone(tmp_path: Path) -> None:
    write(tmp_path, "FOO.XYZ.csv", bars("2024-01-01", 60))
    write(tmp_path, "SPY.csv", bars("2024-01-01", 40))
    service = csv_service(tmp_path)
    assert service.now() == day("2024-02-28T21:00")
    assert len(service.history("SPY")) == 40
    with pytest.raises(DataError, match=r"FOO.XYZ: no exchange is known for the suffix .XYZ"):
        service.history("FOO.XYZ")


def test_hourly_files_give_complete_hours_in_utc(tmp_path: Path) -> None:
    stamps = pd.date_range("2024-03-04 09:00", periods=48, freq="h", tz="Europe/Berlin")
    write(tmp_path, "BTC-USD.csv", [f"{stamp.isoformat()},10,11,9,10,1" for stamp in stamps])
    service = csv_service(tmp_path, now=day("2024-03-06T06:30"))
    history = service.history("BTC-USD", interval="1h")
    assert history.index[0] == day("2024-03-04T08:00")
    assert history.index[-1] == day("2024-03-06T05:00")


@pytest.mark.parametrize("interval", ["1w", "2d", "0h", "", "d", "h1", "-1h"])
def test_an_interval_that_is_not_known_is_an_error(interval: str) -> None:
    with pytest.raises(DataError, match="expected 1d, or minutes or hours as 15m or 1h"):
        DataService("sample").history("AAPL", interval=interval)


@pytest.mark.parametrize(
    ("source", "complaint"),
    [
        ("csv:{tmp}/none", "no such folder"),
        ("csv:{tmp}", "no .csv file in it"),
        ("csv:", "expected yahoo, sample or csv:DIR"),
        ("bloomberg", "data source 'bloomberg': expected yahoo, sample or csv:DIR"),
    ],
)
def test_an_unknown_source_is_a_settings_error(tmp_path: Path, source: str, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        DataService(source.format(tmp=tmp_path))


# --- Yahoo --------------------------------------------------------------------------------


IMPATIENT = Timeouts(data_backoff=0.01, data_longest_backoff=0.02, data_limit=0.05)
# For a request that is sent three times, on any busy machine.
PATIENT = Timeouts(data_backoff=0.01, data_fast_failure=60)


def yahoo(
    chart: Chart, timeouts: Timeouts = IMPATIENT, **options: Any
) -> tuple[DataService, FakeYahoo]:
    fake = FakeYahoo(chart)
    source = YahooSource(fake.session())
    return DataService(source, circuit_breaker=CircuitBreaker(timeouts), **options), fake


def chart_of(sessions: list[datetime], zone: str, opens: str, *, gap: int | None = None) -> str:
    """Return Yahoo's JSON: a bar per session at its open; bar number `gap` has nulls."""
    frame = candles(sessions)
    if gap is not None:
        frame.iloc[gap] = np.nan
    return chart_json(opening(sessions, zone, opens), frame, zone)


def test_yahoos_bars_are_the_complete_sessions_with_their_own_dates() -> None:
    sessions = next_sessions("AAPL", day("2024-01-01"), 60)  # up to Wednesday, 2024-03-27
    body = chart_of(sessions, "America/New_York", "9:30")
    service, fake = yahoo(lambda _: (200, body), now=day("2024-03-27T15:00"))
    history = service.history("AAPL", bars=50)
    assert list(history.columns) == ["open", "high", "low", "close", "volume"]
    assert set(history.dtypes.astype(str)) == {"float64"}
    assert history.index.tolist() == sessions[9:59]  # the session of the 27th has not closed
    assert history["close"].iloc[-1] == 101.0 + 58
    assert history.attrs["warnings"] == []
    assert len(fake.charts) == 1, "one request per ticker"
    assert "interval=1d" in fake.charts[0]
    assert service.symbols() == []
    assert service.outcome("AAPL", sessions) == {}


def test_tokyos_sessions_keep_their_date_although_utc_is_a_day_behind() -> None:
    sessions = next_sessions("7203.T", day("2024-01-03"), 40)
    body = chart_of(sessions, "Asia/Tokyo", "9:00")
    service, _ = yahoo(lambda _: (200, body), now=sessions[-1].replace(hour=6, minute=30))
    assert service.history("7203.T").index.tolist() == sessions


def test_a_bar_of_nulls_from_yahoo_is_dropped() -> None:
    sessions = next_sessions("IBM", day("2024-01-01"), 40)
    body = chart_of(sessions, "America/New_York", "9:30", gap=20)
    service, _ = yahoo(lambda _: (200, body), now=day("2024-03-01"))
    history = service.history("IBM")
    assert len(history) == 39
    assert np.isfinite(history.to_numpy()).all()


def test_yahoos_clock_is_the_current_time() -> None:
    service, _ = yahoo(lambda _: (500, ""))
    assert abs((service.now() - pd.Timestamp.now("UTC").tz_localize(None)).total_seconds()) < 60


@pytest.mark.parametrize(
    ("status", "body", "kind", "complaint"),
    [
        (404, NOT_FOUND, UnknownSymbol, "Yahoo does not know this ticker"),
        (400, NO_RANGE, DataError, "Yahoo has no prices: .*Data doesn't exist for startDate"),
        (200, EMPTY, DataError, "Yahoo has no prices: .*no price data found"),
        (429, "Too Many Requests", DataUnavailable, r"Yahoo refuses more requests for now \(429\)"),
        (503, "<html>\nsorry\n</html>", DataUnavailable, "Yahoo could not be asked: "),
        (200, "Will be right back", DataUnavailable, "YAHOO! FINANCE IS CURRENTLY DOWN"),
        (200, '{"chart": {"result": [{"meta": {}}], "error": null}}', DataUnavailable, "KeyError"),
    ],
)
def test_a_refusal_of_yahoo_is_a_one_line_error_of_the_right_type(
    status: int,
    body: str,
    kind: type[KronosError],
    complaint: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    service, _ = yahoo(lambda _: (status, body))
    with pytest.raises(kind, match=complaint) as caught:
        service.history("NOPE")
    assert type(caught.value) is kind
    assert str(caught.value).startswith("NOPE: ")
    assert "\n" not in str(caught.value)
    assert not caplog.records, "what is raised is not logged as well"


def test_a_network_failure_is_a_transient_one_line_error() -> None:
    sessions = next_sessions("MSFT", day("2024-01-01"), 40)
    down = True

    def chart(request: requests.PreparedRequest) -> tuple[int, str]:
        if down:
            raise requests.ConnectionError("Name or service not known")
        return 200, chart_of(sessions, "America/New_York", "9:30")

    service, fake = yahoo(chart, PATIENT, now=day("2024-03-01"))
    with pytest.raises(DataUnavailable, match="MSFT: Yahoo could not be asked: ConnectionError"):
        service.history("MSFT")
    assert len(fake.charts) == 3, "twice more, then the ticker is given up"
    down = False
    assert len(service.history("MSFT")) == 40


def test_error_messages_of_curl_are_shortened_to_the_cause() -> None:
    message = (
        "Failed to perform, curl: (6) Could not resolve host: query2.finance.yahoo.com. See "
        "https://curl.se/libcurl/c/libcurl-errors.html first for more details."
    )

    def chart(request: requests.PreparedRequest) -> tuple[int, str]:
        raise requests.ConnectionError(message)

    service, _ = yahoo(chart, now=day("2024-03-01"))
    with pytest.raises(DataUnavailable) as caught:
        service.history("MSFT")
    reason = "Yahoo could not be asked: Could not resolve host: query2.finance.yahoo.com"
    assert caught.value.reason == reason


def test_the_time_limit_excludes_the_import_of_yfinance(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = {"now": 0.0}
    monkeypatch.setattr(circuit_breaker, "time", SimpleNamespace(monotonic=lambda: clock["now"]))
    imported = yahoo_source._yfinance

    def slow_import() -> Any:
        clock["now"] = 60.0  # once, then it is cached
        return imported()

    monkeypatch.setattr(yahoo_source, "_yfinance", slow_import)

    def chart(request: requests.PreparedRequest) -> tuple[int, str]:
        raise requests.ConnectionError("Name or service not known")

    service, fake = yahoo(chart, now=day("2024-03-01"))
    with pytest.raises(DataUnavailable, match="MSFT: Yahoo could not be asked"):
        service.history("MSFT")
    assert len(fake.charts) == 3, "each failed at once, so none had timed out"


def test_a_failed_answer_is_not_cached() -> None:
    sessions = next_sessions("ORCL", day("2024-01-01"), 40)
    # yfinance itself repeats a refused request
    answers = [(503, ""), (503, ""), (200, chart_of(sessions, "America/New_York", "9:30"))]
    service, _ = yahoo(lambda _: answers.pop(0), PATIENT, now=day("2024-03-01"))
    assert len(service.history("ORCL")) == 40
    assert not answers


def test_every_request_to_yahoo_has_a_time_limit() -> None:
    sessions = next_sessions("SPY", day("2024-01-01"), 40)
    service, fake = yahoo(
        lambda _: (200, chart_of(sessions, "America/New_York", "9:30")), now=day("2024-03-01")
    )
    service.history("SPY")
    assert fake.timeouts
    assert all(0 < limit <= 30 for limit in fake.timeouts)


def test_a_source_opened_by_name_has_the_time_outs_of_its_service(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sessions = next_sessions("SPY", day("2024-01-01"), 40)
    fake = FakeYahoo(lambda _: (200, chart_of(sessions, "America/New_York", "9:30")))
    opened = partial(YahooSource, fake.session())
    monkeypatch.setattr("tradingbot.data.sources.registry.YahooSource", opened)
    timeouts = Timeouts(data_answer=7.5)
    DataService("yahoo", now=day("2024-03-01"), timeouts=timeouts).history("SPY")
    assert 7.5 in fake.timeouts


def test_yahoos_hourly_bars_are_naive_utc() -> None:
    hours = list(pd.date_range("2024-01-02", periods=40, freq="h").to_pydatetime())
    stamps = [int(hour.replace(tzinfo=ZoneInfo("UTC")).timestamp()) for hour in hours]
    body = json.loads(chart_json(stamps, candles(hours), "UTC", unit="1h"))
    body["chart"]["result"][0]["meta"]["tradingPeriods"] = [
        [{"timezone": "UTC", "start": stamps[0], "end": stamps[-1] + 3600, "gmtoffset": 0}]
    ]
    service, _ = yahoo(lambda _: (200, json.dumps(body)), now=day("2024-01-03T15:30"))
    history = service.history("BTC-USD", interval="1h")
    assert history.index.tolist() == hours[:39]  # the bar of 15:00 has not ended


def test_nothing_of_yahoo_is_written_to_the_home_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import yfinance.cache

    body = chart_of(next_sessions("SPY", day("2024-01-01"), 40), "America/New_York", "9:30")
    service, _ = yahoo(lambda _: (200, body), now=day("2024-03-01"))
    service.history("SPY")
    location = yfinance.cache._TzDBManager.get_location()
    assert Path(location).name.startswith("kronos-yfinance-")


# --- all sources --------------------------------------------------------------------------


def test_creating_a_data_service_makes_no_request(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    DataService()
    assert DataService("sample").history("MSFT").index[-1] == day("2013-02-21")
