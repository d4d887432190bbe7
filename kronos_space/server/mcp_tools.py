"""The tools of `/mcp`. Arguments and results have the schemas of `/predict`.

The service has no candles, so callers send them. All tools are read-only.
"""

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from pydantic_core import from_json, to_jsonable_python

from kronos_space.exceptions import InvalidRequest
from kronos_space.schemas import ForecastRequest, ForecastResponse, HealthResponse
from kronos_space.server.errors import api_error
from kronos_space.settings import Settings
from kronos_space.weights.catalogue import BUNDLED_FILES

logger = logging.getLogger(__name__)

INSTRUCTIONS = (
    "Forecasts of OHLCV candles by Kronos. Send at least the newest 32 candles of a ticker, oldest "
    "first; more are better. A forecast knows these candles and nothing else, and is no advice: "
    "always state its range, and never make one up if there is none."
)
# fields of ForecastRequest that are useless in a conversation
_LEFT_OUT = ("return_paths",)

Schema = dict[str, Any]
Answer = tuple[str, dict[str, Any]]  # as text, and as structured content


@dataclass(frozen=True)
class Tool:
    """A tool with its schemas. `answer` takes the service and the arguments."""

    name: str
    title: str
    about: str
    arguments: Schema
    document: Schema
    answer: Callable[[Any, dict[str, Any]], Awaitable[Answer]]
    is_drawn: bool = False  # shown as a fan chart if the client can


def tools(settings: Settings) -> list[Tool]:
    """Return the tools, with this service's limits in their schemas."""
    return [
        Tool(
            "forecast",
            "Forecast candles",
            "Forecast the next bars of a ticker from its candles (ohlcv): for each bar the "
            "expected candle, quantiles of its close and P(up), over simulated paths.",
            _arguments(settings),
            ForecastResponse.model_json_schema(mode="serialization"),
            _forecast,
            is_drawn=True,
        ),
        Tool(
            "path_events",
            "Ask simulated paths",
            "Ask how likely something is on the way, from a ticker's candles (ohlcv): whether a "
            "price is touched, one level is reached before another (take-profit before "
            "stop-loss), how deep the largest fall is. `events` lists the questions.",
            _arguments(settings, required=("events",)),
            ForecastResponse.model_json_schema(mode="serialization"),
            _events,
        ),
        Tool(
            "status",
            "Read the status",
            "Read which model answers here, and since when.",
            {"type": "object", "properties": {}, "additionalProperties": False},
            HealthResponse.model_json_schema(mode="serialization"),
            _status,
        ),
    ]


def failure(name: str, error: Exception) -> str:
    """Return the error message of a failed call, as `/predict` words it."""
    answer = api_error(error)
    if answer.status == 500:
        logger.error("the tool %r failed", name, exc_info=error)
    return f"No answer: {answer.body.message}"


def _arguments(settings: Settings, required: tuple[str, ...] = ()) -> Schema:
    """Return the schema of ForecastRequest with this service's limits, without its long example."""
    schema = ForecastRequest.model_json_schema()
    schema.pop("examples", None)
    properties = schema["properties"]
    for name in _LEFT_OUT:
        properties.pop(name)
    properties["horizon"]["maximum"] = settings.max_horizon
    properties["samples"]["maximum"] = settings.max_samples
    properties["ohlcv"] |= {"minItems": settings.min_history, "maxItems": settings.max_history}
    schema["required"] = [*schema["required"], *required]
    return schema


async def _forecast(service: Any, arguments: dict[str, Any]) -> Answer:
    answer = await _answered(service, arguments)
    return forecast_text(answer), answer


async def _events(service: Any, arguments: dict[str, Any]) -> Answer:
    if not arguments.get("events"):
        raise InvalidRequest("events: expected at least one, such as 'touch +2%'")
    answer = await _answered(service, arguments)
    return events_text(answer), answer


async def _status(service: Any, arguments: dict[str, Any]) -> Answer:
    if arguments:
        raise InvalidRequest("status takes no arguments")
    health = service.health()
    names = [_model(model["model"]) for model in health["models"]]
    verb = "is" if len(names) == 1 else "are"
    text = f"{', '.join(names)} {verb} up, for {health['uptime_s']:.0f} s."
    return text, health


async def _answered(service: Any, arguments: dict[str, Any]) -> dict[str, Any]:
    """Return the answer of `/predict`, under the same limits. Raises the same errors."""
    for name in _LEFT_OUT:
        if name in arguments:
            raise InvalidRequest(f"{name}: too large for a conversation; use POST /predict")
    body = await service.reader.alone(_body, arguments)
    with service.worker.arriving():
        [prepared] = await service.reader.single(body)
        work = service.worker.submit([prepared.prompt])
    [outcome] = await work
    if isinstance(outcome, Exception):
        raise outcome
    service.measure([prepared], [outcome])
    return await asyncio.to_thread(lambda: to_jsonable_python(prepared.answer(outcome)))


def _body(arguments: dict[str, Any]) -> bytes:
    """Return the body for `/predict`. Some clients send a list as text, which is parsed."""
    return json.dumps({name: _unquoted(value) for name, value in arguments.items()}).encode()


def _unquoted(value: Any) -> Any:
    if not (isinstance(value, str) and value.startswith("[")):
        return value
    try:
        return from_json(value)
    except ValueError:
        return value


# as text ----------------------------------------------------------------------------------


def forecast_text(answer: dict[str, Any]) -> str:
    """Return the forecast as text: numbers with their meaning and limits."""
    last_close = answer["last_close"]
    levels = sorted(answer["predictions"][0]["close_quantiles"], key=float)
    low, high = levels[0], levels[-1]
    width = f"{100 * float(low):g} to {100 * float(high):g} % range"
    lines = [*_head(answer), "", f"Bar: mean close (move from {last_close:.6g}), {width}, P(up)"]
    for bar in answer["predictions"]:
        move, known = bar["close"] / last_close - 1, bar["close_quantiles"]
        lines.append(
            f"{_time(bar['target_date'])}: {bar['close']:.6g} ({move:+.1%}), {known[low]:.6g} to "
            f"{known[high]:.6g}, {bar['prob_up']:.0%}"
        )
    return "\n".join([*lines, *_tail(answer)])


def events_text(answer: dict[str, Any]) -> str:
    """Return the probability of each event by the last bar, with its Monte Carlo error."""
    bars = len(answer["predictions"])
    lines = [*_head(answer), "", f"Event: its chance by bar {bars}, and the 95 % interval of that"]
    for event in answer["events"]:
        low, high = event["low"][-1], event["high"][-1]
        lines.append(
            f"{event['event']}: {event['probability'][-1]:.0%}, {low:.0%} to {high:.0%}"
            + ("" if event["mean"] is None else f"; mean {event['mean'][-1]:.1f} %")
        )
    return "\n".join([*lines, *_tail(answer)])


def _head(answer: dict[str, Any]) -> list[str]:
    return [
        f"Kronos forecast of {answer['symbol']}, {len(answer['predictions'])} bars ahead of "
        f"{_time(answer['as_of'])}, which closed at {answer['last_close']:.6g}.",
        f"Model: {_model(answer['model'])}; {answer['samples']} simulated paths, seed "
        f"{answer['seed']}.",
        *(f"Note: {warning}." for warning in answer["warnings"]),
    ]


def _tail(answer: dict[str, Any]) -> list[str]:
    return [
        "",
        "The ranges are the model's own, not calibrated by its record. It knows these candles of "
        f"{answer['symbol']} and nothing else: no news, no earnings, no other market. It is no "
        "certainty and no advice.",
    ]


def _model(name: str) -> str:
    tiny = " (a tiny model for demonstrations, not meant for trading)"
    return name + (tiny if name in BUNDLED_FILES else "")


def _time(text: str) -> str:
    """Return the time as sent, without the clock at midnight."""
    return text.removesuffix("T00:00:00")
