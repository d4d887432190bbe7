"""A server that receives notifications and gives configured answers."""

import json
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tests.support.http_server import Handler, Server


@dataclass(frozen=True)
class Post:
    """A received request."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]


class NotificationServer(Server):
    """Received requests in `posts`; `answers` are the next statuses, 200 when the list is empty."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.posts: list[Post] = []
        self.answers: deque[bytes | int] = deque()

    @property
    def host(self) -> str:
        return self.url.removeprefix("http://")


class _Handler(Handler):
    server: NotificationServer

    def do_POST(self) -> None:
        body = json.loads(self.read_body())
        self.server.posts.append(Post(self.path, dict(self.headers), body))
        answer = self.server.answers.popleft() if self.server.answers else 200
        if isinstance(answer, int):
            headers = {"Location": f"{self.server.url}/elsewhere"} if answer in (301, 307) else {}
            self.send_bytes(answer, b"{}", "application/json", headers)
        else:
            self.wfile.write(answer)
            self.close_connection = not answer.endswith(b"...")


@contextmanager
def notification_server() -> Iterator[NotificationServer]:
    box = NotificationServer()
    box.start()
    try:
        yield box
    finally:
        box.stop()
