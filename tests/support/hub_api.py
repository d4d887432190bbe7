"""The HTTP side of the Hub for tests: handles the calls to the API and to its Spaces."""

import json
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from tests.support.hosted_space import Fault, HostedSpace
from tests.support.http_server import Handler

REPO = "someone/kronos-trading-api"
TOKEN = "hf_test_token"
API = "/api/spaces"

NO_ANSWER = ("hang", "cut", "drip", "endless")
PIECES = 10_000  # lasts 8 minutes, or 650 MB


class HubHandler(Handler):
    """Handle requests to the Hub below /api, and to the addresses of its Spaces."""

    space: HostedSpace  # of the request

    def __init__(self, spaces: Mapping[str, HostedSpace], *args: Any) -> None:
        self.spaces = spaces
        super().__init__(*args)  # handles the request

    def do_GET(self) -> None:
        self._handle()

    def do_POST(self) -> None:
        self._handle()

    def _handle(self) -> None:
        path = self.path.partition("?")[0]  # without ?factory=true, which is also a restart
        for space in self.spaces.values():
            self.space = space
            if (call := _below(path, space.path)) is not None:
                return self._answer_of_space(call)
            if (call := _below(path, f"{API}/{space.repo}")) is not None:
                return self._answer_of_hub(call)
        self.space = next(iter(self.spaces.values()))
        action = path.rpartition("/")[2] if path.startswith(API) else "other"
        return self._answer(action, 404, {"error": "not found"})

    def _answer_of_hub(self, call: str) -> None:
        space = self.space
        match self.command, call:
            case "GET", "":
                subdomain = space.repo.replace("/", "-").removesuffix("-trading-api")
                info = {"id": space.repo, "private": space.private, "subdomain": subdomain}
                self._api("info", lambda: info)
            case "GET", "/runtime":
                self._api("runtime", space.runtime)
            case "GET", "/logs/run" | "/logs/build":
                self._api("logs", lambda: None)
            case "POST", "/restart" | "/pause":
                action = call.removeprefix("/")
                self._api(action, lambda: getattr(space, action)() or space.runtime())
            case _:
                self._answer(call.rpartition("/")[2], 404, {"error": "not found"})

    def _api(self, action: str, answer: Any) -> None:
        authorization = self.headers.get("Authorization")
        public = action == "runtime" and authorization is None and not self.space.private
        if not public and authorization != f"Bearer {TOKEN}":
            return self._answer(action, 401, {"error": "Invalid credentials"})
        fault = self.space.fault(action)
        if fault in NO_ANSWER:
            self.space.calls.append((action, 0))
            return self._no_answer(fault)
        if fault == "garbage":
            return self._answer(action, 200, ["?"])
        if isinstance(fault, int):
            return self._answer(action, fault, {"error": "a fault of the test"})
        content = self.space.runtime() if fault == "deaf" else answer()
        if action == "pause" and fault != "deaf":
            self.space.happens("paused")
        if fault == "mute":
            self.space.calls.append((action, 0))
            return self._no_answer("hang")
        if fault == "late":
            return self._answer(action, 504, {"error": "gateway time-out"})
        if action == "logs":
            lines = [{"data": line, "timestamp": ""} for line in self.space.log]
            events = "".join(f"data: {json.dumps(line)}\n\n" for line in lines)
            return self.send_bytes(200, events.encode(), "text/event-stream")
        return self._answer(action, 200, content)

    def _no_answer(self, fault: Fault | None) -> None:
        self.close_connection = True
        if fault == "hang":
            time.sleep(self.space.patience)
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
        self.space.calls.append((action, status))
        self.send_json(status, content)

    def _answer_of_space(self, path: str) -> None:
        authorization = self.headers.get("Authorization")
        self.space.tokens.add(authorization)
        body = self.read_body()
        if self.space.private and authorization != f"Bearer {TOKEN}":
            return self.send_bytes(404, b"<html>no such Space</html>", "text/html")
        keep = {
            name: value
            for name, value in self.headers.items()
            if name.lower() in ("content-type", "x-api-key")
        }
        action = path.rpartition("/")[2]
        fault = self.space.fault(action)
        if fault in NO_ANSWER:
            self.space.space_calls.append((action, 0))
            return self._no_answer(fault)
        if isinstance(fault, int):
            status, answer = fault, b"<html>a fault of the test</html>"
        else:
            status, answer = self.space.proxy(self.command, path, body, keep)
        if callable(fault) and status == 200:
            answer = fault(answer)
        self.space.space_calls.append((action, status))
        self.send_bytes(status, answer, "application/json" if status == 200 else "text/html")
        return None


def _below(path: str, root: str) -> str | None:
    """Return the rest of a path that is `root` or below it, else None."""
    rest = path.removeprefix(root)
    return rest if path.startswith(root) and rest[:1] in ("", "/") else None
