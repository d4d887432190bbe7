"""`kronosbot mcp`: serve forecasts to assistants over the Model Context Protocol."""

import logging
import sys
from importlib import import_module
from typing import Annotated

import typer

from tradingbot.cli.options import LAST_SOURCE, DatabaseOption, source_option
from tradingbot.cli.output import fail
from tradingbot.errors import ConfigError, KronosError
from tradingbot.install_command import install_command
from tradingbot.settings import Settings

PORT = 7861


def serve_mcp(
    http: Annotated[
        bool,
        typer.Option("--http", help="Serve any number of clients on this machine over HTTP."),
    ] = False,
    port: Annotated[
        int,
        typer.Option(
            metavar="PORT",
            min=0,
            max=65535,
            help="With --http: port to listen on; 0: any free port.",
        ),
    ] = PORT,
    source: Annotated[
        str | None,
        source_option(f"Source of candles: yahoo, csv:DIR or sample. {LAST_SOURCE}"),
    ] = None,
    database_url: DatabaseOption = None,
) -> None:
    """Serve forecasts and their scores to an assistant.

    Serves the Model Context Protocol on standard input and output: the assistant starts
    and stops the command. With --http it listens on 127.0.0.1 for any number of assistants. All
    tools are read-only. Logs go to standard error.

    Exit codes: 0 the client has disconnected; 1 the port is taken, or standard output cannot be
    written; 2 a wrong setting, or the package mcp is missing; 130 Ctrl-C.

    \b
    Try it:
      claude mcp add kronos -- kronosbot mcp --source sample
      kronosbot mcp --http
    """
    from tradingbot.persistence.engine import get_engine
    from tradingbot.persistence.url import database_exists, redact
    from tradingbot.persistence.url import database_url as configured_url

    try:
        _check_sdk()
        from tradingbot.ai.mcp.server import make_server
        from tradingbot.ai.mcp.tools import KronosTools
        from tradingbot.ai.mcp.transports import PATH, listen, serve_http, serve_stdio

        url = database_url or configured_url()
        get_engine(url)  # does not connect; reports an invalid address early
        exists = database_exists(url)
        tools = KronosTools(Settings.from_env(), url, source=source)
        listener = listen(port) if http else None
    except KronosError as error:
        fail(error)
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(name)s: %(message)s")
    if not exists:
        typer.echo(
            f"There is no {redact(url)} yet, so forecasts come from the Space alone: `kronosbot "
            "run` creates it. For another database set DATABASE_URL or give --database-url",
            err=True,
        )
    server = make_server(tools.all())
    if listener is not None:
        host, taken = listener.getsockname()
        typer.echo(f"MCP on http://{host}:{taken}{PATH}; Ctrl-C ends it", err=True)
        serve_http(server, listener)
        return
    if sys.stdin is not None and sys.stdin.isatty():
        typer.echo(
            "Waiting for an assistant on standard input: assistants start this command "
            "themselves. With "
            "--http they connect to an address. Ctrl-C ends it",
            err=True,
        )
    try:
        serve_stdio(server)
    except KronosError as error:
        fail(error)


def _check_sdk() -> None:
    """Raise ConfigError if the SDK is missing or too old."""
    try:
        import_module("mcp.server.apps")
    except ImportError as error:
        raise ConfigError(
            f"the package mcp, 2.3 or newer, is missing: {install_command('mcp')}"
        ) from error
