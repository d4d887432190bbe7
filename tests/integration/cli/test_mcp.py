"""`kronosbot mcp` as an assistant starts it: processes, both transports, the SDK's client."""

import asyncio
import json
import os
import re
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx2
import pytest
from mcp import Client
from mcp.client.stdio import StdioServerParameters

from tests.support import ROOT
from tests.support.command_line import kronosbot
from tests.support.commands import Piped, piped, run, start
from tests.support.market import flat_forecast
from tradingbot.persistence.engine import get_db_session
from tradingbot.persistence.forecasts import store_forecasts

AS_OF = datetime(2013, 2, 21)  # the newest session of the sample
NUMBERS = {"last_close": 446.06, "close": 450.0, "low": 430.0, "high": 470.0, "prob_up": 0.6}
MAIN = "sys.argv = ['kronosbot', 'mcp']; from tradingbot.kronosbot import main; main()"
HEADERS = {"content-type": "application/json", "accept": "application/json, text/event-stream"}


@pytest.fixture
def environ(sqlite_url: str) -> dict[str, str]:
    with get_db_session(sqlite_url) as session:
        store_forecasts(session, [flat_forecast("AAPL", AS_OF, **NUMBERS)])
    return {"DATABASE_URL": sqlite_url, "KRONOS_DATA_SOURCE": "sample"}


async def look_and_call(client: Client) -> None:
    listed = await client.list_tools()
    assert {"forecast", "stored_forecast", "track_record", "tickers", "status"} <= {
        tool.name for tool in listed.tools
    }
    answers = await asyncio.gather(
        *(client.call_tool("forecast", {"symbol": "AAPL"}) for _ in range(3)),
        client.call_tool("forecast", {"symbol": "AAPL", "horizon": "soon"}),
    )
    assert [answer.is_error for answer in answers] == [False] * 3 + [True]
    assert answers[0].structured_content["last_close"] == 446.06
    [page] = (await client.read_resource("ui://kronos/fan.html")).contents
    assert page.mime_type == "text/html;profile=mcp-app"


def test_an_assistant_can_start_the_server_and_call_its_tools(
    tmp_path: Path, environ: dict[str, str]
) -> None:
    command = StdioServerParameters(
        command=sys.executable,
        args=["-m", "tradingbot.kronosbot", "mcp"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environ},
    )

    async def ask() -> None:
        async with Client(command) as client:
            await look_and_call(client)

    asyncio.run(ask())


def test_the_server_serves_both_generations_of_clients_over_http(
    tmp_path: Path, environ: dict[str, str]
) -> None:
    async def ask(url: str) -> None:
        for mode in ("auto", "legacy"):
            async with Client(url, mode=mode) as client:
                await look_and_call(client)

    with listening(tmp_path, environ) as (url, _):
        asyncio.run(ask(url))


def test_the_server_refuses_browser_pages_and_survives_malformed_requests(
    tmp_path: Path, environ: dict[str, str]
) -> None:
    ask = b'{"jsonrpc":"2.0","id":1,"method":"tools/list"}'
    with listening(tmp_path, environ) as (url, server), httpx2.Client(headers=HEADERS) as http:
        for status, body, headers in (
            (403, ask, {"origin": "http://evil.example"}),
            (421, ask, {"host": "evil.example"}),
            (400, ask, {"content-type": "text/plain"}),
            (413, b"x" * 100_000, {}),
            (400, b"{broken", {}),
            (400, b"[" * 60_000, {}),
            (400, b"[]", {}),
            (200, ask, {}),
        ):
            assert http.post(url, content=body, headers=headers).status_code == status
        server.send_signal(signal.SIGINT)
        assert server.wait(60) == 130


def test_broken_messages_do_not_end_the_server_and_stdout_has_only_protocol_messages(
    tmp_path: Path, environ: dict[str, str]
) -> None:
    server = piped("tradingbot.kronosbot", "mcp", cwd=tmp_path, env={**os.environ, **environ})
    hello = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": _named("test")}
    tell(server, 0, "initialize", hello)
    assert heard(server, 0)["result"]["serverInfo"]["name"] == "kronosbot"
    for nonsense in ("{not json", "", "[]", "null", '{"jsonrpc":"2.0","id":5}', "[" * 100_000):
        server.stdin.write(f"{nonsense}\n")
    tell(server, 1, "nothing/such")
    assert heard(server, 1)["error"]["code"] == -32601
    tell(server, 2, "tools/call", {"name": "nothing", "arguments": {}})
    assert "there are forecast, " in heard(server, 2)["error"]["message"]
    tell(server, 3, "tools/call", {"name": "tickers", "arguments": {"all": "x" * 1_000_000}})
    assert heard(server, 3)["result"]["isError"]
    tell(server, 4, "tools/call", {"name": "tickers"})
    assert "AAPL: as of Thu 2013-02-21" in heard(server, 4)["result"]["content"][0]["text"]
    out, _ = server.communicate(60)
    assert (out, server.returncode) == ("", 0)


def test_ctrl_c_ends_the_server_immediately_even_during_a_call_to_the_space(
    tmp_path: Path, environ: dict[str, str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # accepts connections but never answers
        environ["KRONOS_SPACE_URL"] = f"http://127.0.0.1:{silent.getsockname()[1]}"
        server = piped("tradingbot.kronosbot", "mcp", cwd=tmp_path, env={**os.environ, **environ})
        hello = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": _named("test")}
        tell(server, 0, "initialize", hello)
        heard(server, 0)
        tell(server, 1, "tools/call", {"name": "forecast", "arguments": {"symbol": "MSFT"}})
        with silent.accept()[0]:
            server.send_signal(signal.SIGINT)
            assert server.wait(60) == 130
    out, err = server.communicate(60)
    assert (out, err) == ("", "Stopped by Ctrl-C\n")


def test_a_server_started_in_a_terminal_says_what_it_waits_for(tmp_path: Path) -> None:
    keyboard, terminal = os.openpty()
    reading, writing = os.pipe()
    streams = {"stdin": terminal, "stdout": terminal, "stderr": writing}
    server = start("tradingbot.kronosbot", "mcp", cwd=tmp_path, env=os.environ, **streams)
    os.close(writing)
    try:
        with open(reading, encoding="utf-8") as errors:  # noqa: PTH123 - a descriptor
            errors.readline()  # the line about the missing database
            assert errors.readline().startswith("Waiting for an assistant on standard input: ")
            server.send_signal(signal.SIGINT)
            assert server.wait(60) == 130
    finally:
        server.kill()
        os.close(keyboard)
        os.close(terminal)


def test_a_mistake_is_reported_in_one_line_with_an_exit_code(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = kronosbot("mcp", "--http", "--port", port, folder=tmp_path)
        assert done.returncode == 1
        assert done.stderr == (
            f"Error: cannot listen on 127.0.0.1:{port}: Address already in use; stop what listens "
            "there, or choose another port with --port\n"
        )
    for arguments, message in (
        (["--source", "nasdaq"], "--source='nasdaq': expected yahoo, sample or csv:DIR"),
        (["--port", "70000"], "--port='70000': expected a whole number from 0 to 65535"),
        (["--database-url", "oracle://x"], "oracle://x: databases of the kind"),
    ):
        done = kronosbot("mcp", *arguments, folder=tmp_path)
        assert (done.returncode, done.stdout) == (2, "")
        [line] = done.stderr.splitlines()
        assert message in line


def test_unusable_standard_streams_are_reported_in_one_line(
    tmp_path: Path, environ: dict[str, str]
) -> None:
    program = f"import sys; sys.stdin = None; {MAIN}"  # standard input closed by the parent process
    done = run("-c", program, cwd=tmp_path, env={**os.environ, **environ}, family="bots")
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    assert line.startswith("Error: standard input or output is closed: an assistant starts this")
    (tmp_path / "requests").write_bytes(b'{"jsonrpc":"2.0","id":0,"method":"ping"}\n')
    with (
        (tmp_path / "requests").open() as requests,
        Path("/dev/full").open("w") as full,
        (tmp_path / "errors").open("w") as errors,
    ):
        streams = {"stdin": requests.fileno(), "stdout": full.fileno(), "stderr": errors.fileno()}
        env = {**os.environ, **environ}
        assert start("tradingbot.kronosbot", "mcp", cwd=tmp_path, env=env, **streams).wait(60) == 1
    assert (tmp_path / "errors").read_text() == (
        "Error: standard output cannot be written: [Errno 28] No space left on device\n"
    )


def test_without_the_extra_an_error_says_what_to_install(tmp_path: Path) -> None:
    program = f"import sys; sys.modules['mcp.server.apps'] = None; {MAIN}"
    done = run("-c", program, cwd=tmp_path, env=os.environ, family="bots")
    assert (done.returncode, done.stdout) == (2, "")
    [line] = done.stderr.splitlines()
    assert line == "Error: the package mcp, 2.3 or newer, is missing: pip install 'mcp>=2.3,<3'"


def test_without_a_database_the_server_says_so_and_continues(tmp_path: Path) -> None:
    done = kronosbot("mcp", folder=tmp_path)  # its standard input is empty
    assert (done.returncode, done.stdout) == (0, "")
    [line] = done.stderr.splitlines()
    assert line.startswith("There is no sqlite:///kronos.db yet, so forecasts come from the Space")
    assert not (tmp_path / "kronos.db").exists()


@contextmanager
def listening(folder: Path, environ: dict[str, str]) -> Iterator[tuple[str, Piped]]:
    """Yield the server's address and process; kill the process at the end if necessary."""
    arguments = ["mcp", "--http", "--port", "0"]
    server = piped("tradingbot.kronosbot", *arguments, cwd=folder, env={**os.environ, **environ})
    try:
        line = server.stderr.readline()
        match = re.match(r"MCP on (http://127.0.0.1:\d+/mcp); Ctrl-C ends it", line)
        assert match, line
        yield match[1], server
    finally:
        server.kill()
        server.communicate(60)


def tell(server: Piped, number: int, method: str, params: dict[str, Any] | None = None) -> None:
    message = {"jsonrpc": "2.0", "id": number, "method": method, "params": params or {}}
    server.stdin.write(json.dumps(message) + "\n")
    server.stdin.flush()


def heard(server: Piped, number: int) -> dict[str, Any]:
    """Return the answer with this id; skip messages without one."""
    answer: dict[str, Any] = json.loads(server.stdout.readline())
    assert answer.get("id") == number, answer
    return answer


def _named(name: str) -> dict[str, str]:
    return {"name": name, "version": "1"}
