"""Real Space processes in a tenth of a second: forked from one that has imported everything.

`python -m kronos_space` takes four seconds, nearly all of them imports. A forked Space runs the
same `main`, loads the bundled model and answers the same API; it is a process of its own, with an
environment of its own.

    with ForkServer() as spaces:
        container = spaces.launch(7860, {"KRONOS_API_KEY": "secret"})
"""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Mapping
from typing import Self

import psutil

from tests.support import ROOT

NANO = {"KRONOS_MODEL": "kronos-nano", "KRONOS_THREADS": "1", "KRONOS_LOG_FORMAT": "text"}


class ForkServer:
    """Hands out Spaces; those that still run end with it, however it ends."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.fork_server"],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,  # Ctrl-C is the caller's to handle
        )
        return self

    def __exit__(self, *exc_info: object) -> None:
        with self._process as process:
            assert process.stdin is not None
            process.stdin.close()

    def launch(self, port: int, environ: Mapping[str, str]) -> "ForkedSpace":
        """A Space that will listen on `port`; `environ` holds what differs from NANO."""
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        with self._lock:
            process.stdin.write(json.dumps({"port": port, "environ": {**NANO, **environ}}) + "\n")
            process.stdin.flush()
            return ForkedSpace(int(process.stdout.readline()))


class ForkedSpace:
    """As much of subprocess.Popen as the Hub needs; the fork server is the parent."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        try:
            self._process: psutil.Process | None = psutil.Process(pid)
        except psutil.NoSuchProcess:  # ended already
            self._process = None

    def poll(self) -> int | None:
        return None if self._process is not None and self._process.is_running() else -1

    def kill(self) -> None:
        if self.poll() is None:
            assert self._process is not None
            self._process.kill()

    def wait(self) -> int:
        if self._process is not None:
            self._process.wait()
        return -1


def _serve() -> None:
    """The fork server: a line in starts a Space, a line out is its pid."""
    import gc
    import signal

    import torch

    torch.set_num_threads(1)  # OpenMP's threads would not survive the fork
    import kronos_space.__main__
    import kronos_space.app  # noqa: F401 - what `main` imports only once it knows its settings
    from kronos_space.weights.checkpoint import load_checkpoint

    load_checkpoint("kronos-nano")  # what it imports on the way stays
    gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the children
    lifelines: list[int] = []  # a Space stops when its end of the pipe is closed: with this process
    for line in sys.stdin:
        order = json.loads(line)
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            for lifeline in [*lifelines, write]:
                os.close(lifeline)
            _become_space(read, order["port"], order["environ"])
        os.close(read)
        lifelines.append(write)
        sys.stdout.write(f"{pid}\n")
        sys.stdout.flush()


def _become_space(stdin: int, port: int, environ: dict[str, str]) -> None:
    import signal

    from kronos_space.__main__ import main

    code = 1
    try:
        os.setsid()
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.dup2(stdin, 0)
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
        os.environ.update(environ)
        code = main(["--host", "127.0.0.1", "--port", str(port), "--until-stdin-closes"])
    finally:
        os._exit(code)


if __name__ == "__main__":
    _serve()
