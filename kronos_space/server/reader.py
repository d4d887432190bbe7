"""Turn request bodies into series for the engine, without blocking other requests.

All parsing and validation happens in threads, a few series at a time, and requests take turns. The
Python objects of one series are freed before the next one is parsed. Large bodies have a thread of
their own, so that small ones never wait for them.
"""

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from pydantic_core import from_json

from kronos_space.error_messages import symbol_shown
from kronos_space.exceptions import InvalidRequest
from kronos_space.forecasting.forecaster import Prepared
from kronos_space.forecasting.models import Models
from kronos_space.path_events.grammar import MAX_EVENTS
from kronos_space.schemas import MAX_QUANTILES, read_batch, read_request
from kronos_space.server.errors import item_error
from kronos_space.server.json_splitting import Body, TooManyElements, longest_list, split_lists
from kronos_space.server.mcp_messages import ReadMessage, read_message
from kronos_space.settings import Settings

TURN = 2**18  # bytes of series parsed before the next request's turn
LARGE = 2**20  # bytes; only one larger body is parsed at a time
OUTLINE = 2**16  # bytes that a batch may have outside its series
ROW = 512  # bytes; a row is about 120, and 300 with indents and every digit

T = TypeVar("T")
Items = list[Prepared | dict[str, Any]]


class Reader:
    """Parses and validates request bodies, which take turns."""

    def __init__(self, models: Models, settings: Settings) -> None:
        self._models = models
        self._settings = settings
        self._largest = 2 * 2**20 + ROW * settings.max_history  # bytes of one series
        # commas and brackets; more than any valid series has
        self._most_values = 10 * settings.max_history + settings.max_horizon + 1000
        self._thread = ThreadPoolExecutor(1, "kronos-reader")
        self._large_thread = ThreadPoolExecutor(1, "kronos-reader-large")
        self._large = asyncio.Lock()

    def close(self) -> None:
        for thread in (self._thread, self._large_thread):
            thread.shutdown(wait=True, cancel_futures=True)

    async def single(self, body: Body) -> list[Prepared]:
        """Return the series of a single request. Raises InvalidRequest, InvalidHistory."""
        return [await self._in_turn(self._prepare, body)]

    async def alone(self, work: Callable[..., T], *arguments: Any) -> T:
        """Call `work` in the thread of large bodies: several at once would delay the event loop."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._large_thread, work, *arguments)

    async def message(self, body: Body) -> ReadMessage:
        """Return a message of /mcp. Raises InvalidRequest."""
        return await self._in_turn(self._message, body)

    async def batch(self, body: Body) -> Items:
        """Return each series of a batch, or the error in its place. Raises InvalidRequest."""
        if len(body) <= LARGE:
            return await self._batch(body)
        async with self._large:
            return await self._batch(body)

    async def _batch(self, body: Body) -> Items:
        items: Items = []
        for group in _groups(await self._in_turn(self._spans, body)):
            items += await self._in_turn(self._prepare_items, body, group)
        return items

    async def _in_turn(self, work: Callable[..., T], body: Body, *arguments: Any) -> T:
        thread = self._large_thread if len(body) > LARGE else self._thread
        return await asyncio.get_running_loop().run_in_executor(thread, work, body, *arguments)

    def _spans(self, body: Body) -> list[tuple[int, int]]:
        """Return the spans of a batch's series."""
        limit = self._settings.max_batch
        try:
            outline, spans = split_lists(body, limit + 1)
        except TooManyElements as error:
            message = f"{error.count} requests: expected at most {limit}"
            raise InvalidRequest(message, [("requests", message)]) from None
        if len(outline) > OUTLINE or _values(outline) > self._most_values:
            raise InvalidRequest(
                f"there are more than {OUTLINE // 1024} KiB outside the list `requests`"
            )
        return [spans[number] for number in read_batch(_parsed(outline), self._settings)]

    def _message(self, body: Body) -> ReadMessage:
        self._check_size(body)
        return read_message(bytes(body))

    def _prepare_items(self, body: Body, spans: list[tuple[int, int]]) -> Items:
        return [self._prepare_item(bytes(body[begin:end])) for begin, end in spans]

    def _prepare(self, text: Body) -> Prepared:
        self._check_size(text)
        return self._models.prepare(read_request(_parsed(text), self._settings))

    def _prepare_item(self, text: bytes) -> Prepared | dict[str, Any]:
        data = None
        try:
            self._check_size(text)
            data = _parsed(text)
            return self._models.prepare(read_request(data, self._settings))
        except NotJson:  # so the whole body is not JSON either
            raise
        except Exception as error:  # an unexpected error costs this item only
            return item_error(symbol_shown(data), error)

    def _check_size(self, text: Body) -> None:
        """Raise an error, before parsing, for a series larger than any valid one."""
        if len(text) <= self._largest and _values(text) <= self._most_values:
            return
        name, count = longest_list(text)
        limits = {
            "ohlcv": self._settings.max_history,
            "quantiles": MAX_QUANTILES,
            "events": MAX_EVENTS,
        }
        limit = limits.get(name, self._settings.max_horizon)
        if name == "ohlcv" and count > limit:
            bounds = f"expected {self._settings.min_history} to {limit}"
            raise InvalidRequest(f"{count} rows of history: {bounds}", [(name, bounds)])
        if name in ("target_timestamps", "quantiles", "events") and count > limit:
            message = f"{count} {name}: expected at most {limit}"
            raise InvalidRequest(message, [(name, message)])
        raise InvalidRequest(
            f"one series holds more than {self._most_values} values, or more than "
            f"{self._largest // 1024} KiB, which no valid series does"
        )


class NotJson(InvalidRequest):
    """The body is not valid JSON."""


def _parsed(text: Body) -> Any:
    try:
        return from_json(text, allow_inf_nan=False, cache_strings="keys")
    except ValueError as error:
        hint = "; NaN and Infinity are not JSON" if b"NaN" in text or b"Infinity" in text else ""
        raise NotJson(f"the body is not JSON: {error}{hint}") from None


def _values(text: Body) -> int:
    """Return an upper estimate of the number of values in the JSON."""
    return text.count(b",") + text.count(b"[") + text.count(b"{")


def _groups(spans: list[tuple[int, int]]) -> Iterator[list[tuple[int, int]]]:
    """Group neighbours up to TURN bytes; each group has at least one."""
    group: list[tuple[int, int]] = []
    size = 0
    for begin, end in spans:
        if group and size + end - begin > TURN:
            yield group
            group, size = [], 0
        group.append((begin, end))
        size += end - begin
    if group:
        yield group
