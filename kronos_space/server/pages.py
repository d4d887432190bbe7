"""The page at `/`, the API page at `/docs`, and their files, all served from here.

The files do not change while the service runs. Each is read, compressed and hashed at its first
request.
"""

import asyncio
import gzip
import hashlib
import importlib.util
import json
import mimetypes
import re
import threading
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request, Response
from starlette.exceptions import HTTPException

from kronos_space.schemas import ForecastRequest
from kronos_space.weights.catalogue import BUNDLED_FILES

STATIC = Path(__file__).parent.parent / "static"
SAMPLES = ("AAPL", "GOOG", "IBM", "MSFT")
OUTCOME_BARS = 20  # newest bars of a sample that are held back, to show what really happened

_FILES = {"page.css", "docs.css", "docs.js", "icon.svg"}
_FILES |= {"headings.js", "cells.js", "candles.js", "chart.js", "answer.js", "page.js"}
_FILES |= {f"samples/{name}.csv" for name in SAMPLES}
# files in other packages' wheels: the package, and the path in it
_PACKAGED = {
    "plotly.min.js": ("plotly", "package_data"),
    "swagger-ui-bundle.js": ("fastapi_offline", "static"),
    "swagger-ui.css": ("fastapi_offline", "static"),
}
_YEAR = 365 * 24 * 60 * 60
_HEADERS = {
    # Only files from here are allowed. plotly writes inline styles, and the Hub shows a Space in an
    # iframe.
    "Content-Security-Policy": "; ".join(
        [
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self' 'unsafe-inline'",
            "img-src 'self' data: blob:",  # plotly converts its SVG to a PNG
            "connect-src 'self'",
            "base-uri 'none'",
            "form-action 'self'",
            "frame-ancestors 'self' https://huggingface.co",
        ]
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}

_preparing = threading.Lock()

router = APIRouter(include_in_schema=False)


def is_open(path: str) -> bool:
    """Return whether the page needs this path before it can ask for the API key."""
    return path == "/" or path.startswith("/static/")


@router.api_route("/", methods=["GET", "HEAD"])
async def page(request: Request) -> Response:
    """Return the page, configured with the model and the service's limits."""
    service = request.app.state.service
    shown = await asyncio.to_thread(_page, "index.html", _config(service))
    return _answer(request, shown, "no-cache")


@router.api_route("/docs", methods=["GET", "HEAD"])
async def docs(request: Request) -> Response:
    """Return the API page, with every route and field to read and try."""
    return _answer(request, await asyncio.to_thread(_page, "docs.html"), "no-cache")


@router.api_route("/static/{name:path}", methods=["GET", "HEAD"])
async def static(request: Request, name: str) -> Response:
    """Return a file of the pages. A URL that contains the file's tag may be cached for a year."""
    if name not in _FILES and name not in _PACKAGED:
        raise HTTPException(404, "Not Found")
    asset = await asyncio.to_thread(_asset, name)
    forever = request.query_params.get("v") == asset.tag
    return _answer(request, asset, f"public, max-age={_YEAR}, immutable" if forever else "no-cache")


@dataclass(frozen=True)
class Asset:
    """A file as served."""

    content: bytes
    gzipped: bytes
    media_type: str
    tag: str  # a hash of the content

    @classmethod
    def of(cls, content: bytes, name: str) -> "Asset":
        media_type = mimetypes.guess_type(name)[0] or "application/octet-stream"
        tag = hashlib.sha256(content).hexdigest()[:16]
        return cls(content, gzip.compress(content, 6, mtime=0), media_type, tag)


def _answer(request: Request, asset: Asset, caching: str) -> Response:
    etag = f'W/"{asset.tag}"'  # weak, since it is the same for the compressed file
    headers = {**_HEADERS, "ETag": etag, "Cache-Control": caching, "Vary": "Accept-Encoding"}
    if etag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    if "gzip" not in request.headers.get("accept-encoding", ""):
        return Response(asset.content, headers=headers, media_type=asset.media_type)
    headers["Content-Encoding"] = "gzip"
    return Response(asset.gzipped, headers=headers, media_type=asset.media_type)


def _asset(name: str) -> Asset:
    """Return a file, prepared once even if many callers request it first."""
    with _preparing:
        return _prepared(name)


@cache
def _prepared(name: str) -> Asset:
    folder = _folder_of(*_PACKAGED[name]) if name in _PACKAGED else STATIC
    return Asset.of((folder / name).read_bytes(), name)


@cache
def _page(template: str, config: str = "") -> Asset:
    """Return a page with {{config}} and the URLs of its files filled in."""

    def filled(match: re.Match[str]) -> str:
        name = match[1]
        return config if name == "config" else f"static/{name}?v={_asset(name).tag}"

    text = (STATIC / template).read_text(encoding="utf-8")
    return Asset.of(re.sub(r"\{\{(\S+?)\}\}", filled, text).encode(), template)


def _config(service: Any) -> str:
    """Return the page's configuration as JSON that is safe inside HTML."""
    settings, forecaster = service.settings, service.forecaster
    defaults = ForecastRequest.model_fields
    config = {
        "model": forecaster.model_name,
        "forTrying": forecaster.model_name in BUNDLED_FILES,
        "needsKey": settings.api_key is not None,
        "maxHistory": settings.max_history,
        "maxHorizon": min(settings.max_horizon, forecaster.max_horizon),
        "maxSamples": settings.max_samples,
        "outcomeBars": OUTCOME_BARS,
        "samples": defaults["samples"].default,
        "temperature": defaults["temperature"].default,
        "topP": defaults["top_p"].default,
    }
    return json.dumps(config).replace("<", r"\u003c")


def _folder_of(package: str, folder: str) -> Path:
    """Return the folder of a package's files, without importing it."""
    found = importlib.util.find_spec(package)
    if found is None or found.origin is None:
        raise FileNotFoundError(f"a page of the Space needs a file of {package}: pip install it")
    return Path(found.origin).parent / folder
