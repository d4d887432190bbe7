"""Models of the answers, as on the OpenAPI page. `schemas` holds the models of requests."""

from typing import Annotated, Literal

from pydantic import BaseModel, Field

Anchor = Literal["last_close", "none"]


class ForecastBar(BaseModel):
    """One future bar: means over the sample paths, and quantiles of their closes."""

    step: Annotated[int, Field(description="bars ahead; 1 is the next bar")]
    target_date: str
    open: float
    high: float
    low: float
    close: float
    volume: float
    close_quantiles: Annotated[dict[str, float], Field(examples=[{"0.1": 98.2, "0.9": 104.7}])]
    prob_up: Annotated[
        float, Field(ge=0, le=1, description="share of the paths with a close above last_close")
    ]


class Reconstruction(BaseModel):
    """The newest bar of the history after encoding and decoding by the model's tokenizer."""

    close: Annotated[float, Field(description="where the model's own paths start from")]
    factor: Annotated[
        float, Field(gt=0, description="of the paths' prices: last_close ÷ close; 1: not anchored")
    ]


class EventChance(BaseModel):
    """Probability of an event by the end of each step, one value per bar of `predictions`."""

    event: Annotated[str, Field(examples=["touch +2%"])]
    probability: Annotated[list[float], Field(description="share of the paths")]
    low: Annotated[list[float], Field(description="its 95 % interval: the Monte Carlo error alone")]
    high: list[float]
    mean: Annotated[
        list[float] | None,
        Field(description="of drawdown and range: the mean over the paths, in per cent"),
    ]
    mean_error: Annotated[list[float] | None, Field(description="its standard error")]


class ForecastResponse(BaseModel):
    symbol: str
    model: str
    model_revision: str | None
    interval: str
    as_of: Annotated[str, Field(description="the newest bar of the history")]
    last_close: float
    reconstruction: Reconstruction
    samples: int
    seed: Annotated[int, Field(description="send it to get the same paths again")]
    predictions: list[ForecastBar]
    warnings: list[str]
    paths: Annotated[
        list[list[list[float]]] | None,
        Field(description="samples x horizon x [open, high, low, close, volume], if asked for"),
    ] = None
    events: Annotated[
        list[EventChance] | None, Field(description="in the order of the request, if asked for")
    ] = None


class FieldError(BaseModel):
    field: Annotated[str, Field(examples=["ohlcv.17.high"])]
    message: str


class ErrorBody(BaseModel):
    code: Annotated[str, Field(examples=["invalid_input"])]
    message: Annotated[str, Field(examples=["row 17: high 9.1 is below low 9.3"])]
    fields: list[FieldError] | None = None


class ErrorResponse(BaseModel):
    """The body of every error."""

    error: ErrorBody


class BatchForecast(ForecastResponse):
    ok: Literal[True]


class BatchError(ErrorResponse):
    ok: Literal[False]
    symbol: str | None


class BatchResponse(BaseModel):
    """Answers in the order of the requests."""

    results: list[BatchForecast | BatchError]


class ServedModel(BaseModel):
    """A model that requests can name."""

    model: Annotated[str, Field(examples=["NeoQuasar/Kronos-mini"])]
    model_revision: str | None


class HealthResponse(BaseModel):
    status: Literal["ok"]
    model: Annotated[str, Field(examples=["NeoQuasar/Kronos-mini"])]
    model_revision: str | None
    models: Annotated[
        list[ServedModel],
        Field(description="all models; the first one is `model`, the default"),
    ]
    anchor: Annotated[Anchor, Field(description="default of requests")]
    boot_id: Annotated[str, Field(description="new in every process")]
    started_at: str
    uptime_s: float
    version: str
