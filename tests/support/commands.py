"""`kronosbot`, `kronos_space` and the like as processes that start at once, by forking.

`python -m tradingbot.kronosbot` takes two seconds and `python -m kronos_space` four, nearly all of
them imports. A forked command is a process of its own, with its own arguments, environment, folder
and output; it runs the same module as `__main__` and ends with the same status. The processes that
are forked from have imported everything; they start when they are first needed.

    done = run("tradingbot.kronosbot", "status", cwd=folder, env=os.environ)
    assert done.returncode == 0, done.stderr
"""

import atexit
import json
import os
import signal
import socket
import subprocess
import sys
import traceback
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

from tests.support import ROOT

LARGEST_ORDER = 1 << 17  # bytes: arguments and environment


class Command:
    """A running command: as much of subprocess.Popen as the tests need."""

    def __init__(self, module: str, answers: socket.socket) -> None:
        self._module = module
        self._answers = answers
        self.pid = int(answers.recv(64))
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """The status; None while it runs."""
        return self._look(0.0)

    def wait(self, timeout: float | None = None) -> int:
        """The status, once it has ended. Raises subprocess.TimeoutExpired."""
        status = self._look(timeout)
        if status is None:
            raise subprocess.TimeoutExpired(self._module, timeout or 0.0)
        return status

    def send_signal(self, sig: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, sig)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def _look(self, timeout: float | None) -> int | None:
        if self.returncode is None:
            self._answers.settimeout(timeout)
            try:
                self.returncode = int(self._answers.recv(64))
            except (BlockingIOError, TimeoutError):
                return None
            self._answers.close()
        return self.returncode


def start(
    module: str,
    *arguments: str,
    cwd: Path = ROOT,
    env: Mapping[str, str],
    stdin: int,
    stdout: int,
    stderr: int,
) -> Command:
    """Start `python -m module arguments`; the streams are file descriptors."""
    order = {"module": module, "arguments": arguments, "cwd": str(cwd), "env": dict(env)}
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        descriptors = [theirs.fileno(), stdin, stdout, stderr]
        socket.send_fds(_server(_family(module)), [json.dumps(order).encode()], descriptors)
    return Command(module, ours)


def run(
    module: str, *arguments: str, cwd: Path, env: Mapping[str, str], timeout: float = 120
) -> "subprocess.CompletedProcess[str]":
    """Run `python -m module arguments` until it ends; stdout and stderr as text.

    Raises subprocess.TimeoutExpired, after killing it.
    """
    with TemporaryFile() as out, TemporaryFile() as err, Path(os.devnull).open("rb") as nothing:
        streams = {"stdin": nothing.fileno(), "stdout": out.fileno(), "stderr": err.fileno()}
        command = start(module, *arguments, cwd=cwd, env=env, **streams)
        try:
            status = command.wait(timeout)
        except subprocess.TimeoutExpired:
            command.kill()
            command.wait()
            raise subprocess.TimeoutExpired(module, timeout, _text(out), _text(err)) from None
        return subprocess.CompletedProcess([module, *arguments], status, _text(out), _text(err))


def _family(module: str) -> str:
    """Which of the processes that are forked from has imported what the module needs."""
    return "space" if module == "kronos_space" else "bots"


@cache
def _server(family: str) -> socket.socket:
    """The socket that takes orders; its process ends with this one."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.commands", family, str(theirs.fileno())],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            cwd=ROOT,
            pass_fds=[theirs.fileno()],
            start_new_session=True,  # Ctrl-C is the tests' to handle
        )

    def end() -> None:
        ours.close()
        process.wait()

    atexit.register(end)
    return ours


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode()


# below: in the process that is forked from ------------------------------------------------


def _import_space() -> None:
    import torch

    torch.set_num_threads(1)  # OpenMP's threads would not survive the fork
    import uvicorn  # noqa: F401

    import kronos_space.app
    import kronos_space.server.connection  # noqa: F401
    from kronos_space.weights.checkpoint import load_checkpoint

    load_checkpoint("kronos-nano")  # what it imports on the way stays
    slow = {"transformers", "sympy", "torch._dynamo", "torch.distributed.tensor"} & set(sys.modules)
    assert not slow, f"a Space imports {slow}: seconds of every start"


def _import_bots() -> None:
    import pandas  # noqa: F401 - what every command imports, some of it only in its body
    import yfinance  # noqa: F401

    import tradingbot.ai.forecast_tool
    import tradingbot.bots.kronos_trader
    import tradingbot.cli.main
    import tradingbot.cli.run_result
    import tradingbot.evaluation.scoring
    import tradingbot.jobs.nightly
    import tradingbot.postprocessing.fit
    import tradingbot.reports.page
    import tradingbot.walk_forward.runner  # noqa: F401

    assert "huggingface_hub" not in sys.modules, "it reads HF_ENDPOINT when it is imported"


def _serve(control: socket.socket) -> None:
    import gc

    gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those who wait
    while True:
        order, descriptors, _, _ = socket.recv_fds(control, LARGEST_ORDER, 4)
        if not order:
            return
        if os.fork() == 0:
            control.close()
            _attend(json.loads(order), *descriptors)
        for descriptor in descriptors:
            os.close(descriptor)


def _attend(order: dict[str, str], answers: int, *streams: int) -> None:
    """Start the command, say its pid and then its status; end it when the caller is gone."""
    import select

    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    pid = os.fork()
    if pid == 0:
        os.close(answers)
        _become(order, streams)
    for stream in streams:  # whoever reads them waits for the command, not for this process
        os.close(stream)
    with socket.socket(fileno=answers) as caller:
        caller.send(str(pid).encode())
        if caller in select.select([os.pidfd_open(pid), caller], [], [])[0]:
            os.kill(pid, signal.SIGKILL)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        with suppress(BrokenPipeError):
            caller.send(str(status).encode())
    os._exit(0)


def _become(order: dict[str, str], streams: tuple[int, ...]) -> None:
    import runpy

    code: int | str | None = 1
    try:
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
            os.close(stream)
        os.setsid()
        os.chdir(order["cwd"])
        os.environ.clear()
        os.environ.update(order["env"])  # type: ignore[arg-type]
        sys.argv = [order["module"], *order["arguments"]]
        runpy.run_module(order["module"], run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as error:
        code = error.code
        if isinstance(code, str):
            sys.stderr.write(f"{code}\n")
            code = 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code or 0)  # type: ignore[arg-type]


if __name__ == "__main__":
    {"space": _import_space, "bots": _import_bots}[sys.argv[1]]()
    _serve(socket.socket(fileno=int(sys.argv[2])))
