"""The HTTP side of the Hub for tests: handles the calls to the API and to the Space."""

import json
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from tests.support.http_server import Handler

if TYPE_CHECKING:
    from tests.support.hub import Hub

REPO = "someone/kronos-trading-api"
TOKEN = "hf_test_token"
API = f"/api/spaces/{REPO}"

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


NO_ANSWER = ("hang", "cut", "drip", "endless")
PIECES = 10_000  # lasts 8 minutes, or 650 MB


class HubHandler(Handler):
    """Handle requests to the Hub below /api, and to its Space below /space."""

    def __init__(self, hub: "Hub", *args: Any) -> None:
        self.hub = hub
        super().__init__(*args)  # handles the request

    def do_GET(self) -> None:
        if self.path.startswith("/space/"):
            return self._space()
        if not self.path.startswith(API):
            return self._answer("other", 404, {"error": "not found"})
        match self.path.removeprefix(API).split("?")[0]:
            case "":
                info = {"id": REPO, "private": self.hub.private, "subdomain": "someone-kronos"}
                self._api("info", lambda: info)
            case "/runtime":
                self._api("runtime", self.hub.runtime)
            case "/logs/run" | "/logs/build":
                self._api("logs", lambda: None)
        return None

    def do_POST(self) -> None:
        if self.path.startswith("/space/"):
            return self._space()
        path = urlsplit(self.path).path  # without ?factory=true, which is also a restart
        action = path.rpartition("/")[2]
        if path not in (f"{API}/restart", f"{API}/pause"):
            return self._answer(action, 404, {"error": "no such Space"})
        self._api(action, lambda: getattr(self.hub, action)() or self.hub.runtime())
        return None

    def _api(self, action: str, answer: Any) -> None:
        authorization = self.headers.get("Authorization")
        public = action == "runtime" and authorization is None and not self.hub.private
        if not public and authorization != f"Bearer {TOKEN}":
            return self._answer(action, 401, {"error": "Invalid credentials"})
        fault = self._fault(action)
        if fault in NO_ANSWER:
            self.hub.calls.append((action, 0))
            return self._no_answer(fault)
        if fault == "garbage":
            return self._answer(action, 200, ["?"])
        if isinstance(fault, int):
            return self._answer(action, fault, {"error": "a fault of the test"})
        content = self.hub.runtime() if fault == "deaf" else answer()
        if action == "pause" and fault != "deaf":
            self.hub.happens("paused")
        if fault == "mute":
            self.hub.calls.append((action, 0))
            return self._no_answer("hang")
        if fault == "late":
            return self._answer(action, 504, {"error": "gateway time-out"})
        if action == "logs":
            events = "".join(
                f"data: {json.dumps({'data': line, 'timestamp': ''})}\n\n" for line in self.hub.log
            )
            return self.send_bytes(200, events.encode(), "text/event-stream")
        return self._answer(action, 200, content)

    def _fault(self, action: str) -> Fault | None:
        planned = self.hub.faults[action]
        return planned.popleft() if planned else self.hub.happens(action)

    def _no_answer(self, fault: Fault | None) -> None:
        self.close_connection = True
        if fault == "hang":
            time.sleep(self.hub.patience)
        elif fault in ("drip", "endless"):
            self._go_on(fault == "drip")

    def _go_on(self, slowly: bool) -> None:
        """Send parts of a body until the caller closes the connection."""
        piece = b"1\r\n \r\n" if slowly else b"10000\r\n" + b" " * 65536 + b"\r\n"
        with suppress(OSError):
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for _ in range(PIECES):
                self.wfile.write(piece)
                time.sleep(0.05 if slowly else 0.0)

    def _answer(self, action: str, status: int, content: Any) -> None:
        self.hub.calls.append((action, status))
        self.send_json(status, content)

    def _space(self) -> None:
        authorization = self.headers.get("Authorization")
        self.hub.tokens.add(authorization)
        body = self.read_body()
        if self.hub.private and authorization != f"Bearer {TOKEN}":
            return self.send_bytes(404, b"<html>no such Space</html>", "text/html")
        keep = {
            name: value
            for name, value in self.headers.items()
            if name.lower() in ("content-type", "x-api-key")
        }
        path = self.path.removeprefix("/space")
        action = path.rpartition("/")[2]
        fault = self._fault(action)
        if fault in NO_ANSWER:
            self.hub.space_calls.append((action, 0))
            return self._no_answer(fault)
        if isinstance(fault, int):
            status, answer = fault, b"<html>a fault of the test</html>"
        else:
            status, answer = self.hub.proxy(self.command, path, body, keep)
        if callable(fault) and status == 200:
            answer = fault(answer)
        self.hub.space_calls.append((action, status))
        self.send_bytes(status, answer, "application/json" if status == 200 else "text/html")
        return None
