"""Yahoo Finance without a network: Yahoo's JSON for the hosts that yfinance requests."""

import json
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from zoneinfo import ZoneInfo

import pandas as pd
import requests

Chart = Callable[[requests.PreparedRequest], tuple[int, str]]
COLUMNS = ["open", "high", "low", "close", "volume"]


class FakeYahoo(requests.adapters.BaseAdapter):
    """Answer chart requests by calling `chart`, and other requests with cookie and crumb."""

    def __init__(self, chart: Chart, *, latency: float = 0.0) -> None:
        super().__init__()
        self.chart = chart
        self.latency = latency
        self.charts: list[str] = []
        self.timeouts: list[Any] = []
        self._lock = threading.Lock()

    @property
    def asked(self) -> list[tuple[str, str]]:
        """Ticker and first day of every request for daily candles."""
        return [(ticker, f"{pd.Timestamp(first, unit='s'):%Y-%m-%d}") for ticker, first in self.all]

    @property
    def all(self) -> list[tuple[str, int]]:
        return [
            (ticker_of(url), int(parse_qs(urlsplit(url).query)["period1"][0]))
            for url in self.charts
        ]

    def session(self) -> requests.Session:
        session = requests.Session()
        session.mount("https://", self)
        return session

    def send(  # type: ignore[override]
        self, request: requests.PreparedRequest, *, timeout: Any = None, **options: Any
    ) -> requests.Response:
        url = str(request.url)
        status, body = 200, "crumb"
        with self._lock:
            self.timeouts.append(timeout)
            if "/v8/finance/chart/" in url:
                self.charts.append(url)
        if "/v8/finance/chart/" in url:
            time.sleep(self.latency)
            status, body = self.chart(request)
        response = requests.Response()
        response.status_code, response.url, response.request = status, url, request
        response._content = body.encode()
        return response

    def close(self) -> None: ...


class Market:
    """A chart that returns the candles of a ticker in the requested range, as Yahoo does.

    Args:
        candles: Frames with COLUMNS by ticker, indexed by the midnights of the sessions.
    """

    def __init__(self, candles: Mapping[str, pd.DataFrame], zone: str = "America/New_York") -> None:
        self.candles = dict(candles)
        self.zone = zone
        # (new shares, old shares) by day
        self.splits: dict[str, dict[datetime, tuple[int, int]]] = {}
        self.refusing: Callable[[str], bool] = lambda ticker: False

    def __call__(self, request: requests.PreparedRequest) -> tuple[int, str]:
        url = str(request.url)
        ticker = ticker_of(url)
        if self.refusing(ticker):
            return 429, "Too Many Requests"
        if ticker not in self.candles:
            return 404, NOT_FOUND
        query = parse_qs(urlsplit(url).query)
        frame = self.candles[ticker]
        stamps = opening(frame.index, self.zone, "9:30")
        inside = [int(query["period1"][0]) <= s < int(query["period2"][0]) for s in stamps]
        if not any(inside):
            return 400, NO_RANGE
        return 200, chart_json(
            [stamp for stamp, keep in zip(stamps, inside, strict=True) if keep],
            frame[inside],
            self.zone,
            splits=dict(
                zip(
                    opening(days := self.splits.get(ticker, {}), self.zone, "9:30"),
                    days.values(),
                    strict=True,
                )
            ),
        )


def candles(days: list[datetime], price: float = 100.0) -> pd.DataFrame:
    """Return one bar for each day, each slightly higher than the one before."""
    rows = [
        [price + i, price + i + 2, price + i - 2, price + i + 1, 5000.0 + i]
        for i in range(len(days))
    ]
    return pd.DataFrame(rows, columns=COLUMNS, index=pd.DatetimeIndex(days))


def ticker_of(url: str) -> str:
    return unquote(urlsplit(url).path.rpartition("/")[2])


def opening(days: Iterable[datetime], zone: str, opens: str) -> list[int]:
    """Return the opening times of these sessions as Unix seconds."""
    hour, minute = map(int, opens.split(":"))
    return [
        int(day.replace(hour=hour, minute=minute, tzinfo=ZoneInfo(zone)).timestamp())
        for day in days
    ]


def chart_json(
    stamps: list[int],
    bars: pd.DataFrame,
    zone: str,
    *,
    unit: str = "1d",
    splits: Mapping[int, tuple[int, int]] | None = None,
) -> str:
    """Return Yahoo's JSON of these bars and of the splits between them; NaN becomes null."""
    columns = {
        name: [None if pd.isna(value) else value for value in bars[name].tolist()]
        for name in COLUMNS
    }
    meta = {
        "currency": "USD",
        "symbol": "X",
        "instrumentType": "EQUITY",
        "exchangeTimezoneName": zone,
        "gmtoffset": 0,
        "timezone": "EST",
        "firstTradeDate": 0,
        "regularMarketTime": stamps[-1],
        "priceHint": 2,
        "dataGranularity": unit,
        "range": "",
        "validRanges": ["1d", "1mo", "1y", "max"],
        "currentTradingPeriod": {
            kind: {
                "timezone": "EST",
                "start": stamps[-1],
                "end": stamps[-1] + 23400,
                "gmtoffset": 0,
            }
            for kind in ("pre", "regular", "post")
        },
    }
    result: dict[str, Any] = {
        "meta": meta,
        "timestamp": stamps,
        "indicators": {"quote": [columns], "adjclose": [{"adjclose": columns["close"]}]},
    }
    events = {
        str(stamp): {
            "date": stamp,
            "numerator": new,
            "denominator": old,
            "splitRatio": f"{new}:{old}",
        }
        for stamp, (new, old) in (splits or {}).items()
        if stamps[0] <= stamp <= stamps[-1]
    }
    if events:
        result["events"] = {"splits": events}
    return json.dumps({"chart": {"result": [result], "error": None}})


def failure(code: str, description: str) -> str:
    return json.dumps(
        {"chart": {"result": None, "error": {"code": code, "description": description}}}
    )


NOT_FOUND = failure("Not Found", "No data found, symbol may be delisted")
NO_RANGE = failure("Bad Request", "Data doesn't exist for startDate = 1, endDate = 2")
EMPTY = json.dumps({"chart": {"result": None, "error": None}})
