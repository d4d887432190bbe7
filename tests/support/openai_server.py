"""A server that speaks OpenAI's chat protocol and says what a test has written down."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


def says(text: str) -> dict[str, Any]:
    """An answer in words."""
    return {"role": "assistant", "content": text}


def calls(*tools: tuple[str, Any]) -> dict[str, Any]:
    """An answer that calls tools: (name, arguments), text instead of arguments goes as it is."""
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


class Asked:
    """What was sent: `bodies`, and the keys that came along."""

    def __init__(self) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.keys: list[str] = []


@contextmanager
def openai_server(
    *answers: dict[str, Any] | int | threading.Event,
) -> Iterator[tuple[str, Asked]]:
    """The base URL, and what is asked. A number is an answer with that status; the last repeats.

    At an event it says nothing until that is set. As the real one it refuses a conversation in
    which a called tool has no result.
    """
    left = list(answers)
    asked = Asked()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            asked.bodies.append(body)
            asked.keys.append(self.headers.get("Authorization", "").removeprefix("Bearer "))
            answer = left.pop(0) if len(left) > 1 else left[0]
            if self.path != "/v1/chat/completions" or _unanswered(body["messages"]):
                answer = 400
            if isinstance(answer, threading.Event):
                answer.wait(30)
                self.close_connection = True
                return
            if isinstance(answer, int):
                self._send(answer, {"error": {"message": f"no, says {answer}", "type": "x"}})
                return
            finish = "tool_calls" if answer.get("tool_calls") else "stop"
            choice = {"index": 0, "message": answer, "finish_reason": finish}
            usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
            self._send(
                200,
                {
                    "id": "chatcmpl-1",
                    "object": "chat.completion",
                    "created": 1,
                    "model": body["model"],
                    "choices": [choice],
                    "usage": usage,
                },
            )

        def _send(self, status: int, content: dict[str, Any]) -> None:
            data = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v1", asked
    finally:
        server.shutdown()
        server.server_close()


def _unanswered(messages: list[dict[str, Any]]) -> set[str]:
    called = {call["id"] for message in messages for call in message.get("tool_calls") or ()}
    return called - {message.get("tool_call_id") for message in messages}
