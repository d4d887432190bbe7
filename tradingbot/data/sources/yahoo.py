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

    `session` is your own requests or curl_cffi session. yfinance keeps one session per process, so
    the newest one given is used by all instances. Threads may fetch different tickers concurrently.
    """

    remote = True
    knows_outcomes = False
    clock_file: str | None = None

    def __init__(self, session: Any = None, *, timeouts: Timeouts | None = None) -> None:
        self._session = session
        self._timeout = (timeouts or default_timeouts()).data_answer

    def load(self) -> None:
        """Import and configure yfinance. Fast after the first call."""
        with _setup_lock:
            _yfinance()

    def symbols(self) -> list[str]:
        return []

    def clock(self, horizon: int) -> datetime:
        return utcnow()

    def fetch(self, symbol: str, interval: str, start: datetime, end: datetime) -> pd.DataFrame:
        zone = exchange_timezone(symbol)
        with _setup_lock:
            yfinance = _yfinance()
            # with the time zone in its cache, yfinance does not request it for each ticker
            yahoo_symbol = yahoo_spelling(symbol)
            yfinance.cache.get_tz_cache().store(yahoo_symbol.upper(), zone)
            ticker = yfinance.Ticker(yahoo_symbol, session=self._session)
        from yfinance.exceptions import YFPricesMissingError, YFRateLimitError

        period: dict[str, Any] = {"period": "max"}  # intraday: as far back as Yahoo goes
        if interval == "1d":
            # the end is exclusive, in exchange time, which may be a day behind UTC
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
            if "No data found" in reason:  # Yahoo's message; yfinance's own is "possibly delisted"
                raise UnknownSymbol("Yahoo does not know this ticker", symbol=symbol) from error
            raise DataError(f"Yahoo has no prices: {reason}", symbol=symbol) from error
        except Exception as error:
            # yfinance does not catch errors of its HTTP libraries, of JSON or of unexpected
            # responses. All are converted, so that one ticker's failure does not end the others.
            raise DataUnavailable(
                f"Yahoo could not be asked: {cause_text(error)}", symbol=symbol
            ) from error
        finally:
            _forget_answers()
        return _from_yahoo(frame, interval)


def _from_yahoo(frame: pd.DataFrame, interval: str) -> pd.DataFrame:
    bars = frame.rename(columns=str.lower).reindex(columns=[*PRICES, "volume"])
    index = pd.DatetimeIndex(frame.index)
    # a daily bar's date is that of the session, in exchange time
    days = index.tz_localize(None).normalize()
    bars.index = (days if interval == "1d" else index.tz_convert(None)).rename("timestamp")
    for name, column, nothing in (("splits", "Stock Splits", 1), ("dividends", "Dividends", 0)):
        if column in frame:
            values = frame[column].to_numpy("float64")
            found = (values > 0) & (values != nothing)
            dates = days[found].to_pydatetime()
            bars.attrs[name] = dict(zip(dates, values[found].tolist(), strict=True))
    return bars


_setup_lock = threading.Lock()  # yfinance's own stores and singletons are not thread-safe


@cache
def _yfinance() -> Any:
    """Return yfinance, configured once per process.

    It then raises errors instead of logging them, and stores nothing in the home folder.
    """
    import yfinance

    # a new folder that other users cannot write to, because yfinance unpickles files from it
    folder = tempfile.mkdtemp(prefix="kronos-yfinance-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    yfinance.set_tz_cache_location(folder)
    yfinance.config.debug.hide_exceptions = False
    logging.getLogger("yfinance").setLevel(logging.CRITICAL)  # errors that it logs are raised here
    # its own filter shows users deprecation warnings about pandas 4
    warnings.filterwarnings("ignore", category=DeprecationWarning, module="yfinance")
    return yfinance


def _forget_answers() -> None:
    """Clear yfinance's cache of responses, which also keeps failures, so that a retry can succeed.

    This also drops the responses of other threads, which are not needed again.
    """
    from yfinance.data import YfData

    YfData.cache_get.cache_clear()
