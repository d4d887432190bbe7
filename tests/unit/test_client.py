"""The client against a real Space process; a scripted server simulates only broken ones."""

import json
import logging
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sqlalchemy import inspect

from tradingbot.client import KronosClient
from tradingbot.data.service import DataService
from tradingbot.errors import (
    ConfigError,
    DataError,
    KronosError,
    SpaceRejected,
    SpaceUnavailable,
    UnknownSymbol,
)
from tradingbot.forecast import Forecast
from tradingbot.persistence.engine import get_db_session, get_engine
from tradingbot.persistence.forecasts import store_forecasts
from tradingbot.settings import Settings, Timeouts, use_timeouts
from tradingbot.space import client as space_client
from tradingbot.space.address import SpaceAddress
from tradingbot.space.client import SpaceClient
from tradingbot.space.wire import prepared

COLUMNS = [
    "target_date", "open", "high", "low", "close", "volume",
    "close_p10", "close_p50", "close_p90", "prob_up",
    "kronos_share",
]  # fmt: skip


@pytest.fixture(scope="module")
def sample() -> DataService:
    return DataService("sample")


@pytest.fixture
def client(space_url: str, sample: DataService) -> Iterator[KronosClient]:
    with KronosClient(space_url, data=sample, timeout=20) as client:
        yield client


@pytest.fixture(autouse=True)
def quick_retries() -> Iterator[None]:
    with use_timeouts(Timeouts(space_backoff=0.01)):
        yield


# a working Space --------------------------------------------------------------------------


def test_a_forecast_has_one_row_per_session_and_states_its_origin(
    client: KronosClient,
) -> None:
    frame = client.predict("AAPL", horizon=5)
    assert frame is not None
    assert list(frame.columns) == COLUMNS
    # the sample's as_of is Thursday, six sessions before its end
    assert [f"{day:%a %Y-%m-%d}" for day in frame["target_date"]] == [
        "Fri 2013-02-22", "Mon 2013-02-25", "Tue 2013-02-26", "Wed 2013-02-27", "Thu 2013-02-28",
    ]  # fmt: skip
    assert (frame["close_p10"] <= frame["close_p50"]).all()
    assert (frame["close_p50"] <= frame["close_p90"]).all()
    assert frame["prob_up"].between(0, 1).all()
    assert frame.attrs["source"] == "space"
    assert frame.attrs["model"] == "kronos-nano"
    assert frame.attrs["as_of"] == datetime(2013, 2, 21)


def test_the_same_candles_give_the_same_forecast_and_another_seed_another(
    client: KronosClient,
) -> None:
    first, again = (client.forecast("IBM", 3) for _ in range(2))
    seeded, seeded_again = (client.forecast("IBM", 3, seed=7) for _ in range(2))
    pd.testing.assert_frame_equal(first, again)
    pd.testing.assert_frame_equal(seeded, seeded_again)
    assert not first["close"].equals(seeded["close"])


def test_one_bad_ticker_does_not_affect_the_others(client: KronosClient) -> None:
    answers = dict(client.forecast_many(["AAPL", "ZZZZ", "MSFT"], horizon=2))
    assert set(answers) == {"AAPL", "ZZZZ", "MSFT"}
    assert isinstance(answers["ZZZZ"], UnknownSymbol)
    for symbol in ("AAPL", "MSFT"):
        answer = answers[symbol]
        assert isinstance(answer, Forecast)
        assert (answer.symbol, answer.horizon, answer.model_name) == (symbol, 2, "kronos-nano")


def test_many_tickers_are_sent_in_batches_and_returned_in_order(
    space_url: str, sample: DataService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(space_client, "BATCH_SERIES", 2)
    histories = {f"T{i}": sample.history("AAPL", bars=40) for i in range(9)}
    requests = prepared(histories, histories.__getitem__, 1, interval="1d", samples=4)
    with SpaceClient(SpaceAddress(space_url)) as client:
        batches = list(client.forecast_batches(requests))
    assert [[symbol for symbol, _ in batch] for batch in batches] == [
        ["T0", "T1"], ["T2", "T3"], ["T4", "T5"], ["T6", "T7"], ["T8"],
    ]  # fmt: skip
    assert all(isinstance(answer, Forecast) for batch in batches for _, answer in batch)


def test_the_space_names_the_impossible_row_of_a_history(
    client: KronosClient, sample: DataService
) -> None:
    broken = sample.history("AAPL", bars=40).copy()
    broken.iloc[17, broken.columns.get_loc("volume")] = 1e300
    [(_, error)] = client.forecast_many({"AAPL": broken}, horizon=1)
    assert isinstance(error, SpaceRejected)
    assert "AAPL: the Space refuses it: row 17" in str(error)


def test_invalid_rows_are_dropped_from_a_history_as_from_a_file(
    client: KronosClient, sample: DataService, caplog: pytest.LogCaptureFixture
) -> None:
    bars = sample.history("AAPL", bars=40)
    broken = bars.copy()
    broken.iloc[17, broken.columns.get_loc("high")] = 1.0
    doubled = pd.concat([broken, bars.iloc[[3]]])
    [(_, answer)] = client.forecast_many({"AAPL": doubled}, horizon=1)
    [(_, expected)] = client.forecast_many({"AAPL": bars.drop(bars.index[17])}, horizon=1)
    assert isinstance(answer, Forecast)
    assert isinstance(expected, Forecast)
    assert answer.bars == expected.bars
    assert caplog.messages[:2] == [
        f"AAPL: bars dropped for missing or impossible prices: 1 of 41, the last of "
        f"{bars.index[17]:%Y-%m-%d}",
        "AAPL: repeated bars dropped, the last of each kept: 1",
    ]


def test_a_history_without_volume_is_forecast_too(
    client: KronosClient, sample: DataService
) -> None:
    prices = sample.history("AAPL", bars=40).drop(columns="volume")
    [(_, answer)] = client.forecast_many({"AAPL": prices}, horizon=1)
    assert isinstance(answer, Forecast)


def test_a_single_missing_volume_keeps_the_others(
    client: KronosClient, sample: DataService, caplog: pytest.LogCaptureFixture
) -> None:
    bars = sample.history("AAPL", bars=40)
    with_gap, with_zero = bars.copy(), bars.copy()
    with_gap.iloc[7, bars.columns.get_loc("volume")] = np.nan
    with_zero.iloc[7, bars.columns.get_loc("volume")] = 0.0
    [(_, found), (_, expected), (_, without)] = [
        next(client.forecast_many({"AAPL": frame}, horizon=1))
        for frame in (with_gap, with_zero, bars.drop(columns="volume"))
    ]
    assert isinstance(found, Forecast)
    assert isinstance(expected, Forecast)
    assert isinstance(without, Forecast)
    assert found.bars == expected.bars != without.bars
    assert caplog.messages == ["AAPL: bars without a volume, which counts as 0: 1"]


def test_a_yfinance_frame_is_forecast_like_your_own(
    client: KronosClient, sample: DataService
) -> None:
    bars = sample.history("AAPL", bars=40)
    titled = bars.rename(columns=str.title)
    downloaded = pd.concat({"AAPL": titled, "MSFT": titled * 2}, axis=1).swaplevel(axis=1)
    expected = client.forecast("AAPL", 2)
    for frame in (bars, downloaded, titled.tz_localize("America/New_York"), titled.reset_index()):
        found = client.forecast("AAPL", 2, history=frame)
        assert list(found["target_date"]) == list(expected["target_date"])
    [(_, apple), (_, other)] = client.forecast_many(dict.fromkeys(("AAPL", "MSFT"), downloaded), 2)
    assert isinstance(apple, Forecast)
    assert isinstance(other, Forecast)
    assert other.last_close == pytest.approx(2 * apple.last_close)


def test_a_history_that_cannot_be_sent_fails_alone_and_says_why(
    client: KronosClient, sample: DataService
) -> None:
    good = sample.history("AAPL", bars=40)
    with_nan, with_text, with_inf = good.copy(), good.astype("object"), good.copy()
    with_nan.iloc[3, 0] = np.nan
    with_text.iloc[3, 0] = "n/a"
    with_inf.iloc[3, 4] = np.inf
    bad: dict[Any, tuple[Any, str]] = {
        "NAN": (with_nan, "NaN or infinity in 1 of 40 bars, the last of 20"),
        "INF": (with_inf, "NaN or infinity in 1 of 40 bars"),
        "TEXT": (with_text, "not a number: could not convert string to float: 'n/a'"),
        "LESS": (good.drop(columns=["open", "low"]), "exactly one column open, low, but ['high', "),
        "TWICE": (pd.concat([good, good], axis=1), "exactly one column open, high, low, close"),
        "NONE": (good.iloc[:0], "the history has no bars"),
        "RANGE": (good.reset_index(drop=True), "expected a DataFrame with a DatetimeIndex"),
        "LIST": ([1, 2], "expected a DataFrame with a DatetimeIndex"),
        "ZONE": (
            good.tz_localize("UTC").tz_convert("Asia/Tokyo"),
            "daily bars at 2013-02-21 09:00",
        ),
        5: (good, "expected a ticker, as text"),
    }
    histories = {symbol: history for symbol, (history, _) in bad.items()}
    answers = dict(client.forecast_many({**histories, "GOOD": good}, horizon=1))
    assert isinstance(answers.pop("GOOD"), Forecast)
    assert list(answers) == list(bad)
    for symbol, answer in answers.items():
        assert isinstance(answer, DataError)
        assert str(answer).startswith(f"{symbol}: ")
        assert bad[symbol][1] in str(answer)


def test_a_daily_bar_with_a_time_zone_keeps_its_date(
    client: KronosClient, sample: DataService
) -> None:
    bars = sample.history("AAPL", bars=40)
    zones = {"AAPL": "UTC", "MSFT": "America/New_York", "SPY": "Asia/Tokyo"}
    histories = {symbol: bars.tz_localize(zone) for symbol, zone in zones.items()}
    for _, answer in client.forecast_many(histories, horizon=1):
        assert isinstance(answer, Forecast)
        assert answer.as_of == datetime(2013, 2, 21)


def test_an_hourly_bar_with_a_time_zone_becomes_utc(
    client: KronosClient, sample: DataService
) -> None:
    bars = sample.history("AAPL", bars=40)
    bars.index = pd.date_range("2013-02-21 09:00", periods=40, freq="h", tz="Asia/Tokyo")
    [(_, answer)] = client.forecast_many({"AAPL": bars}, horizon=1, interval="1h")
    assert isinstance(answer, Forecast)
    assert answer.as_of == datetime(2013, 2, 22, 15)


def test_a_single_ticker_as_text_is_not_split_into_letters(client: KronosClient) -> None:
    [(symbol, answer)] = client.forecast_many("AAPL", horizon=1)
    assert symbol == "AAPL"
    assert isinstance(answer, Forecast)


def test_a_numpy_integer_is_a_valid_horizon(client: KronosClient) -> None:
    frame = client.predict("AAPL", np.int64(3))  # type: ignore[arg-type]
    assert frame is not None
    assert len(frame) == 3


@pytest.mark.parametrize(
    ("symbol", "horizon", "says"),
    [
        ("AAPL", "5", "horizon='5': expected a whole number"),
        ("AAPL", 2.5, "horizon=2.5: expected a whole number"),
        ("AAPL", None, "horizon=None: expected a whole number"),
        ("AAPL", True, "horizon=True: expected a whole number"),
        ("AAPL", 0, "horizon=0: expected a whole number, at least 1"),
        ("AAPL", 257, "horizon=257: expected at most 256 bars"),
        (None, 5, "symbol=None: expected a ticker"),
        (5, 5, "symbol=5: expected a ticker"),
        (" ", 5, "symbol=' ': expected a ticker"),
        (["AAPL"], 5, "symbol=.'AAPL'.: expected a ticker"),
    ],
)
def test_senseless_arguments_are_errors_that_name_the_value(
    client: KronosClient, caplog: pytest.LogCaptureFixture, symbol: Any, horizon: Any, says: str
) -> None:
    for ask in (client.predict, client.forecast):
        with pytest.raises(ValueError, match=says):
            ask(symbol, horizon)
    assert caplog.records == []


def test_a_ticker_is_named_once_in_the_warning(
    client: KronosClient, caplog: pytest.LogCaptureFixture
) -> None:
    assert client.predict("ZZZZ") is None
    [record] = caplog.records
    assert record.getMessage().startswith("No Kronos forecast of ZZZZ: the sample has AAPL")


def test_a_key_invalid_in_a_header_is_refused_without_showing_it(sample: DataService) -> None:
    for key in ("schl\u00fcssel\u20ac", "a\nb"):
        with pytest.raises(ConfigError, match="api_key has characters that no HTTP") as caught:
            KronosClient("http://127.0.0.1:9", data=sample, api_key=key)
        assert key not in str(caught.value)


def test_a_running_space_is_healthy_and_ready(client: KronosClient) -> None:
    assert client.is_healthy()
    health = client.wait_until_ready(timeout=5)
    assert health["model"] == "kronos-nano"
    with pytest.raises(SpaceUnavailable, match=r"not ready within 0\.3 s"):
        client.wait_until_ready(timeout=0.3, other_than=health["boot_id"])


# a broken or missing Space ----------------------------------------------------------------


class ScriptedAnswers:
    """The answers of a server in turn: (status, headers, body), or a callable with side effects."""

    def __init__(self, answers: list[Any]) -> None:
        self.answers = answers
        self.requests: list[tuple[str, dict[str, str]]] = []


@contextmanager
def scripted(*answers: Any) -> Iterator[tuple[str, ScriptedAnswers]]:
    """Run a server with scripted faults; the last answer repeats.

    An answer may be a dict: the first key that the request's body contains selects the answer.
    """
    script = ScriptedAnswers(list(answers))

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            script.requests.append((self.path, dict(self.headers)))
            answer = script.answers.pop(0) if len(script.answers) > 1 else script.answers[0]
            if isinstance(answer, dict):
                answer = next(its for word, its in answer.items() if word in asked)
            if callable(answer):
                answer()
                self.close_connection = True
                return
            status, headers, body = answer
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body if isinstance(body, bytes) else json.dumps(body).encode())

        do_POST = do_GET

        def log_message(self, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", script
    finally:
        server.shutdown()
        server.server_close()


HEALTHY = (200, {}, {"status": "ok", "model": "m", "boot_id": "b"})


def test_predict_returns_none_after_one_warning_that_names_address_and_cause(
    sample: DataService, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    with KronosClient("http://127.0.0.1:9", data=sample) as client, caplog.at_level("WARNING"):
        assert client.predict("AAPL") is None
        assert not client.is_healthy()
    [record] = caplog.records
    assert record.levelno == logging.WARNING
    assert record.getMessage().startswith("No Kronos forecast of AAPL: http")
    assert "http://127.0.0.1:9/predict/batch is out of reach (Connection refused)" in record.message
    assert not list(tmp_path.iterdir()), "looking for a stored forecast makes no database"


def test_without_an_address_predict_returns_none_and_forecast_says_what_to_set(
    sample: DataService, caplog: pytest.LogCaptureFixture, sqlite_url: str
) -> None:
    client = KronosClient(data=sample, sessions=lambda: get_db_session(sqlite_url))
    assert client.predict("AAPL") is None
    assert "KRONOS_SPACE_URL is not set" in caplog.text
    with pytest.raises(ConfigError, match="KRONOS_SPACE_URL"):
        client.forecast("AAPL")


def test_the_stored_forecast_is_used_while_the_space_sleeps(
    client: KronosClient, sample: DataService, sqlite_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    def sessions() -> Any:
        return get_db_session(sqlite_url)

    [(_, forecast)] = client.forecast_many(["GOOG"], horizon=5)
    assert isinstance(forecast, Forecast)
    with sessions() as session:
        store_forecasts(session, [forecast])
    asleep = KronosClient("http://127.0.0.1:9", data=sample, sessions=sessions)
    frame = asleep.predict("goog", horizon=5)
    assert frame is not None
    assert frame.attrs["source"] == "stored"
    np.testing.assert_allclose(frame["close"], [bar.close for bar in forecast.bars])
    assert not caplog.records
    assert asleep.predict("GOOG", horizon=6) is None, "all rows of the horizon, or none"


@pytest.mark.parametrize(
    ("key", "says"), [("wrong", "is not the Space's key: http"), (None, "is not set: http")]
)
def test_a_refused_key_is_a_settings_error(key: str | None, says: str) -> None:
    with (
        scripted((401, {}, {"error": {"code": "x", "message": "no key"}})) as (url, _),
        pytest.raises(ConfigError, match=f"KRONOS_API_KEY {says}.*/metrics answered 401: no key"),
    ):
        SpaceClient(SpaceAddress(url, api_key=key)).check_key()


@pytest.mark.no_tables
def test_looking_for_a_stored_forecast_creates_no_tables(
    sample: DataService, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", database)
    get_engine(database).connect().close()  # create the SQLite file
    assert KronosClient("http://127.0.0.1:9", data=sample).predict("AAPL") is None
    assert inspect(get_engine(database)).get_table_names() == []


@pytest.mark.parametrize(
    ("answer", "kind", "says"),
    [
        ((500, {}, {"error": {"code": "x", "message": "the service failed"}}), SpaceUnavailable,
         "answered 500: the service failed; the Space's log says why"),
        ((503, {}, b"<html>paused</html>"), SpaceUnavailable, "may be paused, asleep or starting"),
        pytest.param((429, {"Retry-After": "0"}, b""), SpaceUnavailable, "its queue is full",
                     marks=pytest.mark.slow),
        ((401, {}, {"error": {"code": "x", "message": "no key"}}), SpaceRejected,
         "answered 401: no key; set KRONOS_API_KEY"),
        ((404, {}, b"<html>404</html>"), SpaceRejected, "check KRONOS_SPACE_URL"),
        ((413, {}, b""), SpaceRejected, "larger than the Space allows"),
        ((307, {"Location": "https://elsewhere/"}, b""), SpaceRejected,
         "a redirect to https://elsewhere/"),
        ((200, {"Content-Type": "text/html"}, b"<html>hello</html>"), SpaceUnavailable,
         "not with JSON (text/html)"),
        ((200, {}, {"results": []}), SpaceUnavailable, "answered 0 results to 1 requests"),
        ((200, {}, {"results": [{"ok": True}]}), SpaceUnavailable, "is not a forecast"),
        ((200, {}, {"results": ["?"]}), SpaceUnavailable, "is not a forecast"),
        ((200, {}, {}), SpaceUnavailable, "without results"),
        (lambda: None, SpaceUnavailable, "out of reach"),
    ],
)  # fmt: skip
def test_each_kind_of_failure_has_its_own_error_that_says_what_to_do(
    answer: Any, kind: type[KronosError], says: str, sample: DataService
) -> None:
    timeout = 3 if "queue" in says else 20  # the client waits this long for a full queue
    with scripted(answer) as (url, _), KronosClient(url, data=sample, timeout=timeout) as client:
        with pytest.raises(kind) as error:
            client.forecast("AAPL")
        assert says in str(error.value)
        assert "\n" not in str(error.value)


@pytest.mark.slow
def test_waiting_in_a_full_queue_is_reported_as_the_cause_of_a_time_out(
    sample: DataService,
) -> None:
    over = threading.Event()
    full = (429, {"Retry-After": "0"}, b"")
    with (
        scripted(full, full, over.wait, HEALTHY) as (url, _),
        KronosClient(url, data=sample, timeout=3) as client,
    ):
        with pytest.raises(SpaceUnavailable, match="its queue is full"):
            client.forecast("AAPL")
        over.set()


def test_a_forecast_for_other_dates_than_requested_is_rejected(sample: DataService) -> None:
    close = float(sample.history("AAPL")["close"].iloc[-1])
    wrong = {
        "ok": True, "symbol": "AAPL", "model": "m", "as_of": "2013-02-21T00:00:00",
        "last_close": close, "samples": 50, "warnings": [],
        "predictions": [
            {"step": 1, "target_date": "2013-02-23T00:00:00", "open": 1, "high": 1, "low": 1,
             "close": 1, "volume": 1, "prob_up": 1,
             "close_quantiles": {f"{i / 20:g}": 1 for i in range(1, 20)}}
        ],
    }  # fmt: skip
    with scripted((200, {}, {"results": [wrong]})) as (url, _):
        client = KronosClient(url, data=sample)
        with pytest.raises(SpaceUnavailable, match="target dates are not those"):
            client.forecast("AAPL", 1)
        wrong["predictions"][0] |= {"target_date": "2013-02-22T00:00:00", "close": "nan"}  # type: ignore[index]
        with pytest.raises(SpaceUnavailable, match=r"predictions\.0\.close='nan': "):
            client.forecast("AAPL", 1)
        client.close()


def test_transient_errors_are_retried(sample: DataService) -> None:
    busy, refusal = (429, {"Retry-After": "1"}, b""), (422, {}, {"error": {"message": "no"}})
    with scripted(busy, (503, {}, b""), lambda: None, refusal) as (url, script):
        client = KronosClient(url, data=sample)
        began = time.monotonic()
        with pytest.raises(SpaceRejected, match="answered 422: no"):
            client.forecast("AAPL")
        assert time.monotonic() - began >= 1, "Retry-After is kept"
        assert len(script.requests) == 4
        client.close()


def test_a_hanging_space_is_given_up_at_the_timeout_and_not_called_again(
    sample: DataService,
) -> None:
    release = threading.Event()
    with scripted(lambda: release.wait(60), HEALTHY) as (url, script):
        client = KronosClient(url, data=sample, timeout=0.3)
        with pytest.raises(SpaceUnavailable, match=r"did not answer within 0\.3 s"):
            client.forecast("AAPL")
        assert [path for path, _ in script.requests].count("/predict/batch") == 1
        release.set()
        client.close()


def test_at_most_two_requests_are_in_flight(
    sample: DataService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(space_client, "BATCH_SERIES", 1)
    at_once, most, second, lock = 0, 0, threading.Event(), threading.Lock()

    def compute() -> None:
        nonlocal at_once, most
        with lock:
            at_once += 1
            most = max(most, at_once)
        if at_once == 2:
            second.set()
        assert second.wait(60)
        with lock:
            at_once -= 1

    with scripted(compute) as (url, _), KronosClient(url, data=sample) as client:
        assert len(list(client.forecast_many(["AAPL", "IBM", "MSFT", "GOOG"]))) == 4
    assert most == 2


def test_closing_the_iterator_stops_further_requests(
    sample: DataService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(space_client, "BATCH_SERIES", 1)
    refusal, full = (422, {}, {"error": {"message": "no"}}), (429, {"Retry-After": "60"}, b"")
    of_each = {b"AAPL": refusal, b"": full}  # whichever arrives first
    others = set(threading.enumerate())
    with scripted(of_each) as (url, script), KronosClient(url, data=sample) as client:
        answers = client.forecast_many(["AAPL", "IBM", "MSFT", "GOOG"])
        next(answers)
        senders = [t for t in threading.enumerate() if t not in others and "(run)" in t.name]
        assert senders
        answers.close()
        for sender in senders:
            sender.join(30)  # shorter than the wait that the Space requested
            assert not sender.is_alive()
        assert len(script.requests) <= 3


@pytest.mark.integration
def test_a_request_in_flight_does_not_delay_the_end_of_the_process(tmp_path: Path) -> None:
    program = """
import sys, time, pathlib
from tradingbot.client import KronosClient
from tradingbot.data.service import DataService
from tradingbot.settings import Settings, Timeouts, use_timeouts
from tradingbot.space import client as space_client
space_client.BATCH_SERIES = 1
def tickers():
    yield "AAPL"
    yield "IBM"
    while not pathlib.Path("asked").exists():
        time.sleep(0.01)
    sys.exit(3)
client = KronosClient(sys.argv[1], data=DataService("sample"))
list(client.forecast_many(tickers()))
"""
    release = threading.Event()

    def hang() -> None:
        (tmp_path / "asked").touch()
        release.wait(60)

    with scripted(hang) as (url, _):
        began = time.monotonic()
        done = subprocess.run([sys.executable, "-c", program, url], cwd=tmp_path, check=False)
        assert done.returncode == 3
        assert time.monotonic() - began < 20
        release.set()


def test_a_full_queue_is_waited_for_as_long_as_an_answer(sample: DataService) -> None:
    settings = Settings(timeouts=Timeouts(space_backoff=0.001))
    full = (429, {"Retry-After": "0"}, b"")
    with scripted(*[full] * 9, (422, {}, {"error": {"message": "no"}})) as (url, script):
        client = KronosClient(url, data=sample, timeout=30, settings=settings)
        with pytest.raises(SpaceRejected, match="answered 422: no"):
            client.forecast("AAPL")
        assert len(script.requests) == 10
        client.close()


def test_batches_after_the_death_of_the_space_fail_at_once(
    sample: DataService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(space_client, "BATCH_SERIES", 1)
    with scripted((500, {}, b"")) as (url, script):
        client = KronosClient(url, data=sample)
        symbols = ["AAPL", "IBM", "MSFT", "GOOG"]
        answers = list(client.forecast_many(symbols))
        assert [symbol for symbol, _ in answers] == symbols
        assert all(isinstance(error, SpaceUnavailable) for _, error in answers)
        paths = sorted(path for path, _ in script.requests)
        assert paths == ["/health", "/predict/batch", "/predict/batch"], "those under way, no more"
        client.close()


def test_requests_carry_the_api_key_and_not_the_hub_token(
    sample: DataService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setenv("KRONOS_API_KEY", "from-the-environment")
    with scripted((401, {}, b"")) as (url, script):
        for key, sent in ((None, "from-the-environment"), ("mine", "mine")):
            client = KronosClient(url, data=sample, api_key=key)
            with pytest.raises(SpaceRejected):
                client.health()
            path, headers = script.requests[-1]
            assert (path, headers["X-API-Key"]) == ("/health", sent)
            client.close()
        assert not any("hf_secret" in str(headers) for _, headers in script.requests)


def test_a_horizon_below_one_is_a_value_error(client: KronosClient) -> None:
    with pytest.raises(ValueError, match="horizon=0"):
        client.forecast("AAPL", 0)


# imports ----------------------------------------------------------------------------------


@pytest.mark.integration
def test_importing_the_client_loads_no_heavy_library_and_has_no_side_effects(
    tmp_path: Path,
) -> None:
    program = """
import sys
def audit(event, args):
    if event in ("socket.connect", "sqlite3.connect", "subprocess.Popen"):
        raise SystemExit(f"{event} {args}")
sys.addaudithook(audit)
from tradingbot.utils.core import KronosClient
heavy = {"torch", "transformers", "langchain_core", "yfinance", "kronos_space"}
print(sorted(heavy & set(sys.modules)))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "[]\n", "")
    assert not list(tmp_path.iterdir())
