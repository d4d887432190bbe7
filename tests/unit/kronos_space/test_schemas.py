"""Validation of requests, and the messages about invalid ones."""

from typing import Any

import pytest
from pydantic_core import from_json

from kronos_space.exceptions import InvalidRequest
from kronos_space.schemas import read_batch, read_request
from kronos_space.settings import Settings
from tests.support.candles import bars, request


def test_a_request_of_symbol_and_history_gets_the_contracts_defaults() -> None:
    read = read_request({"symbol": "SPY", "ohlcv": bars(32)}, Settings())
    assert (read.horizon, read.interval, read.samples) == (5, "1d", 50)
    assert (read.temperature, read.top_k, read.top_p, read.seed) == (1.0, 0, 1.0, None)
    assert read.quantiles == [0.1, 0.25, 0.5, 0.75, 0.9]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"open": True}, "row 17: open: Input should be a valid number, got true"),
        ({"open": "9.5"}, 'row 17: open: Input should be a valid number, got "9.5"'),
        ({"open": 0}, "row 17: open: Input should be greater than 0, got 0"),
        ({"open": float("inf")}, "row 17: open: Input should be a finite number"),
        ({"open": 10**400}, "row 17: open: Input should be a valid number, got a huge one"),
        ({"volume": -1}, "row 17: volume: Input should be greater than or equal to 0, got -1"),
        ({"volume": None}, "row 17: volume: Input should be a valid number, got null"),
        ({"Close": 1.0}, "row 17: Close: Extra inputs are not permitted"),
        ({"timestamp": 1767571200}, "row 17: timestamp: Input should be a valid string"),
        ({"timestamp": "5 January"}, "row 17: timestamp: Input should be an ISO 8601 date"),
        ({"timestamp": "٢٠٢٦-01-05"}, "row 17: timestamp: Input should be an ISO 8601 date"),
    ],
)
def test_a_value_of_the_wrong_kind_is_named_with_its_row(row: dict, message: str) -> None:
    rows = bars(40)
    rows[17] |= row
    with pytest.raises(InvalidRequest) as error:
        read_request(request(ohlcv=rows), Settings())
    assert message in str(error.value)
    assert error.value.fields[0][0] == f"ohlcv.17.{next(iter(row))}"


def test_a_column_that_is_missing_is_named_with_its_row() -> None:
    rows = bars(40)
    del rows[17]["close"]
    with pytest.raises(InvalidRequest, match="row 17: close: Field required"):
        read_request(request(ohlcv=rows), Settings())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"horizon": 0}, "horizon: Input should be greater than or equal to 1, got 0"),
        ({"horizon": 5.0}, "horizon: Input should be a valid integer, got 5.0"),
        ({"horizon": 257}, "horizon 257: expected at most 256"),
        ({"samples": 1000}, "samples 1000: expected at most 256"),
        ({"temperature": 0}, "temperature: Input should be greater than or equal to 0.001"),
        ({"top_p": 1.5}, "top_p: Input should be less than or equal to 1, got 1.5"),
        ({"seed": -1}, "seed: Input should be greater than or equal to 0"),
        ({"quantiles": [0.5, 1]}, "quantiles.1: Input should be less than 1"),
        ({"symbol": ""}, "symbol: String should match pattern"),
        ({"symbol": "A\nB"}, "symbol: String should match pattern"),
        ({"ohlcv": []}, "0 rows of history: expected 32 to 4096"),
        ({"ohlcv": bars(31)}, "31 rows of history: expected 32 to 4096"),
        ({"ohlcv": None}, "ohlcv: Input should be a valid list"),
        ({"target_timestamps": ["2027-01-01"]}, "1 target_timestamps for a horizon of 3"),
        ({"period": 3}, "period: Extra inputs are not permitted"),
    ],
)
def test_a_field_out_of_bounds_is_named_with_its_value(change: dict, message: str) -> None:
    with pytest.raises(InvalidRequest) as error:
        read_request(request(**change), Settings())
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("events", "message"),
    [
        (["close above 0%", "tuch +2%"], "events.1: event 'tuch +2%': expected touch LEVEL, reach"),
        (["touch {0}"], "events.0: event 'touch {0}': expected touch LEVEL"),
        (["reach +3% before +2%"], "expected one move up and one down"),
        ([2], "events.0: Input should be a valid string, got 2"),
        ("touch +2%", "events: Input should be a valid list"),
        (["touch +2%"] * 21, "21 events: expected at most 20; a second request with the same seed"),
    ],
)
def test_an_invalid_event_is_named_with_what_is_expected(events: Any, message: str) -> None:
    with pytest.raises(InvalidRequest) as error:
        read_request(request(events=events), Settings())
    assert message in str(error.value)
    assert error.value.fields[0][0].startswith("events")


def test_the_settings_limit_history_horizon_and_batch_size() -> None:
    settings = Settings(min_history=10, max_history=40, max_horizon=2, max_batch=3)
    read_request(request(horizon=2, ohlcv=bars(10)), settings)
    with pytest.raises(InvalidRequest, match="41 rows of history: expected 10 to 40"):
        read_request(request(ohlcv=bars(41)), settings)
    with pytest.raises(InvalidRequest, match="horizon 3: expected at most 2"):
        read_request(request(ohlcv=bars(40)), settings)
    with pytest.raises(InvalidRequest, match="4 requests: expected at most 3"):
        read_batch({"requests": [1, 2, 3, 4]}, settings)


def test_defaults_stay_within_the_bounds_of_the_settings() -> None:
    data = request()
    del data["horizon"], data["samples"]
    read = read_request(data, Settings(max_horizon=2, max_samples=3))
    assert (read.horizon, read.samples) == (2, 3)


def test_without_a_horizon_the_number_of_target_timestamps_decides() -> None:
    data = request(target_timestamps=["2027-01-01", "2027-01-04"])
    del data["horizon"]
    assert read_request(data, Settings()).horizon == 2


@pytest.mark.parametrize("data", [[], None, "x", 1, from_json(b"[" * 50 + b"]" * 50)])
def test_a_request_that_is_not_an_object_is_refused(data: Any) -> None:
    with pytest.raises(InvalidRequest, match="should be a JSON object"):
        read_request(data, Settings())


def test_a_batch_is_a_list_with_at_least_one_request() -> None:
    for envelope in ({}, {"requests": []}, {"requests": {}}, {"requests": [1], "x": 1}):
        with pytest.raises(InvalidRequest, match=r"requests|x"):
            read_batch(envelope, Settings())
