"""A local Space: a process on this machine, started for the job and stopped after it."""

import importlib.util
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import wait
from contextlib import contextmanager
from functools import partial
from typing import IO

from tenacity import wait_fixed

from tradingbot.environment import environment
from tradingbot.errors import ConfigError, SpaceError, SpaceUnavailable
from tradingbot.install_command import install_command
from tradingbot.runtime.concurrency import in_background
from tradingbot.runtime.retry import poll
from tradingbot.runtime.signals import signals_held
from tradingbot.settings import Timeouts, default_timeouts
from tradingbot.space.address import SpaceAddress
from tradingbot.space.log_lines import parse_line
from tradingbot.space.transport import SpaceHTTP

logger = logging.getLogger(__name__)

LAST_LINES = 30
EXIT_WRONG_SETTING = 2  # exit status of kronos_space for a wrong setting


@contextmanager
def local_space(
    *,
    environ: Mapping[str, str] | None = None,
    timeout: float = 900.0,
    say: Callable[[str], None] = logger.info,
    timeouts: Timeouts | None = None,
) -> Iterator[str]:
    """Start `python -m kronos_space` on a free loopback port, and yield its URL once it is healthy.

    KRONOS_MODEL is "auto" unless `environ`, by default that of this process, sets it. The process
    is stopped on every exit, and stops by itself if this process is killed. A warning is logged if
    it ended early.

    Args:
        environ: Environment variables of the Space.
        timeout: Seconds until it must be healthy.
        say: Shows the Space's warnings.
        timeouts: Other time-outs.

    Raises:
        ConfigError: The process ended because of a wrong setting. The text is its last line.
        SpaceError: The process ended for another reason.
    """
    if importlib.util.find_spec("torch") is None or importlib.util.find_spec("fastapi") is None:
        raise SpaceError(
            "a local Space needs the model's packages, which are not installed: "
            f"{install_command('space')}"
        )
    timeouts = timeouts or default_timeouts()
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    process: subprocess.Popen[str] | None = None
    healthy = False
    try:
        with signals_held():  # a signal here must not lose track of the process
            process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "kronos_space",
                    "--host",
                    "127.0.0.1",
                    "--port",
                    str(port),
                    "--until-stdin-closes",
                ],
                env=_environment(environment() if environ is None else environ),
                stdin=subprocess.PIPE,  # closes when this process ends, for whatever reason
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                start_new_session=True,  # the job handles Ctrl-C at the terminal
            )
            output = _Output(process, say)
        _wait(process, output, SpaceHTTP(SpaceAddress(url, timeouts=timeouts)), timeout)
        healthy = True
        yield url
    finally:
        if process is not None:
            with signals_held():
                if healthy and process.poll() is not None:
                    logger.warning("the local Space %s", _ended(process, output))
                _stop(process, timeouts.local_space_stop)
                assert process.stdin is not None
                process.stdin.close()
                output.close()


def _environment(environ: Mapping[str, str]) -> dict[str, str]:
    env = {"KRONOS_MODEL": "auto", "PYTHONUNBUFFERED": "1", **environ}
    env["KRONOS_LOG_FORMAT"] = "json"  # `parse_line` reads it, independent of the job's own format
    env["KRONOS_MODEL"] = env["KRONOS_MODEL"].strip() or "auto"
    for secret in ("HF_TOKEN", "DATABASE_URL", "POSTGRES_URI", "POSTGRES_PASSWORD"):
        env.pop(secret, None)  # the Space does not need them
    return env


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class _Output:
    """Read the output of the process, so that it never blocks, and keep the last lines."""

    def __init__(self, process: subprocess.Popen[str], say: Callable[[str], None]) -> None:
        assert process.stdout is not None
        self.lines: deque[str] = deque(maxlen=LAST_LINES)
        self._pipe = process.stdout
        self._say = say
        self._reading = in_background(partial(self._read, process.stdout))

    def _read(self, pipe: IO[str]) -> None:
        for line in pipe:
            level, text = parse_line(line)
            for part in text.splitlines():
                self.lines.append(part.rstrip())
                logger.debug("Space | %s", part.rstrip())
            # such as the fallback to the small model; CRITICAL ends the process and is in our error
            if level in ("WARNING", "ERROR"):
                first_line, _, _ = text.partition("\n")
                self._say(f"Space: {first_line}")

    def last(self) -> str:
        """Return the line that says why the process ended."""
        wait([self._reading], timeout=2)
        return next((line.strip() for line in reversed(self.lines) if line.strip()), "no output")

    def close(self) -> None:
        wait([self._reading], timeout=2)
        self._pipe.close()


def _ended(process: subprocess.Popen[str], output: _Output) -> str:
    if process.returncode == -signal.SIGKILL:
        return f"ended with {process.returncode} (killed, perhaps out of memory)"
    return f"ended with {process.returncode}: {output.last()}"


def _wait(
    process: subprocess.Popen[str], output: _Output, space: SpaceHTTP, timeout: float
) -> None:
    """Return once the Space is healthy. Close `space` in any case."""

    def look() -> bool | None:
        if process.poll() is not None:
            kind = ConfigError if process.returncode == EXIT_WRONG_SETTING else SpaceError
            if process.returncode < 0:
                raise SpaceError(f"the local Space {_ended(process, output)}")
            raise kind(f"the local Space could not start: {output.last()}")
        try:
            return space.health().get("status") == "ok" or None
        except SpaceUnavailable:
            return None

    try:
        if not poll(look, until=time.monotonic() + timeout, wait=wait_fixed(0.1)):
            raise SpaceUnavailable(
                f"the local Space was not healthy within {timeout:g} s; "
                f"its last line: {output.last()}"
            )
    finally:
        space.close()


def _stop(process: subprocess.Popen[str], timeout: float) -> None:
    """Send SIGTERM, and SIGKILL after `timeout` seconds, to the process and its children."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(timeout)
        except subprocess.TimeoutExpired:
            logger.warning("the local Space ignores SIGTERM; killing it")
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
