"""Impossible answers of a Space are rejected, and fail only their own ticker."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pandas as pd
import pytest

from tests.support.hostile import DEEP, fault_of, good_result, try_space, with_literal
from tradingbot.errors import KronosError, SpaceRejected, SpaceUnavailable
from tradingbot.forecast import Forecast, Reconstruction
from tradingbot.space.answers import read_health, read_results
from tradingbot.space.decoding import answer_bytes, decode
from tradingbot.space.wire import SeriesRequest, prepare

NOW = datetime.now(UTC).replace(tzinfo=None)


def request_of(symbol: str = "SPY", interval: str = "1d") -> SeriesRequest:
    days = pd.bdate_range("2024-01-02", periods=40).as_unit("us")
    bars = pd.DataFrame(dict.fromkeys(["open", "high", "low", "close", "volume"], 100.0), days)
    return prepare(symbol, bars, horizon=2, interval=interval, samples=50)


REQUEST = request_of()


def answer(result: Any) -> Forecast | KronosError:
    return decode(REQUEST, result, made_at=NOW)


def changed(path: str, value: Any) -> dict[str, Any]:
    """Return the valid result with another value at a path, such as "predictions.0.close"."""
    result = good_result(REQUEST)
    *way, last = [int(part) if part.isdecimal() else part for part in path.split("/")]
    holder: Any = result
    for key in way:
        holder = holder[key]
    holder[last] = value
    return result


@pytest.mark.parametrize(
    ("paths", "says"),
    [
        (None, "it lacks the paths that were asked for"),
        ([[[1.0] * 5] * 2], "its paths have not the shape"),
        ([[[1.0, 1.0, 0.0, 1.0, 0.0]] * 2] * 50, "its paths have prices of 0"),
    ],
)
def test_paths_without_readable_events_are_rejected(paths: Any, says: str) -> None:
    asked = replace(REQUEST, paths=True)
    found = decode(asked, {**good_result(asked), "paths": paths}, made_at=NOW)
    assert isinstance(found, SpaceUnavailable)
    assert says in str(found)


def test_a_good_answer_is_a_forecast() -> None:
    forecast = answer(good_result(REQUEST))
    assert isinstance(forecast, Forecast)
    assert fault_of(REQUEST, forecast) is None
    assert (forecast.bars[1].close, forecast.bars[1].close_quantiles[0.5]) == (101.0, 100.0)


BAR = "predictions/1"


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        (f"{BAR}/close", -5, "predictions.1.close=-5: Input should be greater than 0"),
        (f"{BAR}/close", 0, "predictions.1.close=0:"),
        (f"{BAR}/close", 1e308, "step 2: close=1e+308: expected a price like those of the history"),
        (f"{BAR}/close", 1e-300, "step 2: close=1e-300"),
        (f"{BAR}/close", float("nan"), "predictions.1.close=nan: Input should be a finite number"),
        (f"{BAR}/close", float("inf"), "predictions.1.close=inf"),
        (f"{BAR}/close", "12.5", "predictions.1.close='12.5': Input should be a valid number"),
        (f"{BAR}/close", True, "predictions.1.close=True: Input should be a valid number"),
        (f"{BAR}/close", None, "predictions.1.close=None"),
        (f"{BAR}/high", 100.5, "step 2: high=100.5: expected at least 101.0"),
        (f"{BAR}/low", 100.5, "step 2: low=100.5: expected at most 100.0"),
        (f"{BAR}/volume", -1, "predictions.1.volume=-1"),
        (f"{BAR}/volume", 1e300, "predictions.1.volume=1e+300"),
        (f"{BAR}/prob_up", 5, "predictions.1.prob_up=5: Input should be less than or equal to 1"),
        (f"{BAR}/prob_up", -0.1, "predictions.1.prob_up=-0.1"),
        (f"{BAR}/close_quantiles/0.1", 150.0, "step 2: close_quantiles=[91.0, 150.0"),
        (f"{BAR}/close_quantiles/0.05", -1.0, "predictions.1.close_quantiles.0.05=-1.0"),
        (f"{BAR}/close_quantiles/0.05", 1e-12, "step 2: p5=1e-12"),
        (f"{BAR}/close_quantiles/0.95", 1e9, "step 2: p95=1000000000.0"),
        (f"{BAR}/close_quantiles/0.07", 91.5, "expected the levels 0.05 to 0.95"),
        (f"{BAR}/close_quantiles/0.10", 92.0, "expected the levels 0.05 to 0.95"),
        (f"{BAR}/close_quantiles", {}, "expected the levels 0.05 to 0.95"),
        (f"{BAR}/close_quantiles", dict.fromkeys(map(str, range(999)), ""), "at most 99 entries"),
        (f"{BAR}/step", 3, "its 2 predictions are not steps 1 to 2"),
        (f"{BAR}/step", 2.0, "predictions.1.step=2.0: Input should be a valid integer"),
        (f"{BAR}/target_date", "2024-02-27T00:00:00", "its target dates are not those"),
        (f"{BAR}/target_date", "tomorrow", "predictions.1.target_date='tomorrow'"),
        (f"{BAR}/target_date", 5, "predictions.1.target_date=5: expected a time"),
        ("predictions", [], "its 0 predictions are not steps 1 to 2"),
        ("predictions", [{}] * 999, "predictions.0.step is missing"),
        ("last_close", 101.0, "last_close=101.0: expected 100.0"),
        ("last_close", "100", "last_close='100'"),
        ("as_of", "2024-02-23T00:00:00", "expected 2024-02-26 00:00:00"),
        ("symbol", "QQQ", "symbol='QQQ': expected 'SPY'"),
        ("interval", "1h", "interval='1h': expected '1d'"),
        ("samples", 51, "samples=51: expected 50"),
        ("samples", float("inf"), "samples=inf: Input should be a valid integer"),
        ("samples", True, "samples=True"),
        ("seed", 1, "seed=1: expected"),
        ("model", "m\0", r"model='m\x00': expected visible characters"),
        ("model", "\x1b[31mred", r"model='\x1b[31mred'"),
        ("model", "\u202eabc", r"model='\u202eabc'"),
        ("model", "\ud800", r"model='\ud800'"),
        ("model", "x" * 300, "at most 200 characters"),
        ("model", "", "model=''"),
        ("model_revision", "a\nb", r"model_revision='a\nb'"),
        ("warnings", [1], "warnings.0=1"),
        ("reconstruction", {"close": 1.0}, "reconstruction.factor is missing"),
        ("reconstruction", 1.0, "reconstruction=1.0: expected a JSON object"),
        ("reconstruction/close", float("nan"), "reconstruction.close=nan"),
        ("reconstruction/close", 200.0, "reconstruction.factor=0.990"),
        ("reconstruction/close", "101", "reconstruction.close='101'"),
        ("reconstruction/factor", 0, "reconstruction.factor=0"),
        ("reconstruction/factor", -1.0, "reconstruction.factor=-1.0"),
        ("reconstruction/factor", float("inf"), "reconstruction.factor=inf"),
        ("reconstruction/factor", 1.5, "reconstruction.factor=1.5: expected 1, or 100.0 ÷ 101.0"),
        ("ok", 1, "ok=1"),
        ("ok", "false", "ok='false'"),
    ],
)
def test_an_impossible_value_is_refused_with_its_ticker_field_and_value(
    path: str, value: Any, says: str
) -> None:
    error = answer(changed(path, value))
    assert isinstance(error, SpaceUnavailable)
    assert str(error).startswith("SPY: the Space's answer is not a forecast: ")
    assert says in str(error)
    assert str(error).isprintable()
    assert len(str(error)) < 700


@pytest.mark.parametrize("field", ["symbol", "model", "as_of", "last_close", "samples", BAR])
def test_a_missing_field_is_refused(field: str) -> None:
    result = good_result(REQUEST)
    if field == BAR:
        del result["predictions"][1]["prob_up"]
        field = "predictions.1.prob_up"
    else:
        del result[field]
    assert f"not a forecast: {field} is missing" in str(answer(result))


def test_answers_of_older_and_newer_spaces_are_accepted() -> None:
    older = good_result(REQUEST)
    for field in ("interval", "seed", "model_revision", "warnings", "reconstruction"):
        del older[field]
    newer = {**good_result(REQUEST), "horoscope": {"close": 1.0}, "paths": [[]]}
    for result in (older, newer):
        forecast = answer(result)
        assert isinstance(forecast, Forecast)
        assert forecast.seed == REQUEST.seed


@pytest.mark.parametrize("revision", ["f4e68697", None])
def test_anchored_forecasts_have_another_revision_than_those_of_an_older_space(
    revision: str | None,
) -> None:
    newer = answer(changed("model_revision", revision))
    assert isinstance(newer, Forecast)
    assert newer.model_revision == f"{revision or ''}+anchored"
    assert newer.reconstruction == Reconstruction(close=101.0, factor=1 / 1.01)
    assert newer.to_frame("space").attrs["reconstruction"] == {"close": 101.0, "factor": 1 / 1.01}

    result = changed("model_revision", revision)
    del result["reconstruction"]
    older = answer(result)
    assert isinstance(older, Forecast)
    assert (older.model_revision, older.reconstruction) == (revision, None)
    assert older.to_frame("space").attrs["reconstruction"] is None


def test_paths_that_could_not_be_anchored_count_among_the_anchored_ones() -> None:
    """A Space that anchors serves them too, so they belong to its record."""
    forecast = answer(changed("reconstruction", {"close": -3.0, "factor": 1.0}))
    assert isinstance(forecast, Forecast)
    assert forecast.model_revision == "+anchored"
    assert forecast.reconstruction == Reconstruction(close=-3.0, factor=1.0)


def test_a_high_below_the_close_by_rounding_is_corrected() -> None:
    forecast = answer(changed(f"{BAR}/high", 101.0 * (1 - 1e-9)))
    assert isinstance(forecast, Forecast)
    assert forecast.bars[1].high == 101.0


def test_times_inferred_by_the_space_follow_the_history_in_order() -> None:
    request = request_of(interval="1h")
    for dates, fine in [
        (("2024-02-27T00:00:00", "2024-02-28T00:00:00Z"), True),
        (("2024-02-26T00:00:00", "2024-02-28T00:00:00"), False),
        (("2024-02-27T00:00:00", "2024-02-27T00:00:00"), False),
        (("2024-02-27T00:00:00", "9999-12-31T00:00:00"), False),
    ]:
        result = good_result(request) | {
            "predictions": [
                {**bar, "step": step, "target_date": date}
                for step, date in enumerate(dates, start=1)
                for bar in good_result(REQUEST)["predictions"][:1]
            ]
        }
        got = decode(request, result, made_at=NOW)
        assert isinstance(got, Forecast) == fine, got


def test_refusals_and_warnings_are_shortened_to_one_line() -> None:
    message = "row 17:\n\x1b[31mno\u009b " + "x" * 5000
    refused = answer({"ok": False, "symbol": "SPY", "error": {"message": message}})
    assert isinstance(refused, SpaceRejected)
    assert refused.reason.startswith("the Space refuses it: row 17: [31mno xxx")
    assert len(refused.reason) < 600
    forecast = answer(changed("warnings", [message] * 99))
    assert isinstance(forecast, Forecast)
    assert len(forecast.warnings) == 20
    assert all(line.isprintable() and len(line) <= 500 for line in forecast.warnings)


# JSON -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "literal",
    ["NaN", "9" * 400, "9" * 5000, "[" * DEEP + "]" * DEEP, '"\\ud800"', "nonsense", '"\\x"', "[]"],
)
@pytest.mark.parametrize("path", [("samples",), ("model",), ("predictions", 0, "close")])
def test_one_tickers_broken_json_fails_alone(path: tuple[Any, ...], literal: str) -> None:
    requests = [request_of(symbol) for symbol in ("SPY", "QQQ", "GLD")]
    items = [json.dumps(good_result(request)) for request in requests]
    items[1] = with_literal(good_result(requests[1]), path, literal)
    results = read_results(f'{{"results":[{",".join(items)}]}}'.encode())
    spy, bad, gld = (
        decode(request, result, made_at=NOW)
        for request, result in zip(requests, results, strict=True)
    )
    assert isinstance(spy, Forecast)
    assert isinstance(bad, SpaceUnavailable)
    assert isinstance(gld, Forecast)


def test_brackets_and_quotes_in_a_string_do_not_end_an_item() -> None:
    text = '{"results":[{"a":"],[\\"}","b":nonsense}, 5 ,"x\\\\"]}'
    assert read_results(text.encode()) == ['{"a":"],[\\"}","b":nonsense}', 5, "x\\"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        b"<html>",
        b'{"results":5}',
        b"[" * 10**6,
        b'{"results":["' + b'\\"' * 10**6,
    ],
)
def test_an_answer_without_results_is_an_error_at_once(body: bytes) -> None:
    with pytest.raises(ValueError, match=r"^(not with JSON|without results)$"):
        read_results(body)


def test_incomplete_health_answers_are_rejected() -> None:
    good = {"status": "ok", "model": "m", "boot_id": "b"}
    assert read_health(json.dumps(good | {"more": [1]}).encode()) == good
    for field, value in [
        ("boot_id", 5), ("boot_id", None), ("model", "\x1b[0m"), ("model", "x" * 999),
        ("status", True), ("uptime_s", -1), ("uptime_s", float("inf")), ("model_revision", "\0"),
    ]:  # fmt: skip
        with pytest.raises(ValueError, match=f"^{field}="):
            read_health(json.dumps(good | {field: value}).encode())
    with pytest.raises(ValueError, match="model is missing"):
        read_health(b'{"status":"ok"}')


# a test server --------------------------------------------------------------------------------


def test_the_answer_limit_is_several_times_the_largest_valid_answer() -> None:
    body = json.dumps({"results": [good_result(REQUEST)]}).encode()
    assert answer_bytes([REQUEST]) > 5 * len(body)


@pytest.mark.slow
def test_hostile_answers_over_http_never_store_impossible_rows() -> None:
    outcomes, faults = try_space(150, seed=20, slow=False)
    assert faults == []
    assert min(outcomes["Forecast"], outcomes["SpaceUnavailable"]) > 50
