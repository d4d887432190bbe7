"""A server with OpenAI's chat protocol that gives scripted answers."""

import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


def text_answer(text: str) -> dict[str, Any]:
    """Return an answer with text."""
    return {"role": "assistant", "content": text}


def tool_calls(*tools: tuple[str, Any]) -> dict[str, Any]:
    """Return an answer with tool calls (name, arguments); string arguments are sent unchanged."""
    return {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {
                "id": f"call_{number}",
                "type": "function",
                "function": {
                    "name": name,
                    "arguments": given if isinstance(given, str) else json.dumps(given),
                },
            }
            for number, (name, given) in enumerate(tools)
        ],
    }


@dataclass(frozen=True)
class RawBody:
    """A body that is sent unchanged with status 200."""

    body: bytes | str
    content_type: str = "application/json"

    @classmethod
    def of(cls, content: Any) -> "RawBody":
        return cls(json.dumps(content))


def completion(message: Any, finish_reason: str | None = "stop", **fields: Any) -> dict[str, Any]:
    """Return a complete chat completion with one message."""
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "some/model",
        "choices": [{"index": 0, "message": message, "finish_reason": finish_reason}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
        **fields,
    }


@dataclass(frozen=True)
class Stream:
    """An answer in pieces: deltas, or events for which the server waits before the next delta."""

    parts: Sequence[dict[str, Any] | threading.Event]
    finish_reason: str | None = "stop"  # None: the connection ends without a finish reason

    def events(self) -> Iterator[str | threading.Event]:
        for part in self.parts:
            yield part if isinstance(part, threading.Event) else self._event(part, None)
        if self.finish_reason is not None:
            yield self._event({}, self.finish_reason)
            yield "data: [DONE]\n\n"

    @staticmethod
    def _event(delta: dict[str, Any], finish_reason: str | None) -> str:
        chunk = {
            "id": "chatcmpl-1",
            "object": "chat.completion.chunk",
            "created": 1,
            "model": "some/model",
            "choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}],
        }
        return f"data: {json.dumps(chunk)}\n\n"


def streamed(*pieces: str | threading.Event) -> Stream:
    """Return a streamed answer with this text, split into pieces."""
    return Stream([{"content": piece} if isinstance(piece, str) else piece for piece in pieces])


class ReceivedRequests:
    """The requests that the server received: bodies and API keys."""

    def __init__(self) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.keys: list[str] = []


Answer = dict[str, Any] | int | threading.Event | RawBody | Stream


@contextmanager
def openai_server(
    *answers: Answer,
) -> Iterator[tuple[str, ReceivedRequests]]:
    """Run the server; yield its base URL and the requests. The last answer repeats.

    An integer is an answer with that status. At an event the server waits until the event is set.
    Like OpenAI, it refuses a conversation in which a tool call has no result.
    """
    asked = ReceivedRequests()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, list(answers), asked))
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v1", asked
    finally:
        server.shutdown()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    def __init__(self, left: list[Answer], asked: ReceivedRequests, *args: Any) -> None:
        self._left, self._asked = left, asked
        super().__init__(*args)

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self._asked.bodies.append(body)
        self._asked.keys.append(self.headers.get("Authorization", "").removeprefix("Bearer "))
        answer = self._left.pop(0) if len(self._left) > 1 else self._left[0]
        if self.path != "/v1/chat/completions" or _unanswered(body["messages"]):
            answer = 400
        if isinstance(answer, threading.Event):
            answer.wait(30)
            self.close_connection = True
        elif isinstance(answer, int):
            self._send(answer, {"error": {"message": f"no, says {answer}", "type": "x"}})
        elif isinstance(answer, Stream):
            self._stream(answer)
        elif isinstance(answer, RawBody):
            self._send(200, answer)
        else:
            finish = "tool_calls" if answer.get("tool_calls") else "stop"
            self._send(200, completion(answer, finish, model=body["model"]))

    def _stream(self, answer: Stream) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()  # HTTP/1.0: closing the connection ends the body
        for event in answer.events():
            if isinstance(event, threading.Event):
                event.wait(30)
            else:
                self.wfile.write(event.encode())
                self.wfile.flush()

    def _send(self, status: int, content: dict[str, Any] | RawBody) -> None:
        raw = content if isinstance(content, RawBody) else RawBody.of(content)
        data = raw.body.encode() if isinstance(raw.body, str) else raw.body
        self.send_response(status)
        self.send_header("Content-Type", raw.content_type)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args: Any) -> None:
        pass


def _unanswered(messages: list[dict[str, Any]]) -> set[str]:
    called = {call["id"] for message in messages for call in message.get("tool_calls") or ()}
    return called - {message.get("tool_call_id") for message in messages}
