"""Prepare the process of the service: command-line options, settings and the port.

This module loads no torch: what is wrong here is reported at once.
"""

import argparse
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Sequence
from typing import NoReturn

from kronos_space.environment import environment, let_threads_sleep
from kronos_space.server import file_descriptors, logs
from kronos_space.settings import Settings, SettingsError, log_format_of
from kronos_space.weights.catalogue import WrongCheckpoint, check_name

logger = logging.getLogger("kronos_space")


def prepare(arguments: Sequence[str] | None = None) -> tuple[Settings, socket.socket]:
    """Return the settings and the bound port, or end the process.

    The exit code is 2 for a wrong setting, and 1 if the port is not free.
    """
    options = _parser().parse_args(arguments)
    try:
        settings = Settings.from_env()
        for name in settings.checkpoints:
            check_name(name, "KRONOS_MODELS" if settings.models else "KRONOS_MODEL")
    except (SettingsError, WrongCheckpoint) as error:
        fail(str(error), 2)
    # before uvicorn handles signals, and after it has restored them: exit quietly
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    if options.until_stdin_closes:
        threading.Thread(target=_stop_when_stdin_closes, daemon=True).start()
    if options.port > 65535:
        where = f"{options.host}:{options.port}"
        fail(f"cannot listen on {where}: a port is a number from 0 to 65535", 1)
    try:
        listener = _bind(options.host, options.port)
    except OSError as error:
        fail(
            f"cannot listen on {options.host}:{options.port}: {error.strerror}; stop what listens "
            f"there, or take another port: {_with_other_port(options.port)}",
            1,
        )
    logs.configure(settings.log_format)
    let_threads_sleep()
    return settings, listener


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
        help="port to listen on; 0 uses a free one (%(default)s)",
    )
    parser.add_argument(
        "--until-stdin-closes",
        action="store_true",
        help="stop as on SIGTERM when standard input ends, as when the parent process has ended",
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
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, file_descriptors.UNREAD)
    listener.bind((host, port))
    return listener


def _with_other_port(port: int) -> str:
    """Say how to choose another port, depending on how the process was started."""
    other = port + 1 if 0 < port < 65535 else 7861
    return f"make serve PORT={other}" if environment().get("MAKELEVEL") else f"--port {other}"


def shown_host(host: str) -> str:
    """Return the host as written in a URL that a person can click."""
    if host in ("0.0.0.0", "::"):
        return "localhost"
    return f"[{host}]" if ":" in host else host


def say(line: str) -> None:
    """Print a line for the person at the terminal."""
    print(line, file=sys.stderr)  # noqa: T201


def fail(message: str, status: int) -> NoReturn:
    """Print to stderr why the service does not start, and end the process with `status`."""
    if log_format_of() == "json":
        logs.configure("json")
        logger.critical("%s", message)
    else:
        say(f"kronos_space: {message}")
    sys.exit(status)
