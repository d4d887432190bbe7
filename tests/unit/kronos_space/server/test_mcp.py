"""`/mcp` when the service cannot answer, tested in this process."""

import json
import sys
from typing import Any

import pytest
from starlette.testclient import TestClient

from kronos_space.app import create_app
from kronos_space.exceptions import QueueFull, ShuttingDown
from kronos_space.server import mcp
from kronos_space.settings import Settings
from kronos_space.weights.checkpoint import Checkpoint
from tests.support.candles import request

HEADERS = {"Accept": "application/json, text/event-stream", "Content-Type": "application/json"}


def ask(client: TestClient) -> Any:
    params = {"name": "forecast", "arguments": request()}
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
    return client.post("/mcp", content=json.dumps(message), headers=HEADERS)


def error_of(answer: Any) -> str:
    """Return the error text of the tool."""
    result = json.loads(answer.text.partition("data: ")[2])["result"]
    assert result["isError"]
    [content] = result["content"]
    text: str = content["text"]
    return text


def test_the_limits_of_the_service_are_reported_in_text(
    nano_checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = create_app(Settings(max_work=60), checkpoint=nano_checkpoint)
    with TestClient(app) as client:
        assert "is 88 bars of work: expected at most 60" in error_of(ask(client))
        worker = app.state.service.worker
        for error, message in (
            (QueueFull(retry_after=7), "too many forecasts are waiting; try again in 7 s"),
            (ShuttingDown("the service is shutting down"), "the service is shutting down"),
            (RuntimeError("postgresql://me:secret@db"), "the service failed; its log says why"),
        ):

            def refuse(_prompts: object, error: Exception = error) -> None:
                raise error

            monkeypatch.setattr(worker, "submit", refuse)
            assert error_of(ask(client)) == f"No answer: {message}"
        worker.drain()
        assert ask(client).status_code == 503


def test_without_the_sdk_a_message_says_what_is_missing_and_the_rest_works(
    nano_checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("mcp", "mcp.server", "mcp.server.streamable_http_manager"):
        monkeypatch.setitem(sys.modules, module, None)
    with TestClient(create_app(Settings(), checkpoint=nano_checkpoint)) as client:
        for _ in range(2):
            answer = ask(client)
            assert answer.status_code == 501
            assert "pip install 'mcp>=2.3,<3'" in answer.json()["error"]["message"]
        assert client.post("/predict", json=request()).status_code == 200


def test_a_failure_of_the_sdk_is_reported_to_every_caller(
    nano_checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("an SDK that cannot be started")

    monkeypatch.setattr(mcp, "_manager", fail)
    app = create_app(Settings(), checkpoint=nano_checkpoint)
    with TestClient(app, raise_server_exceptions=False) as client:
        for _ in range(2):
            assert ask(client).status_code == 500


def test_calls_beyond_those_that_may_wait_are_refused(
    nano_checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = create_app(Settings(), checkpoint=nano_checkpoint)
    with TestClient(app) as client:
        monkeypatch.setattr(mcp, "AT_ONCE", 0)
        monkeypatch.setattr(mcp, "WAITING", 0)
        answer = ask(client)
        assert answer.status_code == 429
        assert answer.headers["Retry-After"] == "5"
        assert "too many calls of /mcp are waiting" in answer.json()["error"]["message"]
        monkeypatch.undo()
        assert ask(client).status_code == 200
