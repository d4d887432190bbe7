"""More than a Space can serve, sent to it for a while."""

# ruff: noqa: RUF001 (the multiplication sign is meant)
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
    """Large batches without a pause, bodies of 50 MB, one that trickles a byte a second, invalid
    ones; with somebody who asks /health all the while."""

    def __init__(self, url: str, pid: int, seconds: float) -> None:
        self.url = url
        self.pid = pid  # of the service
        self.seconds = seconds
        self.statuses: Counter[int | str] = Counter()  # of the answers; errors by their name
        self.health: list[float] = []  # seconds that /health took
        self.memory: list[float] = []  # resident MiB of the service
        self._until = 0.0

    def run(self, series: Sequence[Mapping[str, Any]]) -> None:
        """Send for `seconds`, and return once everybody has their last answer."""
        batch = json.dumps({"requests": [{**one, "samples": 100} for one in series] * 4}).encode()
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

    def strange(self) -> bool:
        """Whether an answer was none of ALLOWED."""
        return any(status not in {*ALLOWED, CLOSED} for status in self.statuses)

    def report(self) -> str:
        """A table in markdown."""
        quarter = max(1, len(self.memory) // 4)
        early = statistics.median(self.memory[:quarter])
        late = statistics.median(self.memory[-quarter:])
        answers = sorted(self.statuses.items(), key=str)
        health = (*quantiles(self.health, 0.5, 0.99), max(self.health))
        rows = [
            ["answers", ", ".join(f"{count} × {status}" for status, count in answers)],
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

    def _going_on(self) -> bool:
        return time.monotonic() < self._until

    def _send(self, body: bytes) -> None:
        with requests.Session() as session:
            while self._going_on():
                status = self._answer(session, body)
                self.statuses[status] += 1
                if status == 429:  # less polite than Retry-After asks for
                    time.sleep(0.2)

    def _answer(self, session: requests.Session, body: bytes) -> int | str:
        try:
            return session.post(f"{self.url}/predict/batch", data=body, timeout=300).status_code
        except requests.Timeout:
            return "no answer in 300 s"
        except requests.ConnectionError:
            # the service answers 413 and closes while the rest is still being sent
            return CLOSED if body is TOO_LARGE else "broken"

    def _trickle(self) -> None:
        host, port = self.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as slow:
            slow.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n")
            while self._going_on():
                try:
                    slow.sendall(b" ")
                except OSError:
                    return  # given up by the service
                time.sleep(1)

    def _watch(self) -> None:
        with requests.Session() as session:
            while self._going_on():
                self.health.append(timed(lambda: session.get(f"{self.url}/health", timeout=60)))
                self.memory.append(memory_mib("VmRSS", self.pid))
                time.sleep(0.25)


def quantiles(values: Sequence[float], *levels: float) -> list[float]:
    ordered = sorted(values)
    return [ordered[min(len(ordered) - 1, int(level * len(ordered)))] for level in levels]
