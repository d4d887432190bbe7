"""The JSON schema of a forecast, used by all tools for language models.

The fields are those of a response of the Space's `/predict`, and the origin of the forecast. If
there is no forecast, a tool returns the same document as `/predict/batch` for a refused ticker.
"""

import re
from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema

from tradingbot.ai.sanitising import MOST_NAME, name_text
from tradingbot.errors import KronosError
from tradingbot.forecast import Forecast
from tradingbot.formatting import quoted
from tradingbot.markets.calendars import sessions_between

Source = Literal["stored", "space"]
# Naive times, as in `/predict`. "date-time" in a schema requires a zone, and clients that validate
# it would refuse naive times.
Time = Annotated[datetime, WithJsonSchema({"type": "string"})]


class _Document(BaseModel):
    model_config = ConfigDict(frozen=True, protected_namespaces=())


class Prediction(_Document):
    """One future bar; prices in the ticker's currency."""

    step: Annotated[int, Field(description="Bars after as_of: 1 is the next bar.")]
    target_date: Annotated[Time, Field(description="The bar's session, UTC.")]
    open: float
    high: float
    low: float
    close: Annotated[float, Field(description="Mean over Kronos' simulated paths.")]
    volume: float | None
    close_quantiles: Annotated[
        dict[str, float], Field(description="Price of each level: below that of '0.1' with 10 %.")
    ]
    prob_up: Annotated[float, Field(description="Chance of a close above last_close, 0 to 1.")]


class Event(_Document):
    """The probability of an event by the end of each bar of the predictions."""

    event: Annotated[str, Field(description="Such as 'touch +2%': moves from last_close.")]
    probability: list[float]
    low: Annotated[list[float], Field(description="95 % interval of the Monte Carlo error.")]
    high: list[float]


class ForecastDocument(_Document):
    """The forecast of one ticker, with its age and limits."""

    ok: Literal[True] = True
    symbol: str
    interval: str
    model: str
    model_revision: str | None
    as_of: Annotated[Time, Field(description="The newest bar that the model saw, UTC.")]
    made_at: Annotated[Time, Field(description="When it was computed, UTC.")]
    last_close: float
    samples: Annotated[int, Field(description="Simulated paths.")]
    seed: int | None
    source: Annotated[Source, Field(description="The database, or the Space just now.")]
    sessions_missed: Annotated[
        int, Field(description="Sessions closed since as_of, which it does not know; 0: newest.")
    ]
    calibration: Annotated[str, Field(description="Post-processing of the quantiles, or 'raw'.")]
    shares: Annotated[
        dict[str, float] | None,
        Field(description="Weights of combined quantiles, by forecaster."),
    ]
    track_record: Annotated[str | None, Field(description="The model's past scores.")]
    predictions: list[Prediction]
    events: Annotated[list[Event], Field(description="Events estimated from the paths.")] = []
    warnings: list[str]


class Problem(_Document):
    code: str
    message: str


class NoForecast(_Document):
    """Why there is no forecast."""

    ok: Literal[False] = False
    symbol: str | None
    error: Problem


def forecast_document(
    forecast: Forecast,
    latest: datetime,
    source: Source,
    *,
    note: str | None = None,
    record: str | None = None,
) -> ForecastDocument:
    """Return the document of `forecast`, given that `latest` is the latest complete session.

    Names and notes are shortened to one line each, because a language model may read them.
    """
    revision = forecast.model_revision
    notes = [*([] if note is None else [note]), *forecast.warnings]
    return ForecastDocument(
        symbol=name_text(forecast.symbol),
        interval=name_text(forecast.interval),
        model=name_text(forecast.model_name),
        model_revision=None if revision is None else name_text(revision),
        as_of=forecast.as_of,
        made_at=forecast.made_at,
        last_close=forecast.last_close,
        samples=forecast.samples,
        seed=forecast.seed,
        source=source,
        sessions_missed=sessions_between(forecast.symbol, forecast.as_of, latest),
        calibration=name_text(forecast.calibration),
        shares=None if forecast.shares is None else dict(forecast.shares),
        track_record=None if record is None else quoted(record, 300),
        predictions=[
            Prediction(
                step=bar.step,
                target_date=bar.target_date,
                open=bar.open,
                high=bar.high,
                low=bar.low,
                close=bar.close,
                volume=bar.volume,
                close_quantiles={
                    f"{level:g}": price for level, price in bar.close_quantiles.items()
                },
                prob_up=bar.prob_up,
            )
            for bar in forecast.bars
        ],
        events=[
            Event(
                event=name_text(chance.event),
                probability=list(chance.probability),
                low=list(chance.low),
                high=list(chance.high),
            )
            for chance in forecast.events
        ],
        warnings=[quoted(text, 300) for text in notes[:20]],
    )


def no_forecast(symbol: str | None, code: str | KronosError, message: str) -> NoForecast:
    """Return the document for a missing forecast.

    `code` is a word, or an error whose class name becomes one: UnknownSymbol -> unknown_symbol.
    """
    if isinstance(code, KronosError):
        code = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", type(code).__name__).lower()
    return NoForecast(
        symbol=None if symbol is None else quoted(symbol, MOST_NAME),
        error=Problem(code=code, message=message),
    )
