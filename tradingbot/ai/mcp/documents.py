"""Schemas of the tools' arguments and results, other than forecasts.

A forecast is the `ForecastDocument` of `tradingbot.ai.forecast_document`, with the fields of the
Space's `/predict`.
"""

from datetime import date
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import from_json

from tradingbot.ai.forecast_answer import MAX_DAYS
from tradingbot.ai.forecast_document import Source, Time
from tradingbot.path_events.grammar import MAX_EVENTS


class _Arguments(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Document(BaseModel):
    model_config = ConfigDict(frozen=True, protected_namespaces=(), from_attributes=True)


Symbol = Annotated[
    str,
    Field(
        max_length=80,
        description="Ticker as on Yahoo Finance, such as AAPL, 7203.T or BTC-USD; no company name.",
    ),
]


def _unquoted(value: Any) -> Any:
    """Parse a list that a client has sent as JSON text."""
    if not (isinstance(value, str) and value.startswith("[")):
        return value
    try:
        return from_json(value)
    except ValueError:
        return value


class NoArguments(_Arguments):
    """A tool without arguments."""


class ForecastArguments(_Arguments):
    symbol: Symbol
    horizon: Annotated[
        int, Field(ge=1, le=MAX_DAYS, description="Trading days ahead, a whole number.")
    ] = 5


class StoredArguments(_Arguments):
    symbol: Symbol
    as_of: Annotated[
        date | None,
        Field(description="Newest forecast from bars up to this day. Default: the newest."),
    ] = None


class EventArguments(ForecastArguments):
    events: Annotated[
        list[Annotated[str, Field(max_length=100)]],
        Field(
            min_length=1,
            max_length=MAX_EVENTS,
            description="The events.",
            examples=[["touch +2%", "reach +3% before -2%", "drawdown above 5%"]],
        ),
        BeforeValidator(_unquoted),
    ]


class RecordArguments(_Arguments):
    symbol: Annotated[
        Symbol | None, Field(description="One ticker. Default: all tickers together.")
    ] = None


class Score(_Document):
    """Forecasts against outcomes, of one window. A figure is null with too few forecasts."""

    symbol: Annotated[str, Field(description="A ticker, or * for all together.")]
    last_sessions: Annotated[int, Field(description="Number of newest sessions; 0: all.")]
    n: Annotated[int, Field(description="Forecasts with an outcome.")]
    sessions: int
    crps_skill: Annotated[
        float | None, Field(description="1 - CRPS / that of a random walk. Above 0: better.")
    ]
    skill_low: Annotated[float | None, Field(description="Lower end of its 95 % interval.")]
    skill_high: float | None
    relative_mae: Annotated[
        float | None, Field(description="Mean error / that of tomorrow-equals-today.")
    ]
    coverage_50: Annotated[float | None, Field(description="Share of closes in the 50 % band.")]
    coverage_80: float | None
    coverage_90: float | None
    hit_rate: Annotated[float | None, Field(description="Share of moves with the right sign.")]
    hit_low: float | None
    hit_high: float | None


class TrackRecord(_Document):
    """How good the newest model's served forecasts were."""

    model: str
    model_revision: str | None
    interval: str
    summary: Annotated[str, Field(description="One sentence.")]
    scored_at: Time | None
    scores: list[Score]


class EventState(_Document):
    """How likely an event is by the end of each day, as the share of the simulated paths."""

    event: str
    probability: list[float]
    low: Annotated[list[float], Field(description="Lower end of its Monte Carlo interval, 95 %.")]
    high: list[float]
    mean: Annotated[
        list[float] | None,
        Field(description="Of drawdown and range: the mean over the paths, in per cent."),
    ]
    record: Annotated[str | None, Field(description="Mean probability, and how often it happened.")]


class EventsDocument(_Document):
    """What one ticker's simulated paths say about events."""

    symbol: str
    model: str
    as_of: Annotated[Time, Field(description="The newest bar that the model saw, UTC.")]
    last_close: float
    source: Source
    days: Annotated[list[Time], Field(description="The sessions ahead, UTC.")]
    events: list[EventState]
    warnings: list[str]


class TickerState(_Document):
    """A ticker that the job forecasts, or that has a stored forecast."""

    symbol: str
    active: Annotated[bool, Field(description="Whether the nightly job forecasts it.")]
    as_of: Annotated[
        Time | None, Field(description="Newest bar of its newest stored forecast; null: none.")
    ]


class Tickers(_Document):
    """The tickers that the nightly job forecasts, and those that have a stored forecast."""

    tickers: list[TickerState]


class RunState(_Document):
    """A run of the nightly job."""

    state: Literal["ok", "failed", "running", "killed"]
    started_at: Annotated[Time, Field(description="UTC.")]
    seconds: float | None
    exit_code: int | None
    model: str | None
    source: str | None
    message: str | None


class ModelState(_Document):
    """What one model has forecast."""

    name: str
    interval: str
    as_of: Time | None
    tickers: int
    fresh: Annotated[int, Field(description="Tickers with the newest possible as_of.")]
    record: str | None
    shares: dict[str, float] | None


class StaleTicker(_Document):
    """An active ticker without a forecast of its latest complete session."""

    symbol: str
    as_of: Time | None
    behind: Annotated[int | None, Field(description="Complete sessions since as_of.")]
    why: str


class SpaceState(_Document):
    """The service that computes forecasts. Asleep most of the day: the nightly job wakes it."""

    up: bool
    model: str | None
    message: Annotated[str | None, Field(description="Why it is not available.")]


class StatusDocument(_Document):
    """The state of the nightly job."""

    ok: Annotated[bool, Field(description="Whether there are no problems.")]
    problems: list[str]
    notes: list[str]
    now: Annotated[Time, Field(description="UTC, as all times.")]
    source: Annotated[str | None, Field(description="Where candles come from.")]
    clock: Annotated[Time | None, Field(description="Time up to which sessions are complete.")]
    active: Annotated[int, Field(description="Tickers that the job forecasts.")]
    stale: list[StaleTicker]
    models: list[ModelState]
    runs: Annotated[list[RunState], Field(description="The newest first.")]
    space: SpaceState
