"""Wrong candles are found, and real market moves are accepted."""

import warnings
from collections.abc import Callable
from datetime import date, datetime, timedelta
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from exchange_calendars import get_calendar
from hypothesis import given, settings
from hypothesis import strategies as st

from tradingbot.data.service import DataService
from tradingbot.data.sources.sample import SampleSource
from tradingbot.errors import ConfigError, DataError
from tradingbot.markets import data_quality
from tradingbot.markets.calendars import calendar_gap, next_sessions, session_close, sessions_of
from tradingbot.markets.column_names import PRICES
from tradingbot.markets.quality_findings import Caller, Finding, Kind
from tradingbot.markets.scale_breaks import scale_breaks
from tradingbot.markets.session_dates import as_utc, session_days
from tradingbot.markets.symbols import calendar_name


def day(text: str) -> datetime:
    return datetime.fromisoformat(text)


def candles(
    symbol: str = "SPY", count: int = 300, *, seed: int = 1, move: float = 0.012
) -> pd.DataFrame:
    """Return a random walk over the sessions from March 2024; each bar opens at the last close."""
    random = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(random.normal(0, move, count)))
    open_ = np.r_[100.0, close[:-1]]
    high = np.maximum(open_, close) * (1 + np.abs(random.normal(0, move / 3, count)))
    low = np.minimum(open_, close) * (1 - np.abs(random.normal(0, move / 3, count)))
    return pd.DataFrame(
        {
            "open": open_,
            "high": high,
            "low": low,
            "close": close,
            "volume": random.lognormal(13.8, 0.3, count),
        },
        index=pd.DatetimeIndex(next_sessions(symbol, day("2024-03-01"), count)),
    )


def kinds(frame: pd.DataFrame, symbol: str = "SPY", interval: str = "1d") -> list[Kind]:
    return [finding.kind for finding in data_quality.find_problems(frame, symbol, interval)]


def scaled(
    frame: pd.DataFrame, rows: slice, factor: float, *, volume: bool = False
) -> pd.DataFrame:
    frame = frame.copy()
    frame.iloc[rows, :4] *= factor
    if volume:
        frame.iloc[rows, 4] /= factor
    return frame


# --- breaks of scale ----------------------------------------------------------------------


RATIOS = [1.25, 1.5, 2.0, 2.5, 3.0, 4.0, 7.0, 10.0, 20.0, 100.0, 1e6, 2 / 3, 0.5, 0.1, 0.04]
# a 5:2 split in the newest bars looks like a crash of 60 %
PLACES = [
    (ratio, at)
    for ratio in RATIOS
    for at in (60, 200, 297, 299)
    if (ratio, at > 200) != (2.5, True)
]


@pytest.mark.parametrize(("ratio", "at"), PLACES)
def test_a_split_that_was_not_applied_is_found_at_its_bar(ratio: float, at: int) -> None:
    [found] = scale_breaks(scaled(candles(), slice(0, at), ratio, volume=True))
    assert found.position == at
    assert found.factor == pytest.approx(1 / ratio, rel=0.03)


@pytest.mark.parametrize("factor", [0.55, 2 / 3, 0.7, 0.75, 1.25, 1.3, 4 / 3, 1.5, 1.8])
@pytest.mark.parametrize("later", [1, 2, 5, 40])
def test_any_reopening_price_after_a_halt_is_accepted(factor: float, later: int) -> None:
    frame = scaled(candles().iloc[: 200 + later], slice(200, 300), factor)
    assert scale_breaks(frame.drop(index=frame.index[195:200])) == []
    hours = [moment + pd.Timedelta(hours=hour) for moment in frame.index[::7] for hour in range(7)]
    by_hour = frame.set_axis(pd.DatetimeIndex(hours[: len(frame)]))
    assert scale_breaks(by_hour.drop(index=by_hour.index[198:200])[:-1]) == []


@pytest.mark.parametrize("ratio", [2.0, 0.1, 0.01])
def test_a_split_during_a_halt_is_found(ratio: float) -> None:
    frame = scaled(candles(), slice(0, 200), ratio, volume=True)
    [found] = scale_breaks(frame.drop(index=frame.index[195:200]))
    assert found.bar == frame.index[200]


@pytest.mark.parametrize("last", [81, 83, 300])
def test_bars_in_pounds_among_pence_are_found(last: int) -> None:
    frame = scaled(candles("BARC.L"), slice(80, last), 0.01)
    [finding] = [
        f for f in data_quality.find_problems(frame, "BARC.L", "1d") if f.kind is Kind.SCALE
    ]
    assert finding.bar is not None
    assert finding.figure == pytest.approx(0.01 if last == 300 else 100, rel=0.05)
    assert "--allow-jumps" in finding.text
    assert ("100:1" if last == 300 else "1:100") in finding.text


@pytest.mark.parametrize(
    ("factor", "cause"),
    [
        (0.6, "a split that was not applied, or a special dividend or spin-off"),
        (0.75, "a split that was not applied, or a special dividend or spin-off"),
        (0.5, "a split that was not applied, or a special dividend or spin-off"),
        (0.25, "a split that was not applied?"),
        (2.0, "a split that was not applied?"),
        (0.01, "another unit?"),
    ],
)
def test_the_possible_causes_of_a_break_are_named(factor: float, cause: str) -> None:
    [found] = data_quality.find_problems(scaled(candles(), slice(200, 300), factor), "SPY", "1d")
    assert found.kind is Kind.SCALE
    assert cause in found.text


def test_a_jump_is_allowed_up_to_the_users_factor() -> None:
    frame = scaled(candles(), slice(0, 200), 20, volume=True)
    assert Kind.SCALE in [
        f.kind for f in data_quality.find_problems(frame, "SPY", "1d", max_jump=10)
    ]
    assert Kind.SCALE not in [
        f.kind for f in data_quality.find_problems(frame, "SPY", "1d", max_jump=20)
    ]


def test_no_real_candle_is_mistaken_for_a_break_with_or_without_volume() -> None:
    source = SampleSource()
    for symbol in source.symbols():
        frame = source.fetch(symbol, "1d", day("2000-01-01"), day("2013-03-01"))
        assert scale_breaks(frame) == []
        assert scale_breaks(frame.drop(columns="volume")) == []


@cache
def sample_candles() -> list[pd.DataFrame]:
    source = SampleSource()
    years = day("2000-01-01"), day("2013-03-01")
    return [source.fetch(symbol, "1d", *years) for symbol in source.symbols()]


def of_the_sample(random: np.random.Generator, *, later: int) -> tuple[pd.DataFrame, int]:
    """Return 150 real candles, a random bar, `later` ones, and the random bar's index."""
    frames = sample_candles()
    frame = frames[random.integers(len(frames))]
    at = int(random.integers(150, len(frame) - later))
    return frame.iloc[at - 150 : at + 1 + later].copy(), 150


@pytest.mark.parametrize("later", [0, 1, 20])
def test_another_unit_is_found_where_only_closes_are_known(later: int) -> None:
    random, found = np.random.default_rng(3), 0
    for factor in [100, 0.01, 10, 0.1] * 10:
        frame, at = of_the_sample(random, later=later)
        closes = pd.DataFrame(dict.fromkeys(PRICES, scaled(frame, slice(0, at), factor)["close"]))
        found += [at] == [scale_break.position for scale_break in scale_breaks(closes)]
    assert found >= 38


@pytest.mark.parametrize("later", [0, 1, 20])
def test_splits_in_real_candles_are_found_in_95_per_cent_of_cases(later: int) -> None:
    random, found = np.random.default_rng(3), 0
    ratios = [2, 3, 3 / 2, 5 / 4, 10, 20, 1 / 10, 1 / 3, 100, 1 / 100] * 10
    for ratio in ratios:
        frame, at = of_the_sample(random, later=later)
        in_pence = ratio in (100, 1 / 100)
        split = scaled(frame, slice(0, at), ratio, volume=not in_pence)
        found += at in [scale_break.position for scale_break in scale_breaks(split)]
    assert found >= 0.92 * len(ratios)


@pytest.mark.parametrize(
    ("later", "trade", "wider", "most"),
    [(0, 4, 1, 0.12), (0, 4, 3, 0.06), (0, 10, 1, 0.02), (1, 4, 1, 0.05), (20, 10, 1, 0.02)],
)
def test_overnight_moves_with_high_volume_are_accepted(
    later: int, trade: float, wider: float, most: float
) -> None:
    random, refused = np.random.default_rng(4), 0
    factors = np.exp(random.uniform(np.log(0.25), np.log(2.5), 120))
    factors = factors[np.abs(np.log(factors)) > 0.22]
    for factor in factors:
        frame, at = of_the_sample(random, later=later)
        frame = scaled(frame, slice(at, len(frame)), factor)
        frame.iloc[at, 4] *= trade
        around = frame["open"].iloc[at]
        frame.iloc[at, :4] = around * (frame.iloc[at, :4] / around) ** wider
        refused += at in [scale_break.position for scale_break in scale_breaks(frame)]
    assert refused <= most * len(factors)


def crash(*factors: float, within: bool, volume: float = 8.0, move: float = 0.02) -> pd.DataFrame:
    """Return daily falls by these factors: within the bars, or overnight with much more volume."""
    frame = candles("BTC-USD", move=move)
    for number, factor in enumerate(factors):
        at = 200 + number
        frame.iloc[at:, :4] *= factor
        frame.iloc[at, 4] *= volume
        if within:
            start, end = frame["close"].iloc[at - 1], frame["close"].iloc[at]
            frame.iloc[at, :3] = [start, max(start, end) * 1.02, min(start, end) * 0.97]
    return frame


@pytest.mark.parametrize(
    ("what", "frame"),
    [
        ("1987: -20 % within the day", lambda: crash(0.795, within=True, volume=3)),
        ("-60 % overnight, then staying", lambda: crash(0.4, within=False)),
        ("-60 % within the day, then staying", lambda: crash(0.4, within=True)),
        ("LUNA: -60 %, then -99 % in days", lambda: crash(0.4, 0.5, 0.06, 0.01, within=True)),
        ("LUNA by closes only, with volume", lambda: crash(0.4, 0.5, 0.06, 0.1, within=False)),
        ("GameStop: +135 %, then -60 %", lambda: crash(2.35, 0.56, 1.7, 0.4, within=False)),
        ("a take-over bid: +98 %, calm", lambda: crash(1.98, within=False, volume=20)),
        ("-60 % overnight, at the newest bar", lambda: crash(0.4, within=False).iloc[:201]),
        ("-60 % with four times the trade", lambda: crash(0.4, within=False, volume=4).iloc[:201]),
        ("-60 %, and one more bar", lambda: crash(0.4, within=False, volume=4).iloc[:202]),
        ("+60 % overnight, at the newest bar", lambda: crash(1.6, within=False).iloc[:201]),
        ("+37 %, no volume", lambda: crash(1.37, within=False).iloc[:201, :4]),
        ("a penny stock that doubles", lambda: candles("BTC-USD", move=0.25)),
    ],
)
def test_a_real_move_is_accepted(what: str, frame: Callable[[], pd.DataFrame]) -> None:
    assert scale_breaks(frame()) == [], what


def test_gamestops_week_is_accepted() -> None:
    before = candles(count=200, move=0.06)
    before = scaled(before, slice(0, 200), 42.0 / before["close"].iloc[-1])
    week = pd.DataFrame(
        [
            [42.59, 44.74, 37.00, 39.36, 47e6],
            [42.59, 76.76, 42.32, 65.01, 197e6],
            [96.73, 159.18, 61.13, 76.79, 178e6],
            [88.56, 150.00, 80.20, 147.98, 178e6],
            [354.83, 380.00, 249.00, 347.51, 93e6],
            [265.00, 483.00, 112.25, 193.60, 58e6],
            [379.71, 413.98, 250.00, 325.00, 50e6],
            [316.56, 322.00, 212.00, 225.00, 37e6],
            [140.76, 158.00, 74.22, 90.00, 78e6],
        ],
        columns=["open", "high", "low", "close", "volume"],
    )
    for end in range(1, len(week) + 1):
        frame = pd.concat([before, week.iloc[:end]])
        frame.index = pd.DatetimeIndex(next_sessions("GME", day("2020-04-01"), len(frame)))
        assert [
            scale_break for scale_break in scale_breaks(frame) if scale_break.position >= 200
        ] == []


# --- spacing, calendar, gaps --------------------------------------------------------------


@pytest.mark.parametrize(
    ("interval", "spacing", "symbol"),
    [
        ("1d", "7D", "SPY"),
        ("1d", "30D", "BTC-USD"),
        ("1d", "1h", "BTC-USD"),
        ("1d", "3D", "BTC-USD"),
        ("1h", "1D", "BTC-USD"),
        ("15m", "1min", "BTC-USD"),
        ("1m", "15min", "BTC-USD"),
    ],
)
def test_bars_of_another_interval_are_refused(interval: str, spacing: str, symbol: str) -> None:
    frame = candles("BTC-USD")
    frame.index = pd.date_range("2021-01-04", periods=len(frame), freq=spacing)
    with pytest.raises(DataError, match=f"these are not bars of {interval}"):
        data_quality.check_quality(frame, symbol, interval, Caller.OWN)


def test_hourly_session_bars_and_sparse_minute_bars_match_their_interval() -> None:
    sessions = next_sessions("SPY", day("2024-03-01"), 20)
    hours = [s + timedelta(hours=14.5 + n) for s in sessions for n in range(7)]
    frame = candles(count=len(hours)).set_index(pd.DatetimeIndex(hours))
    assert Kind.SPACING not in kinds(frame, "SPY", "1h")
    minutes = pd.date_range("2024-03-04", periods=300, freq="1min")[np.r_[0:90, 90:300:2]]
    assert Kind.SPACING not in kinds(
        candles("BTC-USD", len(minutes)).set_index(minutes), "BTC-USD", "1m"
    )


def test_weekend_bars_contradict_a_new_york_listing() -> None:
    with pytest.raises(DataError, match="not sessions of XNYS: this is another market"):
        data_quality.check_quality(candles("BTC-USD"), "COIN1", "1d", Caller.FILES)


@pytest.mark.parametrize("symbol", ["EURUSD", "ES=F"])
def test_sunday_evenings_as_daily_bars_are_refused_with_a_remedy(symbol: str) -> None:
    days = pd.date_range("2025-06-01", "2026-11-25")
    days = days[days.day_of_week != 5]
    frame = candles("BTC-USD", len(days)).set_index(days)
    with pytest.raises(DataError, match=r"Sunday evenings .* join each with Monday's bar"):
        data_quality.check_quality(frame, symbol, "1d", Caller.OWN)


def test_a_special_saturday_is_kept_and_reported(tmp_path: Path) -> None:
    frame = candles("RELIANCE.NS", 120)
    saturday = frame.index[-1] + timedelta(days=(5 - frame.index[-1].weekday()) % 7)
    frame.loc[saturday] = frame.iloc[-1]
    frame.rename_axis("Date").to_csv(tmp_path / "RELIANCE.NS.csv")
    history = DataService(f"csv:{tmp_path}").history("RELIANCE.NS")
    assert history.index[-1] == saturday
    [warning] = history.attrs["warnings"]
    assert f"not sessions of XBOM, the newest bar {saturday:%a %Y-%m-%d}; kept" in warning


def test_missing_and_halted_sessions_are_counted() -> None:
    frame = candles().drop(index=candles().index[100:150])
    frame.iloc[20:25, :4] = 100.0
    frame.iloc[20:25, 4] = 0
    found = {finding.kind: finding for finding in data_quality.find_problems(frame, "SPY", "1d")}
    assert found[Kind.MISSING].figure == 50
    assert "50 of 300 sessions since 2024-03-04 have no bar" in found[Kind.MISSING].text
    assert found[Kind.HALTED].figure == 5


def test_days_before_the_calendar_are_reported_as_unchecked() -> None:
    frame = candles(count=1000)
    frame.index = pd.bdate_range("1995-01-02", periods=1000)
    found: dict[Kind, Finding] = {f.kind: f for f in data_quality.find_problems(frame, "SPY", "1d")}
    assert "could not be checked" in found[Kind.UNCHECKED].text


# --- unfinished bars ----------------------------------------------------------------------


def test_the_bar_of_the_running_day_is_dropped_and_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frame = candles("BTC-USD", 40)
    frame.rename_axis("Date").to_csv(tmp_path / "BTC-USD.csv")
    running = frame.index[-1].to_pydatetime()
    for module in ("service", "sources.csv_files"):
        monkeypatch.setattr(
            f"tradingbot.data.{module}.utcnow", lambda: running + timedelta(hours=9)
        )
    service = DataService(f"csv:{tmp_path}")
    assert service.now() == running + timedelta(hours=9)
    history = service.history("BTC-USD")
    assert history.index[-1] == running - timedelta(days=1)
    [warning] = history.attrs["warnings"]
    assert warning == (
        f"the bar of {running:%Y-%m-%d} is not complete at {running:%Y-%m-%d} 09:00 UTC: left out"
    )


def test_a_given_frame_loses_its_unfinished_bar_with_a_message() -> None:
    frame = candles()
    now = session_close("SPY", frame.index[-1].to_pydatetime()) - timedelta(hours=1)
    bars, warnings = data_quality.check_quality(frame, "SPY", "1d", Caller.OWN, now=now)
    assert len(bars) == 299
    assert "not complete" in warnings[0]


def test_bars_that_are_left_out_have_no_other_finding() -> None:
    frame = candles()
    now = session_close("SPY", frame.index[-1].to_pydatetime())
    later = scaled(frame.tail(30), slice(0, 30), 0.01).assign(volume=0.0)
    later["low"] = later["high"]
    days = pd.date_range(frame.index[-1] + timedelta(days=2), periods=30)
    found = data_quality.find_problems(
        pd.concat([frame, later.set_axis(days)]), "SPY", "1d", now=now
    )
    assert [finding.kind for finding in found] == [Kind.UNFINISHED]
    assert found[0].figure == 30


def test_a_frame_of_unfinished_bars_has_only_that_finding() -> None:
    found = data_quality.find_problems(candles(), "SPY", "1d", now=day("2024-01-01"))
    assert [finding.kind for finding in found] == [Kind.UNFINISHED]


def test_the_clock_of_intraday_bars_is_their_newest_bar(tmp_path: Path) -> None:
    daily, hours = candles("SPY", 60), candles("BTC-USD", 60)
    hours.index = pd.date_range("2025-03-01", periods=60, freq="1h")
    daily.rename_axis("Date").to_csv(tmp_path / "SPY.csv")
    hours.rename_axis("Date").to_csv(tmp_path / "BTC-USD.csv")
    history = DataService(f"csv:{tmp_path}").history("BTC-USD", interval="1h")
    assert history.index[-1] == hours.index[-1]


# --- which session a bar belongs to -------------------------------------------------------


@pytest.mark.parametrize(
    ("symbol", "times", "days"),
    [
        ("7203.T", ["2026-11-18T15:00Z", "2026-11-19T15:00Z"], ["2026-11-19", "2026-11-20"]),
        ("SAP.DE", ["2026-06-18T22:00+00:00", "2026-11-19T23:00Z"], ["2026-06-19", "2026-11-20"]),
        ("EUR_USD", ["2026-11-22T22:00Z", "2026-11-23T22:00Z"], ["2026-11-23", "2026-11-24"]),
        ("EUR_USD", ["2026-06-21T21:00Z", "2026-06-22T21:00Z"], ["2026-06-22", "2026-06-23"]),
        ("SPY", ["2026-11-20T00:00-05:00", "2026-11-23T09:30-05:00"], ["2026-11-20", "2026-11-23"]),
        ("SPY", ["2026-11-20T00:00Z", "2026-11-23T00:00Z"], ["2026-11-20", "2026-11-23"]),
        ("BTC-USD", ["2026-11-21T00:00Z", "2026-11-22T00:00Z"], ["2026-11-21", "2026-11-22"]),
        ("BTC-KRW", ["2026-11-20T15:00Z", "2026-11-21T15:00Z"], ["2026-11-21", "2026-11-22"]),
        ("ES=F", ["2026-11-22T23:00Z", "2026-11-23T23:00Z"], ["2026-11-23", "2026-11-24"]),
        ("SPY", ["2026-11-20 16:00", "2026-11-23 00:00"], ["2026-11-20", "2026-11-23"]),
        # named by their ends: Globex closes as the next session opens, Binance's day just before it
        ("ES=F", ["2026-11-19T23:00Z", "2026-11-20T23:00Z"], ["2026-11-19", "2026-11-20"]),
        ("BTCUSDT", ["2026-11-20T23:59:59.999Z"], ["2026-11-20"]),
        ("EUR_USD", ["2026-11-20T21:59:59Z"], ["2026-11-20"]),
    ],
)
def test_a_daily_bar_belongs_to_its_session(symbol: str, times: list[str], days: list[str]) -> None:
    zoned = "Z" in times[0] or "+" in times[0] or times[0].count("-") > 2
    index = pd.DatetimeIndex(pd.to_datetime(times, utc=zoned))
    assert [f"{found:%Y-%m-%d}" for found in session_days(symbol, index)] == days


@pytest.mark.parametrize(
    ("symbol", "clock"), [("SPY", "16:00"), ("BARC.L", "16:30"), ("0700.HK", "16:00")]
)
def test_daily_bars_named_by_the_usual_close_include_half_days(symbol: str, clock: str) -> None:
    days = pd.DatetimeIndex(next_sessions(symbol, day("2024-01-02"), 400))
    at_close = days + pd.Timedelta(f"{clock}:00")
    closes = [session_close(symbol, moment) for moment in days]
    instant = at_close.tz_localize(sessions_of(symbol).timezone).tz_convert(None)
    assert (instant > pd.DatetimeIndex(closes)).any()  # the half days
    assert session_days(symbol, at_close).equals(days)
    with pytest.raises(DataError, match="without a zone"):  # hours after the close
        session_days(symbol, at_close + timedelta(hours=5))
    rest = pd.date_range(days[0], days[-1]).difference(days)[:3] + pd.Timedelta(f"{clock}:00")
    with pytest.raises(DataError, match="without a zone"):
        session_days(symbol, at_close.union(rest))


@pytest.mark.parametrize(
    ("symbol", "time"),
    [
        ("7203.T", "2026-11-19 22:00"),
        ("EUR_USD", "2026-11-19 22:00"),
        ("BTC-USD", "2026-11-19 8:00"),
    ],
)
def test_a_naive_time_outside_every_session_is_refused(symbol: str, time: str) -> None:
    with pytest.raises(DataError, match="without a zone"):
        session_days(symbol, pd.DatetimeIndex([time]))


# Before and after the clock changes, in both hemispheres
@pytest.mark.parametrize("end", ["2018-02-23", "2018-11-07", "2025-04-09", "2025-10-29"])
@pytest.mark.parametrize(
    "symbol",
    [
        "SPY",
        "BARC.L",
        "SAP.DE",
        "CBA.AX",
        "AIR.NZ",
        "PETR4.SA",
        "COPEC.SN",
        "RELIANCE.NS",
        "TEVA.TA",
        "ES=F",
    ],
)
def test_exchange_times_are_distinguished_from_utc_and_daily_ones_are_sessions(
    symbol: str, end: str
) -> None:
    known = sessions_of(symbol)
    last = known.upto(day(end))
    opens, closes = (
        pd.DatetimeIndex(times[last - 30 : last]) for times in (known.opens, known.closes)
    )
    hours = [
        pd.date_range(*both, freq="1h", inclusive="left")
        for both in zip(opens, closes, strict=True)
    ]
    utc = pd.DatetimeIndex(np.concatenate(hours))
    zoned = utc.tz_localize("UTC").tz_convert(known.timezone)
    for written in (utc, zoned, zoned.tz_localize(None)):
        assert (as_utc(symbol, written) == utc).all()
    for ends in (opens, closes):
        written = ends.tz_localize("UTC").tz_convert(known.timezone)
        assert (session_days(symbol, written) == known.days[last - 30 : last]).all()


# --- names and calendars ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("calendar", "names"),
    [
        ("24/7", "BTCUSDT BTC/USDT BTC/USDT:USDT BTC_USDT BTC-PERP BTCUSD_PERP PEPEUSDT XBTUSD"),
        ("24/7", "ETHBTC 1000SHIBUSDT BTC-USDT-SWAP BTCUSDT.P btcusdt SOL/EUR BTC_USD tBTCUSD"),
        ("24/5", "EURUSD EUR_USD EUR/USD EURUSDm EURUSD.pro XAUUSD XAU_USD GBPJPY EUR-USD"),
        ("XSHG", "600519 000001 300750 SH600519 sz.000001 600519.XSHG 000001.XSHE"),
        ("24/7", "XBTUSDTM XBTMH26 PF_XBTUSD FI_XBTUSD_260327 PF_EURUSD XBTUSDTZ26 BTC-PERPETUAL"),
        ("24/7", "BTC_USDC-PERPETUAL BTC-27MAR26-100000-C BTC-USD_UM-SWAP BTCUSDT_UMCBL BTCUSDm"),
        ("24/7", "tBTCF0:USTF0 BTC-PERP-INTX BTCUSD.r DOGEUSDT KRW-BTC FARTCOINUSDT HYPE/USDC"),
        ("XNYS", "AETH ETH GBTC TUSD BRK-B MADEUP1 USD BRK.B BF.A BRK/B AAPL.US T001 USDX BCO"),
        ("XBOM", "NIFTY50 SENSEX ^NSEI"),
        ("XETR", "STOXX50E SX5E ^STOXX50E"),
        ("CMES", "ES1! NQH26 CLF27.NYM ES=F"),
    ],
)
def test_known_spellings_of_tickers_are_translated(calendar: str, names: str) -> None:
    assert {name: calendar_name(name) for name in names.split()} == dict.fromkeys(
        names.split(), calendar
    )


REFUSED_NAMES = """
    SPX500_USD US500 USOIL 7203 005930 NYSE:A STOXX50 SPX500 GER40 GER40.cash US30 NAS100 UK100GBP
    JP225Cash NIFTY_50 XBRUSD BRENTUSD XPBUSD WHEATUSD NATGAS CRUDEOIL US10Y PENGUUSD S&P500 @107
    AAPL_1D US0378331005 SPY260116C00650000 500325
"""


@pytest.mark.parametrize("name", REFUSED_NAMES.split())
def test_an_ambiguous_spelling_is_refused_and_the_message_names_the_setting(name: str) -> None:
    with pytest.raises(DataError, match="KRONOS_CALENDARS"):
        calendar_name(name)


def test_a_calendar_file_decides_the_exchange(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "calendars.csv"
    file.write_text("ticker,exchange\nUS500,CMES  # a contract\nspy,24/7\n")
    monkeypatch.setenv("KRONOS_CALENDARS", str(file))
    assert calendar_name("US500") == "CMES"
    assert calendar_name("SPY") == "24/7"
    file.write_text("US500,XNOWHERE\n")
    with pytest.raises(ConfigError, match=r"line 1: 'US500,XNOWHERE': expected a ticker and"):
        calendar_name("US500")


@cache
def real_sessions(calendar: str) -> pd.DatetimeIndex:
    with warnings.catch_warnings():  # exchange_calendars uses features that pandas 4 will change
        warnings.simplefilter("ignore", DeprecationWarning)
        sessions = get_calendar(calendar, start="2014-12-01", end="2026-12-31").sessions
    return pd.DatetimeIndex(sessions)


@pytest.mark.parametrize("symbol", ["SPY", "7203.T", "SAP.DE", "600519", "BTCUSDT", "ES=F"])
@given(day_in=st.dates(date(2015, 1, 1), date(2026, 6, 30)), count=st.integers(1, 60))
@settings(max_examples=20, deadline=None)
def test_targets_are_the_next_real_sessions(symbol: str, day_in: date, count: int) -> None:
    sessions = real_sessions(calendar_name(symbol))
    seen = sessions[sessions <= pd.Timestamp(day_in)]
    real = sessions[len(seen) : len(seen) + count]
    found = next_sessions(symbol, seen[-1].to_pydatetime(), count)
    assert pd.DatetimeIndex(found[: len(real)]).equals(pd.DatetimeIndex(real).as_unit("us"))


def test_a_calendar_ending_with_the_year_continues_by_weekdays() -> None:
    monday = day("2027-01-04")
    assert next_sessions("600519.SS", day("2026-12-31"), 3)[1:] == [monday, day("2027-01-05")]
    assert session_close("600519.SS", monday) == day("2027-01-04T07:00")
    assert "recorded up to 2026-12-31" in str(calendar_gap("600519.SS", monday))
    assert calendar_gap("SPY", monday) is None
