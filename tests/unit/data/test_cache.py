"""Bars from Yahoo are fetched once, and again only when Yahoo restates them."""

import logging
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from tests.support.fake_yahoo import FakeYahoo, Market, candles
from tradingbot.data.cache import OVERLAP
from tradingbot.data.circuit_breaker import CircuitBreaker
from tradingbot.data.service import DataService
from tradingbot.data.sources.yahoo import YahooSource
from tradingbot.errors import DataUnavailable, TooFewBars, UnknownSymbol
from tradingbot.markets.calendars import next_sessions
from tradingbot.persistence.candles import read_splits
from tradingbot.persistence.engine import get_db_session
from tradingbot.settings import Timeouts

if TYPE_CHECKING:
    from collections.abc import Callable

SESSIONS = next_sessions("SPY", datetime(2020, 12, 31), 800)  # up to 2024-03-08
MONDAY, TUESDAY = datetime(2024, 3, 4, 22), datetime(2024, 3, 5, 22)  # after New York's close


class Nights:
    """Runs of the job's data service, one per night, with the same database and Yahoo."""

    def __init__(self, url: str, market: Market) -> None:
        self.market = market
        self.yahoo = FakeYahoo(market)
        self.sessions: Callable[[], AbstractContextManager[Session]] = partial(get_db_session, url)

    def service(self, now: datetime, **options: Any) -> DataService:
        return DataService(
            YahooSource(self.yahoo.session()),
            now=now,
            circuit_breaker=CircuitBreaker(
                Timeouts(data_backoff=0.01, data_longest_backoff=0.02, data_limit=0.05)
            ),
            sessions=self.sessions,
            **options,
        )

    def history(self, now: datetime, symbol: str = "SPY", *, bars: int = 100) -> pd.DataFrame:
        self.yahoo.charts.clear()
        return self.service(now).history(symbol, bars=bars)

    def without_cache(self, now: datetime, symbol: str = "SPY", *, bars: int = 100) -> pd.DataFrame:
        yahoo = FakeYahoo(self.market)
        return DataService(YahooSource(yahoo.session()), now=now).history(symbol, bars=bars)

    def rows(self, statement: str) -> list[Any]:
        with self.sessions() as session:
            result = session.execute(text(statement))
            return list(result) if result.returns_rows else []

    @property
    def asked(self) -> list[str]:
        """Return the first day of each request since the last history."""
        return [first for _, first in self.yahoo.asked]


@pytest.fixture
def nights(database: str) -> Nights:
    return Nights(database, Market({"SPY": candles(SESSIONS)}))


@pytest.fixture
def on_sqlite(sqlite_url: str) -> Nights:
    return Nights(sqlite_url, Market({"SPY": candles(SESSIONS)}))


def test_a_second_run_asks_only_for_the_overlap(nights: Nights) -> None:
    first = nights.history(MONDAY)
    assert nights.asked == [f"{MONDAY - timedelta(days=180):%Y-%m-%d}"]
    second = nights.history(MONDAY)
    assert nights.asked == [f"{first.index[-OVERLAP]:%Y-%m-%d}"]
    pd.testing.assert_frame_equal(second, first)
    assert second.attrs["warnings"] == []


def test_the_next_night_adds_only_the_new_bar(nights: Nights) -> None:
    nights.history(MONDAY)
    history = nights.history(TUESDAY)
    assert history.index[-1] == datetime(2024, 3, 5)
    assert len(nights.asked) == 1
    pd.testing.assert_frame_equal(history, nights.without_cache(TUESDAY))
    assert history.index.dtype == nights.without_cache(TUESDAY).index.dtype


def test_after_weeks_without_a_run_missing_bars_are_fetched_in_one_request(nights: Nights) -> None:
    nights.history(datetime(2024, 1, 31, 22))
    history = nights.history(TUESDAY)
    assert len(nights.asked) == 1
    assert nights.asked[0] > "2024-01-20"
    pd.testing.assert_frame_equal(history, nights.without_cache(TUESDAY))


def test_a_split_is_noticed_and_the_whole_history_is_fetched_again(nights: Nights) -> None:
    before = nights.history(MONDAY)
    spy = nights.market.candles["SPY"]
    spy[["open", "high", "low", "close"]] /= 10
    spy["volume"] *= 10
    after = nights.history(TUESDAY)
    assert len(nights.asked) == 2
    assert nights.asked[1] < f"{before.index[0]:%Y-%m-%d}"
    assert after["close"].iloc[0] == pytest.approx(before["close"].iloc[1] / 10)
    pd.testing.assert_frame_equal(after, nights.without_cache(TUESDAY))
    newest = nights.rows("SELECT max(close) FROM historic_data")[0][0]
    assert newest < 200, "none of the old prices is left"
    nights.history(TUESDAY)
    assert len(nights.asked) == 1, "and from then on all is as before"


def test_yahoos_list_of_splits_is_kept_with_the_candles(on_sqlite: Nights) -> None:
    on_sqlite.market.splits = {
        "SPY": {datetime(2023, 12, 1): (20, 1), datetime(2024, 1, 11): (1, 10)},
        "OTHER": {datetime(2024, 1, 12): (2, 1)},
    }
    on_sqlite.history(MONDAY)
    kept = {datetime(2023, 12, 1): 20.0, datetime(2024, 1, 11): 0.1}
    with on_sqlite.sessions() as session:
        assert read_splits(session, "SPY") == kept
        assert read_splits(session, "OTHER") == {}
    on_sqlite.market.splits["SPY"] |= {datetime(2024, 3, 5): (3, 2)}
    on_sqlite.history(TUESDAY)  # requests only the newest bars
    assert on_sqlite.asked > ["2024-02-01"]
    with on_sqlite.sessions() as session:
        assert read_splits(session, "SPY") == kept | {datetime(2024, 3, 5): 1.5}


def test_share_classes_are_requested_in_yahoos_spelling(on_sqlite: Nights) -> None:
    on_sqlite.market.candles["BRK-B"] = candles(SESSIONS, 300)
    history = on_sqlite.history(MONDAY, "BRK.B")
    pd.testing.assert_frame_equal(history, on_sqlite.without_cache(MONDAY, "BRK-B"))


@pytest.mark.parametrize(
    ("column", "factor", "requests"),
    [
        ("close", 1.001, 2),
        ("low", 0.97, 2),
        ("close", 1.00001, 1),  # within rounding
        # volumes are corrected for days; the new value is used without further requests
        ("volume", 1.3, 1),
    ],
)
def test_a_correction_of_prices_beyond_rounding_is_a_restatement(
    on_sqlite: Nights, column: str, factor: float, requests: int
) -> None:
    on_sqlite.history(MONDAY)
    on_sqlite.market.candles["SPY"].loc["2024-02-29", column] *= factor
    history = on_sqlite.history(TUESDAY)
    assert len(on_sqlite.asked) == requests
    pd.testing.assert_frame_equal(history, on_sqlite.without_cache(TUESDAY))


def test_old_prices_are_not_used_once_they_are_known_to_be_restated(nights: Nights) -> None:
    nights.history(MONDAY)
    nights.market.candles["SPY"] /= 2

    def limited(ticker: str) -> bool:
        return len(nights.yahoo.charts) > 1  # the request for the overlap has been answered

    nights.market.refusing = limited
    for _ in range(2):
        with pytest.raises(DataUnavailable, match="Yahoo refuses more requests"):
            nights.history(TUESDAY)
        nights.market.refusing = lambda ticker: True
    nights.market.refusing = lambda ticker: False
    pd.testing.assert_frame_equal(nights.history(TUESDAY), nights.without_cache(TUESDAY))


def test_a_bar_of_a_session_that_has_not_closed_is_neither_used_nor_kept(nights: Nights) -> None:
    trading = datetime(2024, 3, 4, 20, 59)
    assert nights.history(trading).index[-1] == datetime(2024, 3, 1)
    kept = nights.rows("SELECT max(timestamp) FROM historic_data")[0][0]
    assert str(kept).startswith("2024-03-01")
    assert nights.history(MONDAY).index[-1] == datetime(2024, 3, 4)


def test_continuous_markets_use_a_bar_after_the_end_of_the_utc_day(on_sqlite: Nights) -> None:
    days = [datetime(2024, 1, 1) + timedelta(days=n) for n in range(90)]
    on_sqlite.market = Market({"BTC-USD": candles(days)}, zone="UTC")
    on_sqlite.yahoo.chart = on_sqlite.market
    for now, newest in [("2024-03-09T23:59", "2024-03-08"), ("2024-03-10T00:00", "2024-03-09")]:
        history = on_sqlite.history(datetime.fromisoformat(now), "BTC-USD", bars=40)
        assert f"{history.index[-1]:%Y-%m-%d}" == newest


def test_a_ticker_without_volumes_is_cached_without_volumes(nights: Nights) -> None:
    nights.market.candles["SPY"]["volume"] = 0.0  # yfinance reports zeros when there is no volume
    for now in (MONDAY, TUESDAY):
        assert list(nights.history(now).columns) == ["open", "high", "low", "close"]
    assert list(nights.without_cache(TUESDAY).columns) == ["open", "high", "low", "close"]


def test_a_few_days_without_trade_are_volumes_of_0(on_sqlite: Nights) -> None:
    on_sqlite.market.candles["SPY"].loc["2024-02-20":, "volume"] = 0.0  # type: ignore[misc]
    on_sqlite.history(MONDAY)
    history = on_sqlite.history(TUESDAY)
    assert history["volume"].iloc[-1] == 0.0 < history["volume"].iloc[0]
    pd.testing.assert_frame_equal(history, on_sqlite.without_cache(TUESDAY))


def test_a_request_for_more_bars_than_are_cached_fetches_them_once(nights: Nights) -> None:
    nights.history(MONDAY)
    longer = nights.history(TUESDAY, bars=500)
    assert len(longer) == 500
    assert len(nights.asked) == 1
    pd.testing.assert_frame_equal(longer, nights.without_cache(TUESDAY, bars=500))
    nights.history(TUESDAY, bars=500)
    assert nights.asked == [f"{longer.index[-OVERLAP]:%Y-%m-%d}"]
    assert len(nights.history(TUESDAY, bars=50)) == 50
    assert nights.asked == [f"{longer.index[-OVERLAP]:%Y-%m-%d}"]


def test_bars_missing_at_yahoo_are_not_requested_every_night(nights: Nights) -> None:
    nights.market.candles["SPY"] = candles(SESSIONS)[-60:]  # listed in December
    history = nights.history(MONDAY, bars=500)
    assert 50 < len(history) < 60
    nights.history(TUESDAY, bars=500)
    assert nights.asked == [f"{history.index[-OVERLAP]:%Y-%m-%d}"]


def test_too_few_bars_are_also_an_error_from_the_cache(on_sqlite: Nights) -> None:
    on_sqlite.market.candles["SPY"] = candles(SESSIONS)[-20:]
    for _ in range(2):
        with pytest.raises(TooFewBars, match="SPY: 16 usable 1d bars"):
            on_sqlite.history(MONDAY)
    assert len(on_sqlite.asked) == 1


def test_a_month_later_all_is_fetched_again(nights: Nights) -> None:
    nights.history(MONDAY)
    right = nights.market.candles["SPY"].loc["2024-01-03", "close"] + 0.5
    nights.market.candles["SPY"].loc["2024-01-03", "close"] = right  # older than the overlap
    assert nights.history(TUESDAY).loc["2024-01-03", "close"] == right - 0.5
    nights.rows("UPDATE historic_ranges SET fetched_at = '2001-01-01 00:00:00.000000'")
    history = nights.history(TUESDAY)
    assert history.loc["2024-01-03", "close"] == right
    assert len(nights.asked) == 1
    pd.testing.assert_frame_equal(history, nights.without_cache(TUESDAY))


def test_a_bar_that_yahoo_lacks_for_a_while_comes_from_the_cache(on_sqlite: Nights) -> None:
    on_sqlite.history(MONDAY)
    spy = on_sqlite.market.candles["SPY"]
    on_sqlite.market.candles["SPY"] = spy.drop(pd.Timestamp("2024-03-01"))
    history = on_sqlite.history(TUESDAY)
    assert datetime(2024, 3, 1) in history.index
    assert len(on_sqlite.asked) == 1


def test_more_than_a_thousand_bars_are_cached(nights: Nights) -> None:
    days = next_sessions("SPY", datetime(2004, 1, 1), 5000)
    nights.market.candles["SPY"] = candles(days)
    now = days[-1] + timedelta(hours=23)
    history = nights.history(now, bars=4000)
    assert len(history) == 4000
    assert nights.rows("SELECT count(*) FROM historic_data")[0][0] >= 4000
    pd.testing.assert_frame_equal(nights.history(now, bars=4000), history)


def test_hourly_bars_are_not_cached(on_sqlite: Nights) -> None:
    on_sqlite.market.refusing = lambda ticker: True
    with pytest.raises(DataUnavailable):  # the fake market has no hourly bars
        on_sqlite.service(MONDAY).history("SPY", interval="1h")
    assert on_sqlite.rows("SELECT * FROM historic_ranges") == []


def test_upper_and_lower_case_name_the_same_ticker(on_sqlite: Nights) -> None:
    on_sqlite.history(MONDAY)
    on_sqlite.history(MONDAY, "spy")
    assert len(on_sqlite.asked) == 1
    assert on_sqlite.asked[0] > "2024-02-20"


# --- when Yahoo refuses or is down --------------------------------------------------------


def test_when_yahoo_refuses_cached_bars_are_used_with_a_warning(
    nights: Nights, caplog: pytest.LogCaptureFixture
) -> None:
    before = nights.history(MONDAY)
    nights.market.refusing = lambda ticker: True
    history = nights.history(MONDAY)
    pd.testing.assert_frame_equal(history, before)
    refusal = (
        "Yahoo refuses more requests for now (429); try again in some minutes; "
        "the cached bars up to 2024-03-04 are used"
    )
    assert history.attrs["warnings"] == [refusal]
    history = nights.history(datetime(2024, 3, 7, 22))
    age = "the newest bar is of 2024-03-04; sessions since: 3"
    assert history.attrs["warnings"] == [refusal, age]
    assert [record.getMessage() for record in caplog.records] == [
        f"SPY: {refusal}",
        f"SPY: {refusal}; {age}",
    ]


def test_cached_bars_are_used_when_the_network_is_down(on_sqlite: Nights) -> None:
    on_sqlite.history(MONDAY)
    on_sqlite.yahoo.chart = lambda request: (503, "<html>")
    history = on_sqlite.history(TUESDAY)
    assert history.index[-1] == datetime(2024, 3, 4)
    assert "Yahoo could not be asked" in history.attrs["warnings"][0]


def test_an_older_and_shorter_cache_is_used_if_there_is_nothing_better(on_sqlite: Nights) -> None:
    on_sqlite.history(MONDAY)
    on_sqlite.market.refusing = lambda ticker: True
    assert 100 <= len(on_sqlite.history(TUESDAY, bars=500)) < 200


def test_without_enough_cached_bars_a_refusal_is_an_error(on_sqlite: Nights) -> None:
    on_sqlite.market.candles["QQQ"] = candles(SESSIONS)[-20:]
    with pytest.raises(TooFewBars):
        on_sqlite.history(MONDAY, "QQQ")
    on_sqlite.market.refusing = lambda ticker: True
    for symbol in ("SPY", "QQQ"):
        with pytest.raises(DataUnavailable, match=f"{symbol}: Yahoo refuses more requests"):
            on_sqlite.history(MONDAY, symbol)


def test_a_ticker_unknown_to_yahoo_is_not_forecast_from_the_cache(
    on_sqlite: Nights,
) -> None:
    on_sqlite.history(MONDAY)
    del on_sqlite.market.candles["SPY"]
    with pytest.raises(UnknownSymbol):
        on_sqlite.history(TUESDAY)


# --- when the database fails --------------------------------------------------------------


@pytest.mark.parametrize("table", ["historic_data", "historic_ranges"])
def test_a_failing_database_causes_one_warning_and_loses_no_ticker(
    nights: Nights, table: str, caplog: pytest.LogCaptureFixture
) -> None:
    nights.market.candles["QQQ"] = candles(SESSIONS)
    nights.rows(f"DROP TABLE {table}")
    service = nights.service(MONDAY)
    histories = dict(service.histories(["SPY", "QQQ"], bars=100))
    for symbol in ("SPY", "QQQ"):
        pd.testing.assert_frame_equal(histories[symbol], nights.without_cache(MONDAY, symbol))
    warnings = [record.getMessage() for record in caplog.records]
    assert len(warnings) == 1
    assert warnings[0].startswith("candles are fetched without the cache historic_data: ")
    assert table in warnings[0]
    assert "\n" not in warnings[0]


def test_a_failure_while_storing_bars_keeps_the_old_ones(
    nights: Nights, caplog: pytest.LogCaptureFixture
) -> None:
    nights.history(MONDAY)
    count = nights.rows("SELECT count(*) FROM historic_data")
    nights.rows("UPDATE historic_ranges SET fetched_at = '2001-01-01 00:00:00.000000'")
    nights.rows("ALTER TABLE historic_ranges RENAME COLUMN since TO since_when")
    with caplog.at_level(logging.WARNING):
        history = nights.history(TUESDAY)
    pd.testing.assert_frame_equal(history, nights.without_cache(TUESDAY))
    assert nights.rows("SELECT count(*) FROM historic_data") == count
    assert len(caplog.records) == 1


def test_an_unreachable_database_is_not_tried_for_every_ticker(
    sqlite_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    nights = Nights("postgresql://nobody@127.0.0.1:9/none", Market({"SPY": candles(SESSIONS)}))
    tries = []
    reach = nights.sessions

    def sessions() -> AbstractContextManager[Session]:
        tries.append(1)
        return reach()

    nights.sessions = sessions
    service = nights.service(MONDAY)
    for _ in range(3):
        assert len(service.history("SPY", bars=100)) == 100
    assert len(tries) == 1
    assert "127.0.0.1" in caplog.text


def test_local_sources_are_not_cached(on_sqlite: Nights) -> None:
    def refuse() -> AbstractContextManager[Session]:
        raise AssertionError("the database was asked")

    assert len(DataService("sample", sessions=refuse).history("AAPL")) == 500
