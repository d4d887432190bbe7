"""The service as a process: command-line options, port and shutdown."""

import argparse
import gc
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Sequence
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

import uvicorn
from fastapi import FastAPI

from kronos_space.environment import environment, let_threads_sleep
from kronos_space.server import file_descriptors, logs
from kronos_space.settings import Settings, SettingsError, log_format_of
from kronos_space.weights.catalogue import (
    CheckpointError,
    WrongCheckpoint,
    check_distinct,
    check_name,
)

if TYPE_CHECKING:
    from kronos_space.forecasting.forecaster import Forecaster

logger = logging.getLogger("kronos_space")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the service until it is stopped. Return 0 after an orderly stop, 1 if it could not start,
    or 2 for a wrong setting.
    """
    options = _parser().parse_args(arguments)
    try:
        settings = Settings.from_env()
        for name in settings.checkpoints:
            check_name(name, "KRONOS_MODELS" if settings.models else "KRONOS_MODEL")
    except (SettingsError, WrongCheckpoint) as error:
        return _fail(str(error), 2)
    # before uvicorn handles signals, and after it has restored them: exit quietly
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    if options.until_stdin_closes:
        threading.Thread(target=_stop_when_stdin_closes, daemon=True).start()
    if options.port > 65535:
        where = f"{options.host}:{options.port}"
        return _fail(f"cannot listen on {where}: a port is a number from 0 to 65535", 1)
    try:
        listener = _bind(options.host, options.port)
    except OSError as error:
        return _fail(
            f"cannot listen on {options.host}:{options.port}: {error.strerror}; stop what listens "
            f"there, or take another port: {_with_other_port(options.port)}",
            1,
        )
    logs.configure(settings.log_format)
    try:
        return _serve(settings, listener)
    except KeyboardInterrupt:
        return 0


def _serve(settings: Settings, listener: socket.socket) -> int:
    let_threads_sleep()
    # imported here: these imports take seconds, and wrong settings are reported before
    from kronos_space.app import create_app
    from kronos_space.server.connection import HEAD_BYTES, at_most
    from kronos_space.weights.checkpoint import load_checkpoint

    try:
        first, *others = map(load_checkpoint, settings.checkpoints)
        check_distinct([first.name, *(one.name for one in others)])
    except CheckpointError as error:
        return _fail(str(error), 2 if isinstance(error, WrongCheckpoint) else 1)
    app = create_app(settings, checkpoint=first, others=others)
    gc.collect()
    gc.freeze()  # these objects stay for good; spare the collector from scanning them
    config = uvicorn.Config(
        app,
        http=at_most(file_descriptors.raise_limit()),
        backlog=file_descriptors.PENDING,
        ws="none",
        log_config=None,
        access_log=False,
        h11_max_incomplete_event_size=HEAD_BYTES,
        timeout_graceful_shutdown=settings.shutdown_timeout,
    )
    server = _Server(config, app)
    try:
        server.run(sockets=[listener])
    except OSError as error:
        return _fail(f"cannot listen: {error.strerror}", 1)
    return 0


class _Server(uvicorn.Server):
    """uvicorn's server, which logs when it is ready and refuses new work once stopping."""

    def __init__(self, config: uvicorn.Config, app: FastAPI) -> None:
        super().__init__(config)
        self._app = app

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        [listener] = sockets or []
        host, port = listener.getsockname()[:2]
        models = self._app.state.service.models.all
        logger.info("ready: %s on http://%s:%d", ", ".join(map(_named, models)), _shown(host), port)
        if log_format_of() != "json":  # for a terminal
            _say(f"open http://{_shown(host)}:{port} in a browser; Ctrl-C ends it")

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self.should_exit and sig == signal.SIGINT:  # second Ctrl-C: stop at once
            os._exit(130)  # there is nothing to save
        self._app.state.service.worker.drain()
        super().handle_exit(sig, frame)


def _port(text: str) -> int:
    if text.isascii() and text.isdecimal():
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r}: expected a number from 0 to 65535")


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Report a wrong option in one line, like every other mistake, and exit."""
        self.exit(2, f"kronos_space: {message}; `{self.prog} --help` lists the options\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m kronos_space",
        description="Serve Kronos forecasts over HTTP.",
        epilog="Everything else is set by environment variables; KRONOS_MODEL chooses the model "
        "(default: kronos-mini), KRONOS_MODELS several. The table is in kronos_space/README.md.",
    )
    parser.add_argument("--host", default="0.0.0.0", help="address to listen on (%(default)s)")
    parser.add_argument(
        "--port",
        default=7860,
        type=_port,
        help="port to listen on; 0 takes a free one (%(default)s)",
    )
    parser.add_argument(
        "--until-stdin-closes",
        action="store_true",
        help="stop as on SIGTERM when standard input ends, as it does with the process behind it",
    )
    return parser


def _stop_when_stdin_closes() -> None:
    while os.read(0, 1024):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def _bind(host: str, port: int) -> socket.socket:
    """Bind the port now and accept later: connections are refused until the model is loaded."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio sets TCP_NODELAY only if the protocol is given explicitly
    listener = file_descriptors.Listener(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((host, port))
    return listener


def _with_other_port(port: int) -> str:
    """Say how to choose another port, depending on how the process was started."""
    other = port + 1 if 0 < port < 65535 else 7861
    return f"make serve PORT={other}" if environment().get("MAKELEVEL") else f"--port {other}"


def _named(model: "Forecaster") -> str:
    """Return the model's name, with its revision if it has one."""
    revision = model.model_revision
    return model.model_name + (f" at revision {revision}" if revision else "")


def _shown(host: str) -> str:
    """Return the host as written in a URL that a person can click."""
    if host in ("0.0.0.0", "::"):
        return "localhost"
    return f"[{host}]" if ":" in host else host


def _say(line: str) -> None:
    print(line, file=sys.stderr)  # noqa: T201


def _fail(message: str, status: int) -> int:
    """Print to stderr why the service does not start. Return `status`."""
    if log_format_of() == "json":
        logs.configure("json")
        logger.critical("%s", message)
    else:
        _say(f"kronos_space: {message}")
    return status
