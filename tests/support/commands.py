"""`kronosbot` and the like as processes that start at once: forked from one that has imported.

`python -m tradingbot.kronosbot` takes two seconds, nearly all of them imports. A forked command is
a process of its own, with its own arguments, environment, folder and output; it runs the same
module as `__main__` and ends with the same status.

    done = run("tradingbot.kronosbot", "status", cwd=folder, env=os.environ)
    assert done.returncode == 0, done.stderr
"""

import atexit
import json
import os
import socket
import subprocess
import sys
import traceback
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

from tests.support import ROOT

LARGEST_ORDER = 1 << 17  # bytes: arguments and environment


def run(
    module: str, *arguments: str, cwd: Path, env: Mapping[str, str], timeout: float = 120
) -> "subprocess.CompletedProcess[str]":
    """Run `python -m module arguments` until it ends; stdout and stderr as text.

    Raises subprocess.TimeoutExpired, after killing it.
    """
    order = {"module": module, "arguments": arguments, "cwd": str(cwd), "env": dict(env)}
    ours, theirs = socket.socketpair()
    with (
        ours,
        TemporaryFile() as out,
        TemporaryFile() as err,
        Path(os.devnull).open("rb") as nothing,
    ):
        with theirs:
            descriptors = [theirs.fileno(), nothing.fileno(), out.fileno(), err.fileno()]
            socket.send_fds(_server(), [json.dumps(order).encode()], descriptors)
        with ours.makefile("r") as answers:
            pid = int(answers.readline())
            ours.settimeout(timeout)
            try:
                status = int(answers.readline())
            except TimeoutError:
                os.kill(pid, 9)
                raise subprocess.TimeoutExpired(module, timeout, _text(out), _text(err)) from None
        return subprocess.CompletedProcess([module, *arguments], status, _text(out), _text(err))


@cache
def _server() -> socket.socket:
    """The socket that takes orders; its process ends with this one."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.commands", str(theirs.fileno())],
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


def _serve(control: socket.socket) -> None:
    import gc
    import signal

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
    """Start the command, say its pid, wait for it and say its status."""
    import signal

    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    pid = os.fork()
    if pid == 0:
        os.close(answers)
        _become(order, streams)
    os.write(answers, f"{pid}\n".encode())
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    os.write(answers, f"{status}\n".encode())
    os._exit(0)


def _become(order: dict[str, str], streams: tuple[int, ...]) -> None:
    import runpy

    code: int | str | None = 1
    try:
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
            os.close(stream)
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
    _serve(socket.socket(fileno=int(sys.argv[1])))
