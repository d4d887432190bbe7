"""`/mcp` of a real service, called by the SDK's client and by hostile callers."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mcp import Client, MCPError
from mcp.client.streamable_http import streamable_http_client

from kronos_space.schemas import ForecastResponse, HealthResponse
from kronos_space.server.mcp_messages import REFERENCE
from tests.support import ROOT
from tests.support.candles import bars, request
from tests.support.space_server import Server, serving, until

KEY = {"X-API-Key": "secret"}
HEADERS = {"Accept": "application/json, text/event-stream", **KEY}
JSON = {"Content-Type": "application/json"}
MODERN = {"MCP-Protocol-Version": "2026-07-28", "Mcp-Method": "tools/call", "Mcp-Name": "forecast"}


META = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {},
    "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
}
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=10,
)


def call(tool: str, arguments: dict[str, Any], *, modern: bool = False) -> bytes:
    params: dict[str, Any] = {"name": tool, "arguments": arguments}
    if modern:
        params["_meta"] = META
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
    return json.dumps(message).encode()


@pytest.fixture(scope="module")
def space(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("space") / "log", KRONOS_API_KEY="secret") as server:
        yield server


@asynccontextmanager
async def assistant(
    space: Server, mode: Any = "auto", headers: dict[str, str] = KEY
) -> AsyncIterator[Client]:
    async with httpx2.AsyncClient(headers=headers, timeout=60) as http:
        transport = streamable_http_client(f"{space.url}/mcp", http_client=http)
        async with Client(transport, mode=mode) as client:
            yield client


def called(space: Server, tool: str, arguments: dict[str, Any]) -> Any:
    async def call() -> Any:
        async with assistant(space) as client:
            return await client.call_tool(tool, arguments)

    return asyncio.run(call())


@pytest.mark.parametrize("mode", ["auto", "legacy"])
def test_both_generations_of_clients_get_the_same_as_from_predict(space: Server, mode: Any) -> None:
    async def ask() -> Any:
        async with assistant(space, mode) as client:
            [tool, *_] = (await client.list_tools()).tools
            jsonschema.validate(request(), tool.input_schema)
            [page] = (await client.read_resource(tool.meta["ui"]["resourceUri"])).contents
            assert page.mime_type == "text/html;profile=mcp-app"
            assert tool.annotations.read_only_hint
            return tool, await client.call_tool("forecast", request())

    tool, result = asyncio.run(ask())
    answer = httpx2.post(f"{space.url}/predict", json=request(), headers=KEY).json()
    assert result.structured_content == answer
    jsonschema.validate(result.structured_content, tool.output_schema)
    assert tool.output_schema == ForecastResponse.model_json_schema(mode="serialization")
    assert "3 bars ahead of 2026-04-02" in result.content[0].text
    assert "not meant for trading" in result.content[0].text


def test_events_and_status_are_returned_as_text_and_as_documents(space: Server) -> None:
    asked = request(samples=50, events=["touch +2%", "drawdown above 5%"])
    result = called(space, "path_events", asked)
    assert [event["event"] for event in result.structured_content["events"]] == asked["events"]
    assert "touch +2%: " in result.content[0].text
    quoted = {**asked, "ohlcv": json.dumps(asked["ohlcv"]), "events": json.dumps(asked["events"])}
    assert called(space, "path_events", quoted).structured_content == result.structured_content
    status = called(space, "status", {})
    HealthResponse.model_validate(status.structured_content)


@pytest.mark.parametrize(
    ("tool", "arguments", "message"),
    [
        ("forecast", {}, "symbol: Field required"),
        ("forecast", request(samples=9999), "samples 9999: expected at most 256"),
        ("forecast", request(return_paths=True), "return_paths: too large for a conversation"),
        ("forecast", request(horizon="soon"), "horizon: Input should be a valid integer"),
        ("forecast", request(ohlcv=bars()[:5]), "5 rows of history: expected 32 to 4096"),
        ("path_events", request(), "events: expected at least one, such as 'touch +2%'"),
        ("path_events", request(events=["moon"]), "moon"),
        ("status", {"all": True}, "status takes no arguments"),
    ],
)
def test_a_refusal_of_predict_is_a_tool_error_with_the_same_text(
    space: Server, tool: str, arguments: dict[str, Any], message: str
) -> None:
    result = result_of(post(space, call(tool, arguments)))
    assert result["isError"]
    assert message in result["content"][0]["text"]


def test_a_caller_without_the_key_is_refused_before_anything_is_read(space: Server) -> None:
    async def look(headers: dict[str, str]) -> None:
        async with assistant(space, headers=headers) as client:
            await client.list_tools()

    for headers in ({}, {"X-API-Key": "wrong"}):
        with pytest.raises(ExceptionGroup) as raised:
            asyncio.run(look(headers))
        [error] = errors_in(raised.value)
        assert isinstance(error, MCPError)
        assert str(error) == "X-API-Key is missing or wrong"
    broken = httpx2.post(f"{space.url}/mcp", content=b"{", headers={"X-API-Key": "wrong"})
    assert broken.status_code == 401


@pytest.mark.parametrize(
    ("status", "body", "headers"),
    [
        (403, b"{}", {"Origin": "http://evil.example"}),
        (403, b"{}", {"Origin": "http://evil.example", "Host": "evil.example"}),  # DNS rebinding
        (403, b"{}", {"Origin": "null"}),
        (403, b"{}", {"Origin": "https://me-space.hf.space.evil.example"}),
        (400, b"{}", {"Origin": "http://localhost:6274"}),
        (400, b"{}", {"Origin": "https://me-space.hf.space", "Host": "me-space.hf.space"}),
        (415, b"{}", {"Content-Type": "text/plain"}),
        (413, b" " * 3_000_000, {}),
        (422, b"[" + b"1," * 400_000 + b"1]", {}),
        (400, b"{broken", {}),
        (400, b"[" * 10_000, {}),
        (400, b"[]", {}),
        (400, call("forecast", request(symbol="\ud800")), {}),
        (400, b'{"jsonrpc":"2.0","id":1,"method":7}', {}),
        (400, b'{"jsonrpc":"2.0","id":1,"method":"tools/call"}', MODERN),
        (400, b"9" * 10_000, MODERN),
    ],
)
def test_an_invalid_request_gets_the_protocols_error_format(
    space: Server, status: int, body: bytes, headers: dict[str, str]
) -> None:
    answer = post(space, body, headers)
    assert answer.status_code == status, answer.text
    error = answer.json()
    assert error["jsonrpc"] == "2.0"
    assert error["error"]["message"]
    assert httpx2.get(f"{space.url}/health").status_code == 200


@pytest.mark.parametrize("name", ["id", "method", "jsonrpc", "params"])
def test_little_of_a_message_is_repeated(space: Server, name: str) -> None:
    message = json.loads(call("status", {})) | {name: "x" * 60_000}
    assert len(post(space, json.dumps(message).encode()).content) < 3000
    message[name] = "x" * 1_000_000
    assert len(post(space, json.dumps(message).encode()).content) < 3000


def test_the_reference_to_the_arguments_cannot_be_guessed(space: Server) -> None:
    result = result_of(post(space, call("forecast", {REFERENCE: "1" * 32})))
    assert result["isError"]
    assert "Field required" in result["content"][0]["text"]


METHODS = [
    "tools/list",
    "tools/call",
    "initialize",
    "ping",
    "resources/read",
    "server/discover",
    "notifications/cancelled",
    "subscriptions/listen",
    "prompts/get",
    "nothing/such",
]
MESSAGES = st.fixed_dictionaries(
    {
        "jsonrpc": st.sampled_from(["2.0", "1.0", 2]),
        "method": st.sampled_from(METHODS),
    },
    optional={
        "id": JSON_VALUES,
        "params": st.fixed_dictionaries(
            {},
            optional={
                "name": st.sampled_from(["forecast", "path_events", "status", "nothing"]),
                "uri": st.sampled_from(["ui://kronos/fan.html", "file:///etc/passwd"]),
                "arguments": JSON_VALUES | st.just(request(horizon=1, samples=1)),
                "_meta": JSON_VALUES | st.just(META),
            },
        )
        | JSON_VALUES,
    },
)


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(message=MESSAGES | JSON_VALUES, headers=st.sampled_from([{}, MODERN]))
def test_no_message_makes_the_service_fail(
    space: Server, message: Any, headers: dict[str, str]
) -> None:
    answer = post(space, json.dumps(message).encode(), headers)
    assert answer.status_code < 500, answer.text
    assert "its log says why" not in answer.text


def test_only_post_is_served(space: Server) -> None:
    for method in ("GET", "DELETE", "OPTIONS"):
        assert httpx2.request(method, f"{space.url}/mcp", headers=HEADERS).status_code == 405


@pytest.mark.parametrize("headers", [{}, MODERN])
def test_work_of_a_disconnected_caller_is_cancelled(space: Server, headers: dict[str, str]) -> None:
    long = request(horizon=200, samples=256)
    body = call("forecast", long, modern=bool(headers))

    computed = metric(space, "kronos_paths_total")

    async def hang_up() -> None:
        async with httpx2.AsyncClient(headers={**HEADERS, **headers}, timeout=60) as http:
            asked = asyncio.create_task(http.post(f"{space.url}/mcp", content=body, headers=JSON))
            await asyncio.to_thread(until, lambda: metric(space, "kronos_running_series") == 1)
            asked.cancel()
            await asyncio.wait([asked])

    asyncio.run(hang_up())
    until(lambda: metric(space, "kronos_running_series") == 0)
    assert metric(space, "kronos_paths_total") == computed


def test_the_service_and_the_bots_serve_the_same_chart() -> None:
    ours, theirs = ROOT / "kronos_space/static/fan.html", ROOT / "tradingbot/ai/mcp/fan.html"
    assert ours.read_text() == theirs.read_text()


def post(space: Server, body: bytes, headers: dict[str, str] | None = None) -> httpx2.Response:
    headers = {**HEADERS, **JSON, **(headers or {})}
    return httpx2.post(f"{space.url}/mcp", content=body, headers=headers, timeout=60)


def result_of(answer: httpx2.Response) -> Any:
    """Return the result from a JSON or an event-stream answer."""
    return json.loads(answer.text.partition("data: ")[2] or answer.text)["result"]


def metric(space: Server, name: str) -> float:
    lines = httpx2.get(f"{space.url}/metrics", headers=KEY).text.splitlines()
    return next(float(line.split()[-1]) for line in lines if line.startswith(f"{name} "))


def errors_in(group: BaseException) -> list[BaseException]:
    if isinstance(group, BaseExceptionGroup):
        return [leaf for error in group.exceptions for leaf in errors_in(error)]
    return [group]
