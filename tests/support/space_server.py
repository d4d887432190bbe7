"""A real `python -m kronos_space` for tests, with the bundled model."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import requests

READY = re.compile(r"ready: (\S+) at revision (\S+) on http://(\S+):(\d+)")
COMMAND = ("-m", "kronos_space")


@dataclass
class Server:
    """A running service, which prints into a file that never fills up."""

    process: subprocess.Popen[str]
    log: Path
    url: str

    @property
    def address(self) -> tuple[str, int]:
        host, _, port = self.url.removeprefix("http://").rpartition(":")
        return host, int(port)

    def stop(self, sig: int = signal.SIGTERM) -> tuple[int, str]:
        """Exit status, and all that was printed."""
        self.process.send_signal(sig)
        return self.process.wait(timeout=60), self.log.read_text()

    def metric(self, name: str) -> float:
        return metric(self.url, name)


def spawn(
    log: Path, *arguments: str, command: Sequence[str] = COMMAND, **environ: str
) -> subprocess.Popen[str]:
    settings = {"KRONOS_MODEL": "kronos-nano", "KRONOS_THREADS": "1", **environ}
    with log.open("w") as output:
        return subprocess.Popen(
            [sys.executable, *command, "--host", "127.0.0.1", *arguments],
            env={**os.environ, **settings},
            stdout=output,
            stderr=output,
            text=True,
        )


@contextmanager
def serving(
    log: Path, *arguments: str, command: Sequence[str] = COMMAND, **environ: str
) -> Iterator[Server]:
    """The service on a free port, once it is ready; killed in the end, if it still runs."""
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
    """A metric's value, by its name and labels as they are printed; 0 if it is not there."""
    for line in requests.get(f"{url}/metrics", timeout=10).text.splitlines():
        if line.startswith(f"{name} "):
            return float(line.rsplit(" ", 1)[1])
    return 0.0
