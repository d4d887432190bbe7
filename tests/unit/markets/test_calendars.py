"""Target dates are sessions of the ticker's own exchange."""

import os
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import pytest
from exchange_calendars import get_calendar_names
from yfinance.const import _MIC_TO_YAHOO_SUFFIX

from tradingbot.errors import DataError
from tradingbot.markets.calendars import (
    latest_complete_session,
    next_sessions,
    session_close,
    sessions_between,
)
from tradingbot.markets.symbols import calendar_name


def day(text: str) -> datetime:
    return datetime.fromisoformat(text)


@pytest.mark.parametrize(
    ("symbol", "calendar"),
    [
        ("SPY", "XNYS"),
        ("spy", "XNYS"),
        ("^GSPC", "XNYS"),
        ("^NDX", "XNYS"),
        ("^vix", "XNYS"),
        ("^TNX", "XNYS"),
        ("^TASI.SR", "XSAU"),
        ("BRK-B", "XNYS"),
        ("BAC-PL", "XNYS"),
        ("7203.T", "XTKS"),
        ("SAP.DE", "XETR"),
        ("BARC.L", "XLON"),
        ("MC.PA", "XPAR"),
        ("0700.HK", "XHKG"),
        ("SHOP.TO", "XTSE"),
        ("BBD-B.TO", "XTSE"),
        ("005930.KS", "XKRX"),
        ("RELIANCE.NS", "XBOM"),
        ("PETR4.SA", "BVMF"),
        ("^N225", "XTKS"),
        ("^GDAXI", "XETR"),
        ("^FTSE", "XLON"),
        ("^FCHI", "XPAR"),
        ("^HSI", "XHKG"),
        ("BTC-USD", "24/7"),
        ("eth-eur", "24/7"),
        ("SOL-USDT", "24/7"),
        ("ETH-BTC", "24/7"),
        ("EURUSD=X", "24/5"),
        ("ES=F", "CMES"),
        ("CLF27.NYM", "CMES"),
    ],
)
def test_a_ticker_belongs_to_its_exchange(symbol: str, calendar: str) -> None:
    assert calendar_name(symbol) == calendar


@pytest.mark.parametrize("symbol", ["^NOSUCH", "^"])
def test_an_unknown_index_is_refused_and_not_assigned_to_new_york(symbol: str) -> None:
    with pytest.raises(DataError) as caught:
        calendar_name(symbol)
    assert str(caught.value).startswith(f"{symbol}: no exchange is known for this index")


@pytest.mark.parametrize("symbol", ["FOO.XYZ", "BRK.C", "EURUSD=Q", ".T", "=X", "ACME."])
def test_an_unknown_suffix_is_an_error_and_not_assigned_to_new_york(symbol: str) -> None:
    with pytest.raises(DataError) as caught:
        next_sessions(symbol, day("2024-01-05"), 1)
    suffix = symbol[max(symbol.rfind("."), symbol.rfind("=")) :]
    assert str(caught.value).startswith(f"{symbol}: no exchange is known for the suffix {suffix};")
    assert "\n" not in str(caught.value)


def test_an_empty_ticker_is_an_error() -> None:
    with pytest.raises(DataError, match="a ticker is empty"):
        calendar_name("  ")


@pytest.mark.parametrize(
    ("symbol", "after", "expected"),
    [
        # Friday -> Monday
        ("SPY", "2024-03-01", ["2024-03-04", "2024-03-05"]),
        # Thanksgiving is a holiday; the half day after it is a session
        ("SPY", "2024-11-27", ["2024-11-29", "2024-12-02"]),
        # no rule announces the day of mourning for a president
        ("AAPL", "2025-01-08", ["2025-01-10", "2025-01-13"]),
        # Good Friday and Easter Monday
        ("SAP.DE", "2024-03-28", ["2024-04-02", "2024-04-03"]),
        # Golden Week
        ("7203.T", "2024-05-02", ["2024-05-07", "2024-05-08"]),
        # seven days, over New Year
        ("BTC-USD", "2023-12-29", ["2023-12-30", "2023-12-31", "2024-01-01"]),
        # five days, over New Year
        ("EURUSD=X", "2023-12-29", ["2024-01-01", "2024-01-02"]),
        # the weekend in Riyadh is Friday and Saturday
        ("2222.SR", "2024-02-29", ["2024-03-03", "2024-03-04"]),
        # the Orthodox Easter in Athens and Bucharest, in two years
        ("OPAP.AT", "2024-05-02", ["2024-05-07", "2024-05-08"]),
        ("SNP.RO", "2024-05-02", ["2024-05-07", "2024-05-08"]),
        # Tel Aviv traded from Sunday to Thursday, since January 2026 from Monday to Friday
        ("TEVA.TA", "2025-01-01", ["2025-01-02", "2025-01-05"]),
        ("TEVA.TA", "2026-01-15", ["2026-01-16", "2026-01-19"]),
        # CME trades on a US bank holiday, not on Good Friday
        ("ES=F", "2024-01-12", ["2024-01-15"]),
        ("ES=F", "2024-03-28", ["2024-04-01"]),
        # on a Saturday, or during a session
        ("SPY", "2024-03-02", ["2024-03-04"]),
        ("SPY", "2024-03-04T15:30", ["2024-03-05"]),
        # far in the past and in the future
        ("IBM", "2000-03-01", ["2000-03-02"]),
        ("IBM", "2040-07-03", ["2040-07-05"]),
    ],
)
def test_the_next_sessions_skip_weekends_and_holidays(
    symbol: str, after: str, expected: list[str]
) -> None:
    assert next_sessions(symbol, day(after), len(expected)) == [day(text) for text in expected]


def test_a_long_horizon_has_the_requested_number_of_sessions() -> None:
    sessions = next_sessions("SPY", day("2024-01-05"), 256)
    assert len(sessions) == len(set(sessions)) == 256
    assert all(session.weekday() < 5 and session.hour == 0 for session in sessions)


@pytest.mark.parametrize(
    ("symbol", "after", "words"),
    [
        ("600519.SS", "2200-01-01", "XSHG"),
        ("SPY", "2049-12-30", "the sessions of XNYS are known up to 2049-12-31 only"),
        ("SPY", "1990-01-01", "1990-01-01 is outside of what is known of XNYS, 1997-01-01 to"),
    ],
)
def test_dates_beyond_the_calendar_are_a_clear_error(symbol: str, after: str, words: str) -> None:
    with pytest.raises(DataError, match=words) as caught:
        next_sessions(symbol, day(after), 5)
    assert str(caught.value).startswith(f"{symbol}: ")


@pytest.mark.parametrize(
    ("symbol", "now", "expected"),
    [
        # 16:00 in New York is 21:00 UTC in winter, 20:00 in summer
        ("SPY", "2024-03-01T20:59", "2024-02-29"),
        ("SPY", "2024-03-01T21:00", "2024-03-01"),
        ("SPY", "2024-06-28T19:59", "2024-06-27"),
        ("SPY", "2024-06-28T20:00", "2024-06-28"),
        # 13:00 in New York on the day after Thanksgiving
        ("SPY", "2024-11-29T17:59", "2024-11-27"),
        ("SPY", "2024-11-29T18:00", "2024-11-29"),
        # a Sunday
        ("SPY", "2024-03-03T12:00", "2024-03-01"),
        # Tokyo closes in the morning of the same date in UTC, at 15:30 since November 2024
        ("7203.T", "2024-11-05T06:29", "2024-11-01"),
        ("7203.T", "2024-11-05T06:30", "2024-11-05"),
        # crypto's day ends with the UTC day
        ("BTC-USD", "2024-03-02T23:59", "2024-03-01"),
        ("BTC-USD", "2024-03-03T00:00", "2024-03-02"),
        ("EURUSD=X", "2024-03-04T12:00", "2024-03-01"),
    ],
)
def test_a_session_is_complete_once_it_has_closed(symbol: str, now: str, expected: str) -> None:
    assert latest_complete_session(symbol, day(now)) == day(expected)


def test_the_clock_outside_of_the_calendar_is_a_clear_error() -> None:
    for now in ("1996-06-01", "2050-06-01"):
        with pytest.raises(DataError, match=f"SPY: {now} is outside of what is known of XNYS"):
            latest_complete_session("SPY", day(now))


def test_a_day_without_a_session_closes_at_its_end() -> None:
    assert session_close("SPY", day("2024-11-29")) == day("2024-11-29T18:00")
    assert session_close("SPY", day("2024-11-30")) == day("2024-12-01")
    assert session_close("BTC-USD", day("2024-11-30")) == day("2024-12-01")


def test_sessions_between_includes_the_last_day_and_excludes_the_first() -> None:
    assert sessions_between("SPY", day("2024-03-01"), day("2024-03-08")) == 5
    assert sessions_between("SPY", day("2024-03-01"), day("2024-03-03")) == 0
    assert sessions_between("SPY", day("2024-03-08"), day("2024-03-01")) == 0
    assert sessions_between("BTC-USD", day("2024-03-01"), day("2024-03-03")) == 2
    with pytest.raises(DataError, match="outside of what is known"):
        sessions_between("SPY", day("1980-03-01"), day("2024-03-01"))


def test_a_calendar_that_the_library_cannot_build_is_a_one_line_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def get_calendar(*args: object, **kwargs: object) -> None:
        raise NotImplementedError("implemented by subclasses")  # Athens raised this with pandas 3.1

    monkeypatch.setattr("exchange_calendars.get_calendar", get_calendar)
    with pytest.raises(DataError, match="the calendar XKAR cannot be built") as caught:
        next_sessions("OGDC.KA", day("2024-01-05"), 1)
    assert "\n" not in str(caught.value)
    assert "KRONOS_CALENDARS" in str(caught.value)


def test_each_yahoo_suffix_has_a_calendar_or_a_one_line_error() -> None:
    lacking, codes = {}, get_calendar_names()
    for suffix in filter(None, set(_MIC_TO_YAHOO_SUFFIX.values()) | {"KA", "CM", "ME"}):
        try:
            assert calendar_name(f"ABC.{suffix}") in codes
        except DataError as error:
            lacking[suffix] = str(error)
    assert set(lacking) == {"AE", "CA", "CM", "CR", "KW", "QA", "VN", "XD"}
    for text in lacking.values():
        assert "exchange_calendars has no calendar of" in text
        assert "KRONOS_CALENDARS" in text


@pytest.mark.integration
@pytest.mark.parametrize("module", ["markets.symbols", "forecast"])
def test_a_calendar_file_applies_in_any_import_order(module: str, tmp_path: Path) -> None:
    file = tmp_path / "calendars"
    file.write_text("US30,CMES")
    code = (
        f"import tradingbot.{module}; from tradingbot.markets.symbols import calendar_name;"
        "assert calendar_name('US30') == 'CMES'"
    )
    environ = {**os.environ, "KRONOS_CALENDARS": str(file)}
    subprocess.run([sys.executable, "-c", code], check=True, env=environ)


@pytest.mark.integration
def test_importing_calendars_and_data_service_loads_no_source_libraries() -> None:
    code = (
        "import sys, tradingbot.data.service;"
        "bad = {'exchange_calendars', 'yfinance', 'bokeh_sampledata', 'torch'} & set(sys.modules);"
        "sys.exit(str(sorted(bad)) if bad else 0)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
