"""Request bodies are parsed in turn. A small body does not wait for a large one."""

import asyncio
import json
from threading import Event
from types import SimpleNamespace
from typing import Any

from kronos_space.server.reader import LARGE, Reader
from kronos_space.settings import Settings
from tests.support.candles import request


def test_a_small_body_does_not_wait_for_a_large_one() -> None:
    begun, released = Event(), Event()

    def prepare(asked: Any) -> Any:
        if asked.symbol == "LARGE":
            begun.set()
            assert released.wait(60)
        return asked.symbol

    forecaster: Any = SimpleNamespace(prepare=prepare)
    padding = " " * LARGE
    large = f'{{"requests":[{padding}{json.dumps(request(symbol="LARGE"))}]}}'.encode()
    small = json.dumps(request(symbol="SMALL")).encode()

    async def both() -> tuple[Any, Any]:
        reader = Reader(forecaster, Settings())
        reading = asyncio.ensure_future(reader.batch(large))
        await asyncio.to_thread(begun.wait, 60)
        first = await asyncio.wait_for(reader.single(small), 60)
        assert not reading.done()
        released.set()
        try:
            return first, await reading
        finally:
            reader.close()

    assert asyncio.run(both()) == (["SMALL"], ["LARGE"])
