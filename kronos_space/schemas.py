"""Models of the service's requests, as shown on the OpenAPI page, and their bounds."""

from datetime import date, timedelta
from typing import Annotated, Any, NotRequired, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, FailFast, Field, ValidationError
from pydantic_core import PydanticCustomError
from typing_extensions import TypedDict

from kronos_space.answers import Anchor
from kronos_space.answers import BatchResponse as BatchResponse
from kronos_space.answers import ErrorBody as ErrorBody
from kronos_space.answers import ErrorResponse as ErrorResponse
from kronos_space.answers import FieldError as FieldError
from kronos_space.answers import ForecastResponse as ForecastResponse
from kronos_space.answers import HealthResponse as HealthResponse
from kronos_space.error_messages import (
    MAX_ERRORS,
    few_keys,
    in_words,
    message_of,
    path_of,
    shown,
    visible,
)
from kronos_space.exceptions import InvalidRequest
from kronos_space.path_events.grammar import GRAMMAR, MAX_EVENTS, parse_event, too_many
from kronos_space.settings import DEFAULT_SAMPLES, DEFAULT_TOP_P, Settings

# Nonexistent hours, minutes and days are reported later, with their row.
TIMESTAMP = (
    r"^[12][0-9]{3}-[0-9]{2}-[0-9]{2}"
    r"([T ][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,6})?)?"
    r"(Z|[+-]([01][0-9]|2[0-3]):?[0-5][0-9])?)?$"
)
# Visible characters only: none that control a terminal, change text direction or end a line.
SYMBOL = (
    "^[^\\x00-\\x1f\\x7f-\\xa0\\xad\\u0600-\\u0605\\u061c\\u06dd\\u070f\\u1680\\u180e"
    "\\u2000-\\u200f\\u2028-\\u202f\\u205f-\\u206f\\u3000\\ufeff\\ufff9-\\ufffb]{1,64}$"
)
MAX_QUANTILES = 99
DEFAULT_ANCHOR: Anchor = "last_close"
MAX_SEED = 2**53 - 1  # the largest integer that every JSON parser keeps exactly

Timestamp = Annotated[
    str,
    Field(
        pattern=TIMESTAMP,
        description="ISO 8601, with or without a zone. The model gets the wall time as written.",
        examples=["2026-11-20", "2026-11-20T15:30:00-05:00"],
    ),
]
Model = TypeVar("Model", bound=BaseModel)
Price = Annotated[float, Field(gt=0, le=1e12, allow_inf_nan=False)]
Volume = Annotated[float, Field(ge=0, le=1e18, allow_inf_nan=False)]
Amount = Annotated[float, Field(ge=0, le=1e30, allow_inf_nan=False)]


def _event(text: str) -> str:
    """Return the event's normalised name."""
    try:
        return parse_event(text).text
    except ValueError as error:
        raise PydanticCustomError("event", "{reason}", {"reason": str(error)}) from None


Event = Annotated[str, AfterValidator(_event)]


class Bar(TypedDict):
    """One candle. A TypedDict, not a model: validating a long history is three times faster."""

    __pydantic_config__ = ConfigDict(extra="forbid", strict=True)  # type: ignore[misc]

    timestamp: Timestamp
    open: Price
    high: Price
    low: Price
    close: Price
    volume: NotRequired[Volume]
    amount: NotRequired[Amount]


_BAR = Bar.__annotations__


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


_EXAMPLE_BARS: list[Any] = [
    {
        "timestamp": (date(2026, 9, 28) + timedelta(days=7 * (bar // 5) + bar % 5)).isoformat(),
        "open": 100.0 + bar,
        "high": 102.5 + bar,
        "low": 99.0 + bar,
        "close": 101.5 + bar,
        "volume": 1_000_000 + 1000 * bar,
    }
    for bar in range(40)
]


EXAMPLE_REQUEST: dict[str, Any] = {
    "symbol": "SPY",
    "horizon": 3,
    "interval": "1d",
    "ohlcv": _EXAMPLE_BARS,
}


class ForecastRequest(_Strict):
    """The history of one ticker, oldest bar first, and the forecast's parameters."""

    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE_REQUEST]})

    symbol: Annotated[
        str,
        AfterValidator(visible),
        Field(pattern=SYMBOL, description="1 to 64 printable characters", examples=["SPY"]),
    ]
    horizon: Annotated[int, Field(ge=1, description="future bars")] = 5
    interval: Annotated[
        str,
        Field(pattern="^[0-9A-Za-z]{1,16}$", description="a label; the bars show their spacing"),
    ] = "1d"
    model: Annotated[
        str | None,
        Field(
            min_length=1,
            max_length=200,
            description="one of /health's `models`, for a service with several; default: the first",
            examples=["NeoQuasar/Kronos-mini"],
        ),
    ] = None
    ohlcv: Annotated[list[Bar], FailFast(), Field(description="the history, oldest bar first")]
    target_timestamps: Annotated[
        list[Timestamp] | None,
        Field(
            min_length=1,
            description="when the future bars are; inferred from the history if left out",
        ),
    ] = None
    samples: Annotated[int, Field(ge=1, description="sample paths")] = DEFAULT_SAMPLES
    temperature: Annotated[float, Field(ge=0.001, le=100, allow_inf_nan=False)] = 1.0
    top_k: Annotated[int, Field(ge=0, le=1_000_000, description="0: off; 1: greedy")] = 0
    top_p: Annotated[
        float,
        Field(gt=0, le=1, allow_inf_nan=False, description="below 1 the bands are too narrow"),
    ] = DEFAULT_TOP_P
    seed: Annotated[
        int | None, Field(ge=0, le=MAX_SEED, description="drawn and returned if omitted")
    ] = None
    quantiles: Annotated[
        list[Annotated[float, Field(gt=0, lt=1, allow_inf_nan=False)]],
        Field(
            min_length=1, max_length=MAX_QUANTILES, description="levels of the close's quantiles"
        ),
    ] = [0.1, 0.25, 0.5, 0.75, 0.9]
    return_paths: bool = False
    anchor: Annotated[
        Anchor, Field(description="where paths start; none: at the tokenizer's reconstruction")
    ] = DEFAULT_ANCHOR
    events: Annotated[
        list[Event],
        Field(
            max_length=MAX_EVENTS,
            description=f"questions about the paths: {GRAMMAR}",
            examples=[["touch +2%", "reach +3% before -2%", "drawdown above 5%"]],
        ),
    ] = []


class BatchRequest(_Strict):
    """Several tickers at once. Each request is validated separately."""

    requests: Annotated[list[Any], Field(min_length=1)]


def read_request(data: Any, settings: Settings) -> ForecastRequest:
    """Validate parsed JSON as a request within the service's limits. Raises InvalidRequest."""
    request = _validated(ForecastRequest, _bounded(data, settings))
    _check_rows(len(request.ohlcv), settings)
    targets = request.target_timestamps
    defaults = {
        "horizon": min(request.horizon, settings.max_horizon) if targets is None else len(targets),
        "samples": min(request.samples, settings.max_samples),
    }
    left_out = defaults.keys() - request.model_fields_set
    request = request.model_copy(update={name: defaults[name] for name in left_out})
    if targets is not None and len(targets) != request.horizon:
        message = f"{len(targets)} target_timestamps for a horizon of {shown(request.horizon)}"
        raise _wrong("target_timestamps", message)
    for name, value, limit in (
        ("horizon", request.horizon, settings.max_horizon),
        ("samples", request.samples, settings.max_samples),
    ):
        if value > limit:
            raise _wrong(name, f"{name} {shown(value)}: expected at most {limit}")
    return request


def read_batch(data: Any, settings: Settings) -> list[Any]:
    """Return the unvalidated requests of a batch from parsed JSON. Raises InvalidRequest."""
    requests = _validated(BatchRequest, few_keys(data, BatchRequest.model_fields)).requests
    if len(requests) > settings.max_batch:
        raise _wrong("requests", f"{len(requests)} requests: expected at most {settings.max_batch}")
    return requests


def _bounded(data: Any, settings: Settings) -> Any:
    """Return the request with at most a few wrong values.

    Validation builds an error for each wrong value, a thousand times as large as the value. Raises
    InvalidRequest for lists that are too long, before their elements are validated.
    """
    data = few_keys(data, ForecastRequest.model_fields)
    if not isinstance(data, dict):
        return data
    rows = data.get("ohlcv")
    if isinstance(rows, list):
        if len(rows) > settings.max_history:
            _check_rows(len(rows), settings)
        wide = (n for n, row in enumerate(rows) if isinstance(row, dict) and len(row) > len(_BAR))
        first = next(wide, None)
        if first is not None:  # this row is refused, so the rows after it do not matter
            data = {**data, "ohlcv": [*rows[:first], few_keys(rows[first], _BAR)]}
    for name, limit in (
        ("target_timestamps", settings.max_horizon),
        ("quantiles", MAX_QUANTILES),
        ("events", MAX_EVENTS),
    ):
        values = data.get(name)
        if isinstance(values, list) and len(values) > limit:
            raise _wrong(name, _too_many(name, len(values), limit))
    return data


def _too_many(name: str, count: int, limit: int) -> str:
    return too_many(count) if name == "events" else f"{count} {name}: expected at most {limit}"


def _check_rows(rows: int, settings: Settings) -> None:
    if not settings.min_history <= rows <= settings.max_history:
        bounds = f"expected {settings.min_history} to {settings.max_history}"
        raise _wrong("ohlcv", f"{rows} rows of history: {bounds}")


def _validated(model: type[Model], data: Any) -> Model:
    try:
        return model.model_validate(data)
    except ValidationError as error:
        details = error.errors(include_url=False, include_context=False)[:MAX_ERRORS]
    fields = [(path_of(detail["loc"]), message_of(detail)) for detail in details if detail["loc"]]
    raise InvalidRequest(in_words(details[0]["loc"], message_of(details[0])), fields or None)


def _wrong(name: str, message: str) -> InvalidRequest:
    return InvalidRequest(message, [(name, message)])
