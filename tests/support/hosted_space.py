"""A Space of the test Hub: its stage, and the process that serves it."""

import http.client
import json
import os
import subprocess
import sys
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

from tests.support import ROOT
from tradingbot.space.local import free_port

# A fault replaces the answer to a call. It is a status, or
#   "hang"     no answer within the caller's time-out, and no effect
#   "mute"     no answer, but the call takes effect
#   "late"     an error, but the call takes effect
#   "deaf"     the usual answer, but no effect
#   "garbage"  200 with a meaningless body
#   "cut"      the connection closes without an answer
#   "drip"     an answer byte by byte, and no effect
#   "endless"  an answer without end, and no effect
# or a function that changes the body.
Fault = int | str | Callable[[bytes], bytes]

# A Space that starts within a tenth of a second and has only /health, with a boot_id.
TINY_SPACE = (
    sys.executable,
    "-c",
    """
import json, sys, uuid
from http.server import BaseHTTPRequestHandler, HTTPServer
health = {"status": "ok", "model": "tiny", "model_revision": None, "boot_id": uuid.uuid4().hex}
class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(health).encode())
    def log_message(self, *args):
        pass
HTTPServer(("127.0.0.1", int(sys.argv[sys.argv.index("--port") + 1])), Handler).serve_forever()
""",
)
LOG = ("Traceback (most recent call last):\n", "MemoryError: the model is too large\n")


class Container(Protocol):
    """The process of a Space; the subset of subprocess.Popen that the Hub uses."""

    pid: int

    def poll(self) -> int | None: ...
    def kill(self) -> None: ...
    def wait(self) -> int: ...


Launch = Callable[[int, Mapping[str, str]], Container]  # starts a container on a port


def popen(command: Sequence[str]) -> Launch:
    """Return a function that starts `command` with the option --port."""

    def launch(port: int, environ: Mapping[str, str]) -> Container:
        return subprocess.Popen(
            [*command, "--port", str(port)],
            env=environ,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=ROOT,
            start_new_session=True,
        )

    return launch


@dataclass
class HostedSpace:
    """A Space on the Hub. `faults[action]` lists the faults of the next calls of an action.

    When the list of an action is empty, `happens` decides. Actions of the API: restart, pause,
    runtime, logs, info; of the Space: health, metrics, batch. `happens` is also called with
    "batch sent" (the container has the request), "batch done" (it has answered) and "paused".
    """

    repo: str
    path: str  # of its public address
    launch: Launch
    environ: dict[str, str] = field(default_factory=lambda: dict(os.environ))
    old_lingers: float = 0.1  # seconds that the old container answers after a restart
    private: bool = False
    patience: float = 1.5  # seconds, longer than a caller's time-out
    happens: Callable[[str], Fault | None] = lambda event: None
    stage: str = "PAUSED"
    ends_as: str = "RUNNING"  # the stage at the end of a start
    log: list[str] = field(default_factory=lambda: list(LOG))
    faults: dict[str, deque[Fault]] = field(default_factory=lambda: defaultdict(deque))
    calls: list[tuple[str, int]] = field(default_factory=list)  # of the API: action, status
    space_calls: list[tuple[str, int]] = field(default_factory=list)  # of the Space: the same
    tokens: set[str | None] = field(default_factory=set)  # Authorization headers it received
    starts: int = 0
    container: Container | None = None
    port: int = 0

    def __post_init__(self) -> None:
        self._lock = threading.RLock()
        self._generation = 0
        self._restarts: list[threading.Thread] = []

    @property
    def running(self) -> bool:
        """Whether a container of the Space is alive."""
        return self.container is not None and self.container.poll() is None

    def runtime(self) -> dict[str, Any]:
        """The runtime of the Space, as the API reports it."""
        with self._lock:
            if self.stage == "RUNNING" and not self.running:
                self.stage = "RUNTIME_ERROR"  # the process has ended by itself
            stage = self.stage
        hardware = {"current": "cpu-basic", "requested": "cpu-basic"}
        return {"stage": stage, "hardware": hardware, "storage": None, "gcTimeout": 172800}

    def actions(self) -> list[str]:
        return [action for action, _ in self.calls]

    def fault(self, action: str) -> Fault | None:
        """Return the fault of this call, or None."""
        planned = self.faults[action]
        return planned.popleft() if planned else self.happens(action)

    def start_now(self) -> None:
        """Start the Space immediately, as if another caller had started it before."""
        self._start()
        while self.boot_id() is None:
            time.sleep(0.02)
        self.stage = "RUNNING"

    @contextmanager
    def held(self, action: str) -> Iterator[threading.Event]:
        """Block answers to `action` in this context; set the event when a request arrives."""
        asked, go = threading.Event(), threading.Event()

        def hold(event: str) -> None:
            if event == action:
                asked.set()
                go.wait()

        before, self.happens = self.happens, hold
        try:
            yield asked
        finally:
            self.happens = before
            go.set()

    def boot_id(self) -> str | None:
        try:
            status, body = self.proxy("GET", "/health", b"", {})
        except OSError:
            return None
        return json.loads(body)["boot_id"] if status == 200 else None

    def restart(self) -> None:
        with self._lock:
            self._generation += 1
            restart = threading.Thread(target=self._restart, args=(self._generation,), daemon=True)
            restart.start()
            self._restarts = [*(r for r in self._restarts if r.is_alive()), restart]

    def settle(self) -> None:
        """Wait until no start is pending."""
        for restart in self._restarts:
            restart.join()

    def _restart(self, generation: int) -> None:
        time.sleep(self.old_lingers)  # until then the API reports the old stage
        with self._lock:
            if generation != self._generation:
                return
            self.stage = "RUNNING_APP_STARTING" if self.running else "APP_STARTING"
        time.sleep(self.old_lingers)
        with self._lock:
            if generation != self._generation:
                return
            self._stop()
            if self.ends_as == "RUNNING":
                self._start()
            self.stage = self.ends_as

    def pause(self) -> None:
        with self._lock:
            self._generation += 1
            self._stop()
            self.stage = "PAUSED"

    def _start(self) -> None:
        self.starts += 1
        self.port = free_port()
        self.container = self.launch(self.port, self.environ)

    def _stop(self) -> None:
        if self.container is not None:
            self.container.kill()
            self.container.wait()
            self.container = None

    def proxy(
        self, method: str, path: str, body: bytes, headers: Mapping[str, str]
    ) -> tuple[int, bytes]:
        """Forward a request to the container, as the Space's public address does."""
        if not self.running:
            return 503, b"<html>This Space is paused</html>"
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        try:
            connection.request(method, path, body, dict(headers))
            if path == "/predict/batch":
                self.happens("batch sent")
            response = connection.getresponse()
            answer = response.status, response.read()
            if path == "/predict/batch":
                self.happens("batch done")
            return answer
        except (OSError, http.client.HTTPException):
            return 503, b"<html>Your Space is starting</html>"
        finally:
            connection.close()
