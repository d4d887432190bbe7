"""The client for data work: options, paths, long frames and charts, with both clients."""

import asyncio
import json
import pickle
import sys
import threading
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest
import requests

from tests.support.hostile import QUICK, HostileServer, http
from tests.support.market import flat_forecast
from tradingbot import AsyncKronosClient, KronosClient
from tradingbot.client import ForecastFrame
from tradingbot.client.long_frames import LongFrame
from tradingbot.data.service import DataService
from tradingbot.errors import ConfigError, DataError, KronosError, SpaceError, SpaceUnavailable
from tradingbot.forecast import Forecast, quantile_column
from tradingbot.path_events.grammar import parse_event
from tradingbot.persistence.engine import get_db_session
from tradingbot.persistence.forecasts import store_forecasts
from tradingbot.postprocessing.bands import key_of
from tradingbot.postprocessing.combination import State
from tradingbot.postprocessing.combined_forecast import Combination
from tradingbot.postprocessing.repository import store_combination
from tradingbot.settings import Settings
from tradingbot.space.wire import prepare

SAMPLE = DataService("sample")


class BlockingClient:
    """An AsyncKronosClient with blocking methods: each call runs in an event loop."""

    def __init__(self, *args: Any, **options: Any) -> None:
        self._made = args, options

    def __getattr__(self, name: str) -> Callable[..., Any]:
        async def call(*args: Any, **options: Any) -> Any:
            async with AsyncKronosClient(*self._made[0], **self._made[1]) as client:
                result = getattr(client, name)(*args, **options)
                if hasattr(result, "__aiter__"):
                    return [item async for item in result]
                return await result

        return lambda *args, **options: asyncio.run(call(*args, **options))


BOTH = pytest.mark.parametrize("kind", [KronosClient, BlockingClient])


@BOTH
def test_the_options_of_a_forecast_reach_the_space(kind: Any, space_url: str) -> None:
    client = kind(space_url, data=SAMPLE)
    forecast = client.forecast(
        "AAPL", 3, levels=(0.05, 0.95, 0.125), samples=8, temperature=0.5, top_p=0.8, seed=3,
        paths=True,
    )  # fmt: skip
    assert list(forecast.columns)[6:10] == ["close_p5", "close_p12.5", "close_p95", "prob_up"]
    assert forecast.attrs["samples"] == 8
    assert forecast.paths.shape == (8, 3, 5)
    assert forecast.paths.dtype == np.float64
    np.testing.assert_allclose(forecast.paths[:, :, 3].mean(axis=0), forecast["close"])
    assert (forecast.paths[:, :, 1] >= forecast.paths[:, :, 2]).all(), "high and low"
    cold = client.forecast("AAPL", 3, samples=8, temperature=0.001, seed=3, paths=True)
    assert np.ptp(cold.paths[:, :, 3]) < np.ptp(forecast.paths[:, :, 3])


EVENTS = ["touch +1%", "reach +2% before -1%", "close above 0%", "drawdown above 1%"]


@BOTH
def test_events_have_the_spaces_probabilities_with_standard_errors(
    kind: Any, space_url: str
) -> None:
    forecast = kind(space_url, data=SAMPLE).forecast("AAPL", 3, samples=20, events=EVENTS)
    asked = prepare("AAPL", SAMPLE.history("AAPL"), horizon=3, interval="1d", samples=20)
    body = json.loads(asked.body) | {"events": EVENTS}
    answered = requests.post(f"{space_url}/predict", json=body, timeout=60).json()["events"]
    assert [*forecast.columns[-4:]] == EVENTS
    for chance in answered:
        rows = forecast.events[forecast.events["event"] == chance["event"]]
        assert forecast[chance["event"]].tolist() == chance["probability"]
        assert rows["step"].tolist() == [1, 2, 3]
        assert rows["target_date"].tolist() == forecast["target_date"].tolist()
        for name in ("probability", "low", "high"):
            assert rows[name].tolist() == pytest.approx(chance[name])
        missing = [np.nan] * 3
        for name in ("mean", "mean_error"):
            assert rows[name].tolist() == pytest.approx(chance[name] or missing, nan_ok=True)
    assert forecast["close above 0%"].tolist() == forecast["prob_up"].tolist()
    assert forecast.paths is None, "not asked for"


def test_events_agree_with_the_combined_bands_that_are_served(
    space_url: str, sqlite_url: str
) -> None:
    sessions = partial(get_db_session, sqlite_url)
    raw = KronosClient(space_url, data=SAMPLE, sessions=sessions).forecast("AAPL", 3).forecast
    until = np.datetime64(raw.as_of - timedelta(days=1), "s")
    states = {
        ("*", step): State((0.0, 1.0, 2.0, 3.0), sessions=40, forecasts=1234, until=until)
        for step in (1, 2, 3)
    }
    with sessions() as session:
        store_combination(session, Combination(key_of(raw), states))
    client = KronosClient(space_url, data=SAMPLE, sessions=sessions)
    levels = (0.1, 0.3, 0.5, 0.7, 0.9)
    served = client.forecast("AAPL", 3, levels=levels)
    assert served.attrs["calibration"].startswith("combined")
    prices = {
        parse_event(f"close above {served[quantile_column(level)][step]:.4f}").text: (level, step)
        for level in levels
        for step in range(3)
    }
    asked = ["close above 0%", "touch +1%", "close above +1%", *prices]
    events = client.forecast("AAPL", 3, events=asked)
    for event, (level, step) in prices.items():
        assert events[event][step] == pytest.approx(1 - level, abs=1.5 / 50)
    assert events["close above 0%"].tolist() == pytest.approx(events["prob_up"], abs=1.5 / 50)
    assert (events["touch +1%"] >= events["close above +1%"]).all()
    alone = client.forecast("AAPL", 3, events=asked[0], forecast="kronos")
    assert alone["close above 0%"].tolist() == alone["prob_up"].tolist()


@BOTH
def test_events_of_many_tickers_are_columns_too(kind: Any, space_url: str) -> None:
    client = kind(space_url, data=SAMPLE, samples=4)
    long = pd.concat(
        [SAMPLE.history(symbol).assign(symbol=symbol) for symbol in ("AAPL", "IBM")]
    ).reset_index()
    options = {"events": "touch +2%, range above 3%", "paths": True}
    frame = client.forecast_frame(long, 2, **options)
    assert {"touch +2%", "range above 3%"} <= {*frame.columns}
    assert frame["touch +2%"].between(0, 1).all()
    nixtla = client.forecast_frame(long, 2, nixtla=True, **options)
    assert [*nixtla.columns[-2:]] == ["touch +2%", "range above 3%"]
    [(_, single), (_, other)] = client.forecast_many(["AAPL", "IBM"], 2, **options)
    assert single.paths.shape == other.paths.shape == (4, 2, 5)
    assert [chance.event for chance in single.events] == ["touch +2%", "range above 3%"]


@BOTH
def test_an_invalid_event_is_named_in_the_error(kind: Any, space_url: str) -> None:
    client = kind(space_url, data=SAMPLE, samples=2)
    for events, says in (("tuch 5", "event 'tuch 5': expected touch LEVEL"), (5, "events=5: exp")):
        with pytest.raises(ValueError, match=says):
            client.forecast("AAPL", 1, events=events)
    answers = dict(client.forecast_many(["AAPL", "GOOG"], 1, events="reach 100000 before 600"))
    assert "one level above and one below the last close" in str(answers["AAPL"])
    assert isinstance(answers["GOOG"], Forecast)  # its close is between the levels


def test_both_clients_give_the_same_forecast(space_url: str) -> None:
    single = KronosClient(space_url, data=SAMPLE).forecast("IBM", 3)
    other = BlockingClient(space_url, data=SAMPLE).forecast("IBM", 3)
    pd.testing.assert_frame_equal(single, other)
    assert single.attrs == other.attrs
    assert single.paths is None


@BOTH
def test_many_tickers_are_sent_in_batches_and_a_bad_one_fails_alone(
    kind: Any, space_url: str
) -> None:
    asked = ["AAPL", "ZZZZ", *["IBM", "MSFT"] * 10]
    answers = list(kind(space_url, data=SAMPLE, samples=2).forecast_many(asked, 1))
    assert [symbol for symbol, _ in answers if symbol != "ZZZZ"] == ["AAPL", *asked[2:]]
    for symbol, answer in answers:
        assert isinstance(answer, DataError if symbol == "ZZZZ" else Forecast)


MISTAKES: list[tuple[dict[str, Any], str]] = [
    ({"samples": 0}, "samples=0: expected a whole number from 1 to 256"),
    ({"samples": "20"}, "samples='20': expected"),
    ({"temperature": 0}, "temperature=0: expected a number from 0.001 to 100"),
    ({"temperature": float("nan")}, "temperature=nan: expected"),
    ({"top_p": 1.5}, "top_p=1.5: expected a number from 0.001 to 1"),
    ({"seed": -1}, "seed=-1: expected a whole number"),
    ({"levels": (0.1, 0.99)}, "levels=0.99: expected a number from 0.05 to 0.95"),
    ({"levels": "0.1"}, "levels='0.1': expected numbers"),
    ({"horizon": 2.5}, "horizon=2.5: expected"),
]


@BOTH
@pytest.mark.parametrize(("options", "says"), MISTAKES)
def test_wrong_arguments_are_value_errors_that_name_them(
    kind: Any, options: dict[str, Any], says: str
) -> None:
    with pytest.raises(ValueError, match=says):
        kind("http://127.0.0.1:9", data=SAMPLE).forecast("AAPL", **options)


@BOTH
@pytest.mark.parametrize("symbol", [["AAPL"], None, 5, " "])
def test_predict_raises_for_wrong_arguments_and_returns_none_for_outages(
    kind: Any, symbol: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # `make run` leaves a database in the project's folder
    client = kind(settings=quick("http://127.0.0.1:9"), data=SAMPLE)
    with pytest.raises(ValueError, match=r"symbol=.*: expected a ticker"):
        client.predict(symbol)
    with pytest.raises(ValueError, match="horizon=0: expected"):
        client.predict("AAPL", 0)
    assert client.predict("AAPL") is None


# frames -----------------------------------------------------------------------------------


def long(*symbols: str, names: tuple[str, str] = ("ticker", "when")) -> pd.DataFrame:
    """Return candles of several tickers in one long frame, with date and name columns."""
    parts = []
    for symbol in symbols:
        part = SAMPLE.history(symbol, bars=60).reset_index(names=names[1])
        part.insert(0, names[0], symbol)
        parts.append(part)
    return pd.concat(parts).sample(frac=1, random_state=1)  # shuffled


@BOTH
def test_a_long_frame_of_candles_gives_a_long_frame_of_forecasts(kind: Any, space_url: str) -> None:
    candles = long("AAPL", "IBM")
    short = candles[candles["ticker"] == "IBM"].head(3).assign(ticker="NEW")
    client = kind(space_url, samples=4)
    made = client.forecast_frame(
        pd.concat([candles, short]), 2, id_column="ticker", timestamp_column="when"
    )
    assert list(made.columns)[:3] == ["ticker", "when", "open"]
    assert sorted(made["ticker"]) == ["AAPL", "AAPL", "IBM", "IBM"]
    assert list(made.attrs["errors"]) == ["NEW"]
    history = SAMPLE.history("IBM", bars=60)
    alone = client.forecast("IBM", 2, history=history)
    found = made[made["ticker"] == "IBM"].drop(columns="ticker").reset_index(drop=True)
    pd.testing.assert_frame_equal(
        found.rename(columns={"when": "target_date"}), alone.to_frame(), check_like=True
    )


def wide(candles: pd.DataFrame) -> pd.DataFrame:
    """Return a frame like that of `yfinance.download`: prices and tickers as column levels."""
    return candles.pivot(index="when", columns="ticker")


@pytest.mark.parametrize(
    "form",
    [
        lambda frame: frame.set_index(["ticker", "when"]),
        lambda frame: frame.set_index(["when", "ticker"]).rename_axis([None, None]),
        lambda frame: frame.set_index("when"),
        lambda frame: frame.set_index("ticker"),
        lambda frame: frame.assign(when=frame["when"].dt.to_period("D")),
        lambda frame: frame.assign(ticker=frame["ticker"].astype("category")),
        lambda frame: frame.rename(columns={"ticker": "unique_id", "when": "ds"}),
        lambda frame: frame.rename(columns={"ticker": "item_id", "when": "timestamp"}),
        wide,
        lambda frame: wide(frame).swaplevel(axis=1),
        lambda frame: dict(list(frame.set_index("when").groupby("ticker"))),
        lambda frame: frame.assign(ticker=" " + frame["ticker"].str.lower()),
    ],
)
def test_a_frame_of_many_tickers_is_read_in_every_usual_form(
    space_url: str, form: Callable[[pd.DataFrame], Any]
) -> None:
    candles = long("AAPL", "IBM")
    time = "when" if "when" in getattr(form(candles), "columns", []) else None
    with KronosClient(space_url, samples=4) as client:
        plain = client.forecast_frame(candles, 2, timestamp_column="when")
        made = client.forecast_frame(form(candles), 2, timestamp_column=time)
    plain, made = (
        frame.rename(columns={"when": "target_date"})
        .assign(symbol=frame["symbol"].str.strip().str.upper())
        .sort_values(["symbol", "target_date"], ignore_index=True)
        for frame in (plain, made)
    )
    assert made.attrs["errors"] == {}
    pd.testing.assert_frame_equal(made, plain)


def test_ids_keep_their_values_and_type(space_url: str) -> None:
    candles = long("AAPL").assign(ticker="aapl ")
    with KronosClient(space_url, samples=4) as client:
        assert {*client.forecast_frame(candles, 2, timestamp_column="when")["symbol"]} == {"aapl "}


@pytest.mark.parametrize(
    ("frame", "says"),
    [
        (long("AAPL").assign(ticker=None), "ticker is empty in 60 of 60 rows"),
        (long("AAPL").head(0), "the frame has no rows"),
        ({}, "no ticker has candles"),
        ({"aapl": 1, "AAPL": 2}, "'aapl' and 'AAPL' are one ticker"),
        (long("AAPL")[["ticker", "when", "close"]], "Kronos reads candles, not one series"),
        (long("AAPL").drop(columns="when"), "the history has no times"),
    ],
)
def test_a_frame_that_has_no_forecasts_says_why(frame: Any, says: str) -> None:
    time = "when" if "when" in getattr(frame, "columns", []) else None
    with pytest.raises(DataError, match=says):
        KronosClient("http://127.0.0.1:9").forecast_frame(frame, timestamp_column=time)


def test_column_names_of_nixtla_are_available_on_request(space_url: str) -> None:
    candles = long("AAPL", names=("unique_id", "ds"))
    with KronosClient(space_url, samples=4) as client:
        made = client.forecast_frame(candles, 2, nixtla=True)
    assert list(made.columns) == [
        "unique_id", "ds", "Kronos", "Kronos-lo-80", "Kronos-median", "Kronos-hi-80",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"id_column": "name"}, "id_column='name': the frame has open"),
        ({"id_column": "open", "timestamp_column": "t"}, "timestamp_column='t': the frame has"),
        ({}, "no column of tickers among open, .*: name it with id_column="),
    ],
)
def test_a_column_that_is_missing_is_named(options: dict[str, Any], says: str) -> None:
    client = KronosClient(settings=quick("http://127.0.0.1:9"))
    with pytest.raises(DataError, match=says):
        client.forecast_frame(SAMPLE.history("AAPL", bars=40), **options)
    with pytest.raises(DataError, match="expected a DataFrame"):
        client.forecast_frame("AAPL")
    with pytest.raises(KronosError, match="out of reach"):
        client.forecast_frame(long("AAPL"), 1, timestamp_column="when")


def frame_of(forecast: Forecast) -> ForecastFrame:
    return ForecastFrame.of(forecast, "space")


@pytest.fixture
def forecast() -> Forecast:
    numbers = {"last_close": 100.0, "close": 103.0, "low": 99.0, "high": 107.0, "prob_up": 0.8}
    made = flat_forecast("AAPL", datetime(2024, 5, 15), **numbers, model="<b>nano</b>")  # type: ignore[arg-type]
    return replace(made, paths=np.ones((20, 5, 5)))


def test_a_forecast_is_a_frame_without_arguments_and_html(forecast: Forecast) -> None:
    plain = forecast.to_frame()
    assert plain.attrs["source"] is None
    for html in (forecast._repr_html_(), frame_of(forecast)._repr_html_()):
        assert "Kronos forecast of AAPL, 1d, as of 2024-05-15" in html
        assert "&lt;b&gt;nano" in html
        assert "00:00" not in html.partition("<table")[0], "a day has no time"
        assert html.count("<tr") == 6
    assert len(repr(forecast)) < 4000, "the paths are not written out"


def test_a_forecasts_frame_is_a_dataframe_and_its_results_are_ordinary_ones(
    forecast: Forecast,
) -> None:
    frame = frame_of(forecast)
    assert isinstance(frame, pd.DataFrame)
    assert type(frame.to_frame()) is type(frame.head(2)) is type(frame[["close"]]) is pd.DataFrame
    assert frame.to_frame().attrs == frame.attrs
    copy = pickle.loads(pickle.dumps(frame))
    pd.testing.assert_frame_equal(copy, frame)
    assert copy.paths.shape == frame.paths.shape  # type: ignore[union-attr]
    assert frame.paths is forecast.paths


def test_results_of_a_forecasts_frame_can_be_written_to_parquet(
    forecast: Forecast,
) -> None:
    frame = frame_of(forecast)
    made = [frame, frame.to_frame(), forecast.to_frame("space"), frame.head(1), frame.reset_index()]
    made += [frame["close"].to_frame(), pd.concat([frame, frame])]
    for item in made:  # as pandas.io.parquet writes them
        assert json.loads(json.dumps(item.attrs))["as_of"] == "2024-05-15 00:00:00"


def test_attrs_of_a_long_frame_are_json_even_with_numeric_tickers(
    forecast: Forecast,
) -> None:
    assert (
        json.loads(json.dumps(forecast.to_frame("space").attrs))["as_of"] == "2024-05-15 00:00:00"
    )
    error = KronosError("no candles", symbol="700")
    long = LongFrame({}, {"5": np.int64(5), "700": np.int64(700)}, "symbol", "target_date")
    made = long.answer({"5": forecast, "700": error}, levels=(0.5,), nixtla=False)
    assert json.loads(json.dumps(made.attrs)) == {"errors": {"700": "700: no candles"}}
    assert made.attrs["errors"][700] == made.attrs["errors"][np.int64(700)]


def test_as_of_in_attrs_is_text_that_works_like_a_datetime(forecast: Forecast) -> None:
    as_of, time = forecast.to_frame().attrs["as_of"], datetime(2024, 5, 15)
    assert as_of == time
    assert time == as_of
    assert as_of == "2024-05-15 00:00:00"
    for other in (datetime(2024, 5, 16), pd.Timestamp("2024-05-16")):
        assert as_of != other
        assert as_of < other
        assert other > as_of
        assert max(as_of, other) == other
        assert other - as_of == timedelta(days=1)
        assert as_of - other == timedelta(days=-1)
    assert as_of + timedelta(days=1) == datetime(2024, 5, 16)
    assert (as_of.year, as_of.date(), as_of.isoformat()) == (2024, time.date(), time.isoformat())
    assert f"{as_of:%d.%m.%Y}|{as_of:>20}" == "15.05.2024| 2024-05-15 00:00:00"
    assert pd.Timestamp(as_of) == pickle.loads(pickle.dumps(as_of)) == deepcopy(as_of) == time


def test_plot_with_arguments_is_the_plot_of_pandas(
    forecast: Forecast, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[str] = []
    backend = ModuleType("drawing")
    backend.plot = lambda data, kind, **options: drawn.append(kind)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "drawing", backend)
    frame = frame_of(forecast)
    frame.plot(y="close", backend="drawing")
    frame.plot.bar(y="close", backend="drawing")
    assert drawn == ["line", "bar"]


def test_restating_a_forecast_restates_its_paths(forecast: Forecast) -> None:
    paths = forecast.restated(50.0).paths
    assert paths is not None
    assert paths[0, 0].tolist() == [0.5, 0.5, 0.5, 0.5, 2.0]


def test_a_plot_starts_at_the_last_close_and_shows_bands_around_the_median(
    forecast: Forecast,
) -> None:
    band, median = frame_of(forecast).plot().data
    assert median.name == "median"
    assert list(median.y) == [100.0, *[103.0] * 5]
    assert band.name == "80 % band"
    assert max(band.y) == 107.0
    assert min(band.y) == 99.0
    assert len(band.x) == 12
    assert band.mode == median.mode == "lines"
    assert "80 % band 99 to 107" in median.customdata[1]


def test_a_plot_shows_the_closes_before_the_forecast(space_url: str) -> None:
    history = SAMPLE.history("AAPL", bars=100)
    with KronosClient(space_url, samples=4) as client:
        forecast = client.forecast("AAPL", 2, history=history).forecast
    closes = forecast.plot().data[-2]
    assert closes.name == "close"
    assert list(closes.y) == history["close"].tolist()[-60:]
    assert closes.x[-1] == forecast.as_of
    assert forecast.restated(2 * forecast.last_close).recent[0][1] == 2 * closes.y[0]


def test_without_plotly_a_plot_says_how_to_install_it(
    forecast: Forecast, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "plotly.graph_objects", None)
    with pytest.raises(ConfigError, match=r"pip install 'plotly>="):
        forecast.plot()


def test_a_client_shows_its_space_and_no_secret() -> None:
    settings = Settings(space_url="http://127.0.0.1:9", api_key="a-secret", hf_token="hf_secret")
    for kind in (KronosClient, AsyncKronosClient):
        shown = repr(kind(settings=settings, samples=7))
        assert shown == f"{kind.__name__}('http://127.0.0.1:9', samples=7, data='yahoo')"
    assert (
        repr(KronosClient(settings=Settings()))
        == "KronosClient(no Space, samples=50, data='yahoo')"
    )


# the asynchronous client against broken servers -------------------------------------------


def quick(url: str) -> Settings:
    return Settings(space_url=url, timeouts=QUICK, api_key="a-key", space_is_named=True)


def awaited(work: Callable[[AsyncKronosClient], Any], url: str, **options: Any) -> Any:
    async def run() -> Any:
        async with AsyncKronosClient(settings=quick(url), data=SAMPLE, **options) as client:
            return await work(client)

    return asyncio.run(run())


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (http(b"<html>", "200 OK"), "answered 200, but"),
        (http(b"", "503 Wait"), "answered 503; the Space may be paused"),
        (http(b"", "302 Go", "Location: http://elsewhere"), "a redirect to http://elsewhere"),
        (http(b"", "401 No"), "set KRONOS_API_KEY"),
        (http(b'{"error":{"message":"row 3"}}', "422 No"), "answered 422: row 3"),
        (http(b"x" * 3_000_000, "200 OK"), "answered what no Space does: it has more than"),
    ],
)
def test_both_clients_describe_unexpected_answers_alike(answer: bytes, says: str) -> None:
    with HostileServer() as server:
        server.answer = lambda: iter([answer])
        with pytest.raises(SpaceError, match=says):
            awaited(lambda client: client.forecast("AAPL", 1), server.url, timeout=30)
        client = KronosClient(settings=quick(server.url), data=SAMPLE, timeout=30)
        with pytest.raises(SpaceError, match=says):
            client.forecast("AAPL", 1)
        assert any(b"x-api-key: a-key" in head.lower() for head in server.heads)


def test_an_awaited_silent_space_is_given_up_at_the_time_out() -> None:
    with HostileServer() as server:
        server.answer = lambda: iter([1.0])
        with pytest.raises(SpaceUnavailable, match=r"did not answer within 0\.3 s"):
            awaited(lambda client: client.forecast("AAPL", 1), server.url, timeout=0.3)
        assert awaited(lambda client: client.is_healthy(), server.url) is False
        with pytest.raises(SpaceUnavailable, match=r"was not ready within 0\.1 s"):
            awaited(lambda client: client.wait_until_ready(0.1), server.url)


class _BusyThenForwards(BaseHTTPRequestHandler):
    """A server that refuses two requests with a full queue, then forwards requests."""

    left = 2

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        type(self).left -= 1
        status = 429 if self.left >= 0 else 422
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args: Any) -> None:
        pass


def test_a_full_queue_is_waited_for() -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _BusyThenForwards)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        url = f"http://127.0.0.1:{server.server_address[1]}"
        with pytest.raises(SpaceError, match="answered 422"):
            awaited(lambda client: client.forecast("AAPL", 1), url, timeout=60)
    finally:
        server.shutdown()
        server.server_close()


def test_a_client_may_be_used_in_successive_event_loops(space_url: str) -> None:
    client = AsyncKronosClient(space_url, data=SAMPLE, samples=2)
    for _ in range(2):
        assert asyncio.run(client.predict("AAPL", 1)) is not None


def test_cancelling_an_awaited_forecast_ends_its_request() -> None:
    async def program() -> None:
        with HostileServer() as server:
            server.answer = lambda: iter([1.0])
            async with AsyncKronosClient(server.url, data=SAMPLE) as client:
                asking = asyncio.create_task(client.forecast("AAPL", 1))
                while not server.heads:
                    await asyncio.sleep(0.01)
                asking.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await asking

    asyncio.run(program())


def test_the_stored_forecast_replaces_an_awaited_one_too(sqlite_url: str) -> None:
    close = float(SAMPLE.history("AAPL")["close"].iloc[-1])
    numbers = {"last_close": close, "close": close, "low": close, "high": close, "prob_up": 0.5}
    made = flat_forecast("AAPL", datetime(2013, 2, 21), **numbers)  # type: ignore[arg-type]
    with get_db_session(sqlite_url) as session:
        store_forecasts(session, [made])
    found = awaited(
        lambda client: client.predict("AAPL"),
        "http://127.0.0.1:9",
        sessions=lambda: get_db_session(sqlite_url),
    )
    assert found is not None
    assert found.attrs["source"] == "stored"
