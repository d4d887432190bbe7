"""The document at `/openapi.json`: FastAPI's, plus request models, limits and examples."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic.json_schema import models_json_schema

from kronos_space import __version__
from kronos_space.schemas import EXAMPLE_REQUEST, BatchRequest, ForecastRequest
from kronos_space.settings import DEFAULT_SAMPLES, Settings

ABOUT = """\
Send the candles of a ticker, oldest first; the answer holds the next ones as means over simulated
paths, with the quantiles of their closes.

- Every error is `{"error": {"code", "message", "fields"?}}`. Rows are counted from 0.
- Every answer carries `X-Request-ID`: the one that was sent, or a new one. The log has it too.
- Times may have a zone. The model gets the wall time as written.
"""


def document(app: FastAPI, settings: Settings) -> dict[str, Any]:
    """Return the document, created once.

    Routes read their bodies themselves, so FastAPI's document lacks them.
    """
    if app.openapi_schema:
        return app.openapi_schema
    made = get_openapi(
        title=app.title,
        version=app.version,
        summary=app.summary,
        description=ABOUT,
        routes=app.routes,
    )
    _, definitions = models_json_schema(
        [(ForecastRequest, "validation"), (BatchRequest, "validation")],
        ref_template="#/components/schemas/{model}",
    )
    schemas = definitions["$defs"]
    properties = schemas["ForecastRequest"]["properties"]
    for name, maximum in (("horizon", settings.max_horizon), ("samples", settings.max_samples)):
        default = min(properties[name]["default"], maximum)
        properties[name] |= {"maximum": maximum, "default": default}
    properties["ohlcv"] |= {"minItems": settings.min_history, "maxItems": settings.max_history}
    schemas["BatchRequest"]["properties"]["requests"] |= {
        "items": {"$ref": "#/components/schemas/ForecastRequest"},
        "maxItems": settings.max_batch,
    }
    components = made.setdefault("components", {})
    components.setdefault("schemas", {}).update(schemas)
    if settings.api_key is not None:
        key = {"type": "apiKey", "in": "header", "name": "X-API-Key"}
        components["securitySchemes"] = {"ApiKey": key}
        for path, operations in made["paths"].items():
            for operation in operations.values():
                operation["security"] = [] if path == "/health" else [{"ApiKey": []}]
    app.openapi_schema = made
    return made


def body_of(model: str) -> dict[str, Any]:
    """Return `openapi_extra` for a route that takes this model as JSON."""
    content = {
        "schema": {"$ref": f"#/components/schemas/{model}"},
        "examples": {name: {"value": value} for name, value in _REQUESTS[model].items()},
    }
    return {"requestBody": {"required": True, "content": {"application/json": content}}}


def success(example: Any, *, media_type: str = "application/json") -> dict[int | str, Any]:
    """Return an entry of `responses` for a successful answer."""
    return {200: {"description": "Done", "content": {media_type: {"example": example}}}}


_HOURS = [
    f"2026-11-{day:02d}T{hour:02d}:30:00-05:00"
    for day in (16, 17, 18, 19, 20)
    for hour in range(9, 16)
]
_INTRADAY = {
    "symbol": "AAPL",
    "interval": "1h",
    "ohlcv": [
        {
            "timestamp": moment,
            "open": 270.0 + bar / 10,
            "high": 270.9 + bar / 10,
            "low": 269.6 + bar / 10,
            "close": 270.4 + bar / 10,
            "volume": 5_000_000 + 10_000 * bar,
        }
        for bar, moment in enumerate(_HOURS)
    ],
    "target_timestamps": ["2026-11-23T09:30:00-05:00", "2026-11-23T10:30:00-05:00"],
    "samples": 100,
    "seed": 7,
    "quantiles": [0.05, 0.5, 0.95],
    "events": ["touch +1%", "reach +1% before -1%"],
}
_REQUESTS: dict[str, dict[str, Any]] = {
    "ForecastRequest": {"daily": EXAMPLE_REQUEST, "intraday": _INTRADAY},
    "BatchRequest": {"two tickers": {"requests": [EXAMPLE_REQUEST, _INTRADAY]}},
}

_REVISION = "f4e68697d9d5aed55cef5c96aabc3376bcad9f81"
HEALTH = {
    "status": "ok",
    "model": "NeoQuasar/Kronos-mini",
    "model_revision": _REVISION,
    "models": [{"model": "NeoQuasar/Kronos-mini", "model_revision": _REVISION}],
    "anchor": "last_close",
    "boot_id": "560dbd0702114fc6ae94efdfddd26def",
    "started_at": "2026-11-20T22:00:03.468280+00:00",
    "uptime_s": 42.0,
    "version": __version__,
}
FORECAST = {
    "symbol": "SPY",
    "model": "NeoQuasar/Kronos-mini",
    "model_revision": _REVISION,
    "interval": "1d",
    "as_of": "2026-11-20T00:00:00",
    "last_close": 140.5,
    "reconstruction": {"close": 141.2, "factor": 0.995042},
    "samples": DEFAULT_SAMPLES,
    "seed": 1,
    "predictions": [
        {
            "step": 1,
            "target_date": "2026-11-23T00:00:00",
            "open": 140.3,
            "high": 142.8,
            "low": 138.7,
            "close": 140.9,
            "volume": 1041000.0,
            "close_quantiles": {
                "0.1": 137.9,
                "0.25": 139.2,
                "0.5": 140.8,
                "0.75": 142.4,
                "0.9": 144.1,
            },
            "prob_up": 0.55,
        }
    ],
    "warnings": [],
    "events": [
        {
            "event": "touch +1%",
            "probability": [0.6],
            "low": [0.387],
            "high": [0.781],
            "mean": None,
            "mean_error": None,
        }
    ],
}
BATCH = {
    "results": [
        {"ok": True, **FORECAST},
        {
            "ok": False,
            "symbol": "AAPL",
            "error": {"code": "invalid_input", "message": "row 17: high 9.1 is below low 9.3"},
        },
    ]
}
METRICS = """\
# HELP kronos_queue_series Series that wait for the engine.
# TYPE kronos_queue_series gauge
kronos_queue_series 0.0
"""
