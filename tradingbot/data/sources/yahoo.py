"""Candles from Yahoo Finance, through yfinance."""

import atexit
import logging
import shutil
import tempfile
import threading
import warnings
from datetime import datetime, timedelta
from functools import cache
from typing import Any

import pandas as pd

from tradingbot.data.circuit_breaker import RateLimited
from tradingbot.errors import DataError, DataUnavailable, UnknownSymbol
from tradingbot.formatting import cause_text, quoted
from tradingbot.markets.calendars import exchange_timezone
from tradingbot.markets.candles import PRICES
from tradingbot.markets.symbols import yahoo_spelling
from tradingbot.runtime.clock import utcnow
from tradingbot.settings import Timeouts, default_timeouts


class YahooSource:
    """Yahoo Finance through yfinance. Prices are adjusted for splits, not for dividends.

    `session` is a requests or curl_cffi session of your own; yfinance keeps one session a
    process, so the newest one given is used by all. Threads may fetch different tickers at once.
    """

    remote = True
    knows_outcomes = False
    clock_file: str | None = None

    def __init__(self, session: Any = None, *, timeouts: Timeouts | None = None) -> None:
        self._session = session
        self._timeout = (timeouts or default_timeouts()).data_answer

    def load(self) -> None:
        """Import yfinance and set it up; quick once that is done."""
        with _setting_up:
            _yfinance()

    def symbols(self) -> list[str]:
        return []

    def clock(self, horizon: int) -> datetime:
        return utcnow()

    def fetch(self, symbol: str, interval: str, start: datetime, end: datetime) -> pd.DataFrame:
        zone = exchange_timezone(symbol)
        with _setting_up:
            yfinance = _yfinance()
            # Told the time zone, yfinance need not spend a request a ticker on asking for it.
            its_name = yahoo_spelling(symbol)
            yfinance.cache.get_tz_cache().store(its_name.upper(), zone)
            ticker = yfinance.Ticker(its_name, session=self._session)
        from yfinance.exceptions import YFPricesMissingError, YFRateLimitError

        period: dict[str, Any] = {"period": "max"}  # within a day: as far as Yahoo goes back
        if interval == "1d":
            # the end is exclusive, in the exchange's time, and may lie a day behind UTC's
            period = {"start": start.date(), "end": end.date() + timedelta(days=2)}
        try:
            frame = ticker.history(
                interval=interval, auto_adjust=False, actions=True, timeout=self._timeout, **period
            )
        except YFRateLimitError as error:
            raise RateLimited(
                "Yahoo refuses more requests for now (429); try again in some minutes",
                symbol=symbol,
            ) from error
        except YFPricesMissingError as error:
            reason = quoted(error, 200)
            if "No data found" in reason:  # Yahoo's words; yfinance's own are "possibly delisted"
                raise UnknownSymbol("Yahoo does not know this ticker", symbol=symbol) from error
            raise DataError(f"Yahoo has no prices: {reason}", symbol=symbol) from error
        except Exception as error:
            # yfinance lets through whatever its two HTTP libraries, JSON and an answer of another
            # shape raise; one ticker's trouble must not end the others'
            raise DataUnavailable(
                f"Yahoo could not be asked: {cause_text(error)}", symbol=symbol
            ) from error
        finally:
            _forget_answers()
        return _from_yahoo(frame, interval)


def _from_yahoo(frame: pd.DataFrame, interval: str) -> pd.DataFrame:
    bars = frame.rename(columns=str.lower).reindex(columns=[*PRICES, "volume"])
    index = pd.DatetimeIndex(frame.index)
    # a daily bar's date is the session's, in the exchange's time
    days = index.tz_localize(None).normalize()
    bars.index = (days if interval == "1d" else index.tz_convert(None)).rename("timestamp")
    for name, column, nothing in (("splits", "Stock Splits", 1), ("dividends", "Dividends", 0)):
        if column in frame:
            told = frame[column].to_numpy("float64")
            found = (told > 0) & (told != nothing)
            dates = days[found].to_pydatetime()
            bars.attrs[name] = dict(zip(dates, told[found].tolist(), strict=True))
    return bars


_setting_up = threading.Lock()  # yfinance's own stores and singletons are made without one


@cache
def _yfinance() -> Any:
    """yfinance, set up once a process: errors are raised, and nothing goes to the home folder."""
    import yfinance

    folder = tempfile.mkdtemp(prefix="kronos-yfinance-")  # private: it unpickles what it finds
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    yfinance.set_tz_cache_location(folder)
    yfinance.config.debug.hide_exceptions = False
    logging.getLogger("yfinance").setLevel(logging.CRITICAL)  # what it logs, we raise
    # its own filter shows users what pandas 4 will change about it
    warnings.filterwarnings("ignore", category=DeprecationWarning, module="yfinance")
    return yfinance


def _forget_answers() -> None:
    """yfinance remembers answers, failures too, so that a second try would get the first's.

    Those of other threads go with them, which costs nothing: nobody asks twice for the same.
    """
    from yfinance.data import YfData

    YfData.cache_get.cache_clear()
