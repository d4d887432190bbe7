"""Overload a Space for a given time and record how it responds."""

# ruff: noqa: RUF001 (the multiplication sign is intended)
import json
import socket
import statistics
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import requests

from benchmarks._support import say, table, timed
from kronos_space.verification.memory import memory_mib

ALLOWED = {200, 413, 422, 429}
CLOSED = "closed while sending 50 MB"
TOO_LARGE = b" " * 50_000_000
INVALID = b'{"requests":[{}],"x":1}'


class Overload:
    """An overload of a Space, with a client that requests /health throughout.

    The load consists of large batches without a pause, bodies of 50 MB, a body sent at one byte a
    second, and invalid bodies.
    """

    def __init__(self, url: str, pid: int, seconds: float) -> None:
        self.url = url
        self.pid = pid  # process of the service
        self.seconds = seconds
        # of the responses, or a description of the failure
        self.statuses: Counter[int | str] = Counter()
        self.health: list[float] = []  # seconds that each /health request took
        self.memory: list[float] = []  # resident memory of the service in MiB
        self._until = 0.0

    def run(self, series: Sequence[Mapping[str, Any]]) -> None:
        """Send requests for `seconds`. Return when every client has its last response."""
        batch = json.dumps(
            {"requests": [{**request, "samples": 100} for request in series] * 4}
        ).encode()
        work: list[tuple[Callable[..., None], tuple[bytes, ...]]] = [
            *((self._send, (batch,)) for _ in range(12)),
            *((self._send, (TOO_LARGE,)) for _ in range(2)),
            (self._send, (INVALID,)),
            (self._trickle, ()),
            (self._watch, ()),
        ]
        self._until = time.monotonic() + self.seconds
        threads = [threading.Thread(target=target, args=arguments) for target, arguments in work]
        say(f"overload for {self.seconds:g} s")
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def has_unexpected_status(self) -> bool:
        """Return whether a response had a status that is not in ALLOWED."""
        return any(status not in {*ALLOWED, CLOSED} for status in self.statuses)

    def report(self) -> str:
        """Return a Markdown table of the results."""
        quarter = max(1, len(self.memory) // 4)
        early = statistics.median(self.memory[:quarter])
        late = statistics.median(self.memory[-quarter:])
        responses = sorted(self.statuses.items(), key=str)
        health = (*quantiles(self.health, 0.5, 0.99), max(self.health))
        rows = [
            ["responses", ", ".join(f"{count} × {status}" for status, count in responses)],
            [
                "/health, ms: median, 99 %, longest",
                ", ".join(f"{1000 * seconds:.0f}" for seconds in health),
            ],
            [
                "resident memory, MiB: first quarter, last quarter, peak",
                f"{early:.0f}, {late:.0f}, {max(self.memory):.0f}",
            ],
        ]
        return table([f"{self.seconds:g} s of overload", ""], rows)

    def _is_running(self) -> bool:
        return time.monotonic() < self._until

    def _send(self, body: bytes) -> None:
        with requests.Session() as session:
            while self._is_running():
                status = self._post(session, body)
                self.statuses[status] += 1
                if status == 429:  # shorter than Retry-After asks for
                    time.sleep(0.2)

    def _post(self, session: requests.Session, body: bytes) -> int | str:
        try:
            return session.post(f"{self.url}/predict/batch", data=body, timeout=300).status_code
        except requests.Timeout:
            return "no response in 300 s"
        except requests.ConnectionError:
            # the service responds with 413 and closes the connection while the rest is still being
            # sent
            return CLOSED if body is TOO_LARGE else "broken"

    def _trickle(self) -> None:
        host, port = self.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as slow:
            slow.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n")
            while self._is_running():
                try:
                    slow.sendall(b" ")
                except OSError:
                    return  # closed by the service
                time.sleep(1)

    def _watch(self) -> None:
        with requests.Session() as session:
            while self._is_running():
                self.health.append(timed(lambda: session.get(f"{self.url}/health", timeout=60)))
                self.memory.append(memory_mib("VmRSS", self.pid))
                time.sleep(0.25)


def quantiles(values: Sequence[float], *levels: float) -> list[float]:
    ordered = sorted(values)
    return [ordered[min(len(ordered) - 1, int(level * len(ordered)))] for level in levels]
