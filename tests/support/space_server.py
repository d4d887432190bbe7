"""Run a real `python -m kronos_space` for tests, with the bundled model, as a forked process.

with serving(tmp_path / "server.log", KRONOS_API_KEY="secret") as server:
    requests.get(f"{server.url}/health")
"""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import requests

from tests.support.commands import start

READY = re.compile(r"ready: (\S+) at revision ([^\s,]+)(?:, .*)? on http://(\S+):(\d+)")
NANO = {"KRONOS_MODEL": "kronos-nano", "KRONOS_THREADS": "1"}


class Process(Protocol):
    """The process of a Space, forked or started by subprocess.Popen."""

    pid: int

    def poll(self) -> int | None: ...
    def wait(self, timeout: float | None = None) -> int: ...
    def send_signal(self, sig: int) -> None: ...
    def kill(self) -> None: ...


@dataclass
class Server:
    """A running service that prints to a file; a file, unlike a pipe, never fills up."""

    process: Process
    log: Path
    url: str

    @property
    def address(self) -> tuple[str, int]:
        host, _, port = self.url.removeprefix("http://").rpartition(":")
        return host, int(port)

    def stop(self, sig: int = signal.SIGTERM) -> tuple[int, str]:
        """Stop the service; return its exit status and all its output."""
        self.process.send_signal(sig)
        return self.process.wait(timeout=120), self.log.read_text()

    def metric(self, name: str) -> float:
        return metric(self.url, name)


def spawn(log: Path, *arguments: str, command: Sequence[str] = (), **environ: str) -> Process:
    """Start the service, or `python` with the arguments in `command` instead."""
    env = {**os.environ, **NANO, **environ}
    arguments = ("--host", "127.0.0.1", *arguments)
    with log.open("w") as output, Path(os.devnull).open() as nothing:
        if command:
            return subprocess.Popen(
                [sys.executable, *command, *arguments], env=env, stdout=output, stderr=output
            )
        streams = {"stdin": nothing.fileno(), "stdout": output.fileno(), "stderr": output.fileno()}
        return start("kronos_space", *arguments, env=env, **streams)


def launch(port: int, environ: Mapping[str, str]) -> Process:
    """Start a Space on `port` without output, as a Hub starts its containers."""
    env = {"KRONOS_LOG_FORMAT": "text", **environ}
    return spawn(Path(os.devnull), "--port", str(port), **env)


@contextmanager
def serving(
    log: Path, *arguments: str, command: Sequence[str] = (), **environ: str
) -> Iterator[Server]:
    """Run the service on a free port; yield it when it is ready, and kill it at the end."""
    process = spawn(log, "--port", "0", *arguments, command=command, **environ)
    try:
        until(lambda: READY.search(log.read_text()) or process.poll() is not None)
        match = READY.search(log.read_text())
        assert match, log.read_text()
        yield Server(process, log, f"http://{match[3]}:{match[4]}")
    finally:
        process.kill()
        process.wait()


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def metric(url: str, name: str) -> float:
    """Return a metric by its printed name and labels; 0 if it is missing."""
    for line in requests.get(f"{url}/metrics", timeout=10).text.splitlines():
        if line.startswith(f"{name} "):
            return float(line.rsplit(" ", 1)[1])
    return 0.0
