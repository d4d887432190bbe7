"""The Space client without a Space: how requests are built, and which input cannot be sent."""

from collections.abc import Iterator
from typing import Any

import pandas as pd
import pytest

from tradingbot.errors import ConfigError, DataError, KronosError, SpaceUnavailable, UnknownSymbol
from tradingbot.settings import Settings, Timeouts
from tradingbot.space.address import SpaceAddress
from tradingbot.space.client import SpaceClient
from tradingbot.space.wire import SeriesRequest, prepared

NOWHERE = "http://127.0.0.1:9"


@pytest.fixture
def bars() -> pd.DataFrame:
    """Return forty sessions with a constant price."""
    days = pd.bdate_range("2024-03-04", periods=40).as_unit("us")
    return pd.DataFrame(dict.fromkeys(["open", "high", "low", "close", "volume"], 100.0), days)


@pytest.fixture
def client() -> Iterator[SpaceClient]:
    with SpaceClient(SpaceAddress(NOWHERE, timeouts=Timeouts(space_backoff=0.001))) as client:
        yield client


def requests_of(histories: dict[Any, Any]) -> list[Any]:
    return list(prepared(histories, histories.__getitem__, 2, interval="1d", samples=4))


def test_without_an_address_there_is_no_client() -> None:
    with pytest.raises(ConfigError, match="KRONOS_SPACE_URL is not set: give the Space's address"):
        SpaceClient(SpaceAddress.of(Settings()))


def test_a_request_asks_for_the_next_sessions_of_the_exchange(bars: pd.DataFrame) -> None:
    [request] = requests_of({"SPY": bars.iloc[:19]})  # up to Thursday; Good Friday is a holiday
    assert [f"{day:%a %d %b}" for day in request.targets] == ["Mon 01 Apr", "Tue 02 Apr"]
    assert (request.symbol, request.horizon) == ("SPY", 2)


def test_a_history_that_cannot_be_prepared_fails_alone_with_its_ticker(
    bars: pd.DataFrame,
) -> None:
    def history_of(symbol: str) -> pd.DataFrame:
        if symbol == "GONE":
            raise UnknownSymbol("nobody knows it", symbol=symbol)
        return bars.drop(columns="open") if symbol == "BAD" else bars

    found = list(prepared(["GONE", "BAD", "SPY"], history_of, 2, interval="1d", samples=4))
    [(gone, why_gone), (bad, why_bad), request] = found  # type: ignore[misc]
    assert isinstance(request, SeriesRequest)
    assert isinstance(why_bad, DataError)
    assert (gone, str(why_gone)) == ("GONE", "GONE: nobody knows it")
    assert (bad, why_bad.symbol) == ("BAD", "BAD")
    assert why_bad.reason.startswith("the history needs exactly one column open")


def test_an_unsendable_ticker_fails_without_a_request(client: SpaceClient) -> None:
    error = KronosError("no candles", symbol="SPY")
    assert list(client.forecast_batches([("SPY", error)])) == [[("SPY", error)]]


def test_a_space_out_of_reach_fails_every_ticker_of_every_batch(
    client: SpaceClient, bars: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tradingbot.space.client.BATCH_SERIES", 2)
    symbols = ["SPY", "QQQ", "GLD", "IBM", "AAPL"]
    answers = list(client.forecast_batches(requests_of(dict.fromkeys(symbols, bars))))
    assert [symbol for batch in answers for symbol, _ in batch] == symbols
    assert all(isinstance(error, SpaceUnavailable) for batch in answers for _, error in batch)
    assert not client.is_healthy()


def test_a_silent_space_is_given_up_at_the_time_out(
    client: SpaceClient,
) -> None:
    with pytest.raises(SpaceUnavailable, match=r"was not ready within 0\.01 s: .*out of reach"):
        client.wait_until_ready(timeout=0.01)
