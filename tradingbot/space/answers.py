"""Responses of a Space: parse the JSON and validate its fields with pydantic models.

A Space is not trusted: no part of a response is used before a model has validated it and `decoding`
has compared it with the request.
"""

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from reprlib import Repr
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
)

from tradingbot.formatting import quoted
from tradingbot.settings import MAX_HORIZON

HEALTH_BYTES = 65_536
MAX_VOLUME = 1e24

short = Repr()  # repr of a value, for an error's text
short.maxstring = short.maxother = short.maxlong = 60


def _visible(text: str) -> str:
    if not text.isprintable():
        raise ValueError("expected visible characters")
    return text


def _time(value: object) -> datetime:
    """Parse '2013-02-21T00:00:00' or '…Z' to a naive datetime, in UTC if a zone was sent."""
    if not isinstance(value, str) or len(value) > 40:
        raise ValueError("expected a time such as 2013-02-21T00:00:00")
    when = datetime.fromisoformat(value)
    try:
        return when if when.tzinfo is None else when.astimezone(UTC).replace(tzinfo=None)
    except OverflowError:
        raise ValueError("no such year in UTC") from None


def _at_most_99(value: object) -> object:
    """Check the size first, because every invalid entry would become a separate error."""
    if isinstance(value, dict) and len(value) > 99:
        raise ValueError("expected at most 99 entries")
    return value


Name = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_visible)]
Price = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Time = Annotated[datetime, BeforeValidator(_time)]


class _Response(BaseModel):
    """Base of the models. Unknown fields are ignored, because a newer Space may send more."""

    model_config = ConfigDict(strict=True, frozen=True, protected_namespaces=())


class ServedModel(_Response):
    model: Name
    model_revision: Name | None = None


class Health(_Response):
    """The response of /health. All versions send at least the first three fields."""

    status: Name
    model: Name
    boot_id: Name
    model_revision: Name | None = None
    started_at: Name | None = None
    uptime_s: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    version: Name | None = None
    anchor: Name | None = None  # default of requests
    models: Annotated[list[ServedModel], Field(min_length=1, max_length=1000)] | None = None


class Bar(_Response):
    step: int
    target_date: Time
    open: Price
    high: Price
    low: Price
    close: Price
    volume: Annotated[float, Field(ge=0, le=MAX_VOLUME, allow_inf_nan=False)]
    close_quantiles: Annotated[dict[str, Price], BeforeValidator(_at_most_99)]
    prob_up: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


Candle = Annotated[
    list[Annotated[float, Field(ge=0, le=MAX_VOLUME, allow_inf_nan=False)]],
    Field(fail_fast=True, min_length=5, max_length=5),
]
Path = Annotated[list[Candle], Field(fail_fast=True, max_length=MAX_HORIZON)]


class Reconstruction(_Response):
    close: Annotated[float, Field(allow_inf_nan=False)]
    factor: Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Result(_Response):
    """A forecast in the response of /predict/batch. Old Spaces omit fields with a default."""

    ok: bool  # true; `RefusedResult` is the other case
    symbol: str
    model: Name
    model_revision: Name | None = None
    interval: str | None = None
    as_of: Time
    last_close: Price
    reconstruction: Reconstruction | None = None
    samples: int
    seed: int | None = None
    predictions: Annotated[list[Bar], Field(fail_fast=True, max_length=MAX_HORIZON)]
    paths: Annotated[list[Path], Field(fail_fast=True)] | None = None  # samples x horizon x 5
    warnings: Annotated[list[str], Field(fail_fast=True)] | None = None


class Refusal(_Response):
    message: str


class RefusedResult(_Response):
    """An item of the response of /predict/batch for a refused request."""

    error: Refusal


def read_health(body: bytes) -> dict[str, Any]:
    """Return the fields of /health that were sent. Raise ValueError, in one line."""
    try:
        return Health.model_validate(_parsed(_text(body))).model_dump(exclude_unset=True)
    except ValidationError as error:
        raise ValueError(in_words(error)) from error


def read_results(body: bytes) -> list[Any]:
    """Return the items in the response of /predict/batch. Raise ValueError if there are none.

    An item that is invalid JSON is returned as text, so that only this item fails.
    """
    text = _text(body)
    try:
        answer = _parsed(text)
    except ValueError:
        return list(_items(text))
    results = answer.get("results") if isinstance(answer, dict) else None
    if not isinstance(results, list):
        raise ValueError("without results")
    return results


# JSON -------------------------------------------------------------------------------------------


def _text(body: bytes) -> str:
    """Decode the body. Invalid UTF-8 becomes unpaired surrogates, which no model accepts."""
    return body.decode("utf-8", "surrogateescape")


def _parsed(text: str) -> Any:
    """Parse JSON. Raise ValueError if the text is invalid or nested too deeply.

    NaN and infinity are accepted here, because the models check them.

    Integers with 20 digits or more become floats, because Python refuses to read long ones.
    """
    try:
        return json.loads(text, parse_int=lambda n: int(n) if len(n) < 20 else float(n))
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


_HEAD = re.compile(r'\s*+\{\s*+"results"\s*+:\s*+\[')
_TOKEN = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"?|[][{},]', re.DOTALL)


def _items(text: str) -> Iterator[Any]:
    """Yield the items of {"results": [...]} one by one, if some of them are invalid JSON."""
    head = _HEAD.match(text)
    if head is None:
        raise ValueError("not with JSON")
    begin, depth = head.end(), 0
    for token in _TOKEN.finditer(text, begin):
        mark = token[0]
        if depth == 0 and mark in ",]":
            yield _item(text[begin : token.start()])
            begin = token.end()
            if mark == "]":
                return
        depth += (mark in "[{") - (mark in "]}")
    raise ValueError("not with JSON")


def _item(text: str) -> Any:
    try:
        return _parsed(text)
    except ValueError:
        return text.strip()


def in_words(error: ValidationError) -> str:
    """Describe the first error: 'predictions.0.close=-5: Input should be greater than 0'."""
    first = error.errors(include_url=False, include_context=False)[0]
    location = ".".join(str(part) for part in first["loc"]) or "the answer"
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "missing":
        return f"{quoted(location)} is missing"
    if first["type"] == "model_type":
        message = "expected a JSON object"
    return quoted(f"{location}={short.repr(first['input'])}: {message}")
