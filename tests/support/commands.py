"""`kronosbot`, `kronos_space` and the like as processes that start at once, by forking.

`python -m tradingbot.kronosbot` and `python -m kronos_space` each take two seconds, nearly all of
them imports. A forked command is a process of its own, with its own arguments, environment, folder
and output; it runs the same module as `__main__` and ends with the same status. The processes that
are forked from have imported everything; they start when they are first needed, once for all
workers, and end with the run of the tests.

    done = run("tradingbot.kronosbot", "status", cwd=folder, env=os.environ)
    assert done.returncode == 0, done.stderr

In the place of a module: a script's path, or "-c" before a program. `family` says what is imported:
"bots" (tradingbot), "space" (kronos_space), or "libraries" (neither, nor huggingface_hub).

What `run` starts is given a `sys.executable` that forks, too: a local Space takes no two seconds of
imports either. `forked_python` is that, for commands of a shell.
"""

import atexit
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import traceback
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from shutil import rmtree
from tempfile import TemporaryDirectory, TemporaryFile, mkdtemp
from types import ModuleType
from typing import IO, Any
from uuid import uuid4

from tests.support import ROOT

_in_place_of_python = False  # this process has the streams of a command
LARGEST_ORDER = 1 << 17  # bytes: arguments and environment
FORKED = ("kronos_space", "tradingbot.kronosbot", "tradingbot.kronostraderbot")
OF_THE_BOTS = (  # what commands import, some of it only in their bodies
    "alembic.command",
    "alembic.config",
    "yfinance",
    "tradingbot.ai.forecast_tool",
    "tradingbot.bots.kronos_trader",
    "tradingbot.cli.main",
    "tradingbot.cli.run_result",
    "tradingbot.evaluation.scoring",
    "tradingbot.jobs.nightly",
    "tradingbot.postprocessing.fit",
    "tradingbot.reports.page",
    "tradingbot.walk_forward.runner",
)


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

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

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


class Piped(Command):
    """A running command whose streams are pipes, with text."""

    def __init__(
        self, module: str, answers: socket.socket, stdin: int, stdout: int, stderr: int
    ) -> None:
        super().__init__(module, answers)
        self.stdin, self.stdout, self.stderr = (
            open(stream, mode, encoding="utf-8")  # noqa: PTH123, SIM115 - a descriptor; see below
            for stream, mode in ((stdin, "w"), (stdout, "r"), (stderr, "r"))
        )

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Close stdin; what remains on stdout and stderr, once the command has ended."""
        with self.stdin, self.stdout, self.stderr, ThreadPoolExecutor(2) as pool:
            self.stdin.close()
            out, err = pool.submit(self.stdout.read), pool.submit(self.stderr.read)
            try:
                self.wait(timeout)
            except subprocess.TimeoutExpired:
                self.kill()
                raise
            return out.result(), err.result()


def piped(
    module: str,
    *arguments: str,
    cwd: Path = ROOT,
    env: Mapping[str, str],
    family: str | None = None,
) -> Piped:
    """Start a command whose streams are pipes."""
    ends = [os.pipe() for _ in range(3)]
    theirs = (ends[0][0], ends[1][1], ends[2][1])
    try:
        streams = dict(zip(("stdin", "stdout", "stderr"), theirs, strict=True))
        order = _order(module, arguments, cwd, env, family, **streams)
    finally:
        for end in theirs:
            os.close(end)
    return Piped(module, order, ends[0][1], ends[1][0], ends[2][0])


def start(
    module: str,
    *arguments: str,
    cwd: Path = ROOT,
    env: Mapping[str, str],
    stdin: int,
    stdout: int,
    stderr: int,
    family: str | None = None,
    python: str | Path = sys.executable,
) -> Command:
    """Start `python -m module arguments`; the streams are file descriptors.

    Args:
        python: What it starts processes of its own with, as sys.executable.
    """
    order = _order(module, arguments, cwd, env, family, stdin, stdout, stderr, python)
    return Command(module, order)


def _order(
    module: str,
    arguments: Sequence[str],
    cwd: Path,
    env: Mapping[str, str],
    family: str | None,
    stdin: int,
    stdout: int,
    stderr: int,
    python: str | Path = sys.executable,
) -> socket.socket:
    """Have a process forked; its answers come from the socket."""
    order = {
        "module": module,
        "arguments": arguments,
        "cwd": str(cwd),
        "env": dict(env),
        "python": str(python),
    }
    server = _connected(family or _family(module))
    socket.send_fds(server, [json.dumps(order).encode()], [stdin, stdout, stderr])
    return server


def run(
    module: str,
    *arguments: str,
    cwd: Path,
    env: Mapping[str, str],
    timeout: float = 120,
    family: str | None = None,
) -> "subprocess.CompletedProcess[str]":
    """Run `python -m module arguments` until it ends; stdout and stderr as text.

    Raises subprocess.TimeoutExpired, after killing it.
    """
    with TemporaryFile() as out, TemporaryFile() as err, Path(os.devnull).open("rb") as nothing:
        streams = {"stdin": nothing.fileno(), "stdout": out.fileno(), "stderr": err.fileno()}
        command = start(
            module, *arguments, cwd=cwd, env=env, family=family, python=forked_python(), **streams
        )
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


def _connected(family: str) -> socket.socket:
    """A connection to the process that is forked from, which is started when there is none."""
    run, owner = _of_the_run()
    address = f"\0kronos-tests-{run}-{family}"  # an abstract name: it ends with its process
    ours = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    while True:
        with suppress(ConnectionRefusedError):
            ours.connect(address)
            return ours
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
            try:
                listener.bind(address)
            except OSError:  # another worker is just about to listen
                continue
            listener.listen(64)
            _start_server(family, listener, owner)


@cache
def _of_the_run() -> tuple[str, int]:
    """A name for this run of the tests, all workers together, and the process it ends with."""
    owner = os.getppid() if "PYTEST_XDIST_WORKER" in os.environ else os.getpid()
    return os.environ.get("PYTEST_XDIST_TESTRUNUID") or f"{owner}-{uuid4().hex}", owner


def _start_server(family: str, listener: socket.socket, owner: int) -> None:
    """Start the process that is forked from; it ends with the run of the tests."""
    python = (sys.executable, "-m", __name__, family, str(listener.fileno()), str(owner))
    # a stream that it kept open would never end for its reader
    errors = subprocess.DEVNULL if _in_place_of_python else None
    subprocess.run(
        ["setsid", "--fork", *python],  # nobody's child, and Ctrl-C is the tests' to handle
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=errors,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        cwd=ROOT,
        pass_fds=[listener.fileno()],
        check=True,
    )


@cache
def forked_python(module: str = "") -> Path:
    """A `python` that forks what it can, or a command that does so with one module."""
    folder = Path(mkdtemp(prefix="kronos-forked-"))
    atexit.register(rmtree, folder, ignore_errors=True)
    path = folder / "python"
    python = forked_python() if module else path
    program = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); from tests.support import commands; "
        f"commands._of_the_run = lambda: {_of_the_run()!r}; "
        f"commands.fork_instead({sys.executable!r}, {str(python)!r}, {module!r})"
    )
    # without site, a Python of the standard library alone starts in hundredths of a second
    command = shlex.join([sys.executable, "-SE", "-c", program])
    path.write_text(f'#!/bin/sh\nexec {command} "$@"\n')
    path.chmod(0o755)
    return path


def fork_instead(real: str, python: str, module: str) -> None:
    """Be the command that this process's arguments ask for, forked; else the real Python."""
    global _in_place_of_python
    _in_place_of_python = True
    arguments = sys.argv[1:]
    if not module and arguments[:1] == ["-m"] and arguments[1] in FORKED:
        module, *arguments = arguments[1:]
    elif not module and arguments and arguments[0].endswith(".py"):
        module, *arguments = arguments
    if not module:
        os.execv(real, [real, *arguments])
    sys.executable = real
    streams = {"stdin": 0, "stdout": 1, "stderr": 2}
    command = start(module, *arguments, cwd=Path.cwd(), env=os.environ, python=python, **streams)
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _frame: command.send_signal(number))
    status = command.wait()
    if status < 0:
        signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    sys.exit(status)


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


def _import_libraries() -> None:
    import torch

    torch.set_num_threads(1)
    import yaml  # noqa: F401

    ours = {"huggingface_hub", "kronos_space", "tradingbot"} & set(sys.modules)
    assert not ours, "they read the environment when they are imported"


def _import_bots() -> None:
    for module in OF_THE_BOTS:
        import_module(module)
    if find_spec("mcp"):
        import_module("tradingbot.ai.mcp.transports")
    from tradingbot.markets.calendar_library import widest_calendar

    for name in ("24/5", "24/7", "XNYS"):
        widest_calendar(name)  # the library keeps them
    _compile_statements()
    assert "huggingface_hub" not in sys.modules, "it reads HF_ENDPOINT when it is imported"


def _compile_statements() -> None:
    """Compile what reads a database and the templates of the report; most of a command's time."""
    from tests.support.records import Past
    from tests.support.schema import compiling_once
    from tradingbot.persistence import engine
    from tradingbot.reports.page import render_page
    from tradingbot.reports.record import read_record
    from tradingbot.settings import Settings

    engine.create_engine = compiling_once(engine.create_engine)  # type: ignore[assignment]
    with TemporaryDirectory(prefix="kronos-compiled-") as folder:
        url = f"sqlite:///{folder}/kronos.db"
        Past(["AAPL"], sessions=1).store(url)
        render_page(read_record(url, Settings(), source=None, symbols=()), b"")
        engine.dispose_engines()


def _serve(listener: socket.socket, owner: int) -> None:
    """Fork a process for every connection, until the process `owner` has ended."""
    import gc
    import select

    gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those who wait
    end = os.pidfd_open(owner)
    while end not in select.select([listener, end], [], [])[0]:
        caller, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            os.close(end)
            _attend(caller)
        caller.close()


def _attend(caller: socket.socket) -> None:
    """Start the command, say its pid and then its status; end it when the caller is gone."""
    import select

    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # as `nohup` does this one
    order, streams, _, _ = socket.recv_fds(caller, LARGEST_ORDER, 3)
    if not order:
        os._exit(0)
    pid = os.fork()
    if pid == 0:
        caller.close()
        _become(json.loads(order), streams)
    for stream in streams:  # their reader waits for the command, not for this process
        os.close(stream)
    with caller:
        caller.send(str(pid).encode())
        if caller in select.select([os.pidfd_open(pid), caller], [], [])[0]:
            os.kill(pid, signal.SIGKILL)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        with suppress(BrokenPipeError):
            caller.send(str(status).encode())
    os._exit(0)


def _become(order: dict[str, Any], streams: Sequence[int]) -> None:
    import runpy

    code: int | str | None = 1
    try:
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
            os.close(stream)
        os.setsid()
        os.chdir(order["cwd"])
        os.environ.clear()
        os.environ.update(order["env"])
        sys.executable = order["python"]
        module, arguments = order["module"], order["arguments"]
        sys.argv = [module, *arguments]
        if module == "-c":
            sys.argv = ["-c", *arguments[1:]]
            program = ModuleType("__main__")
            sys.modules["__main__"] = program
            exec(arguments[0], program.__dict__)
        elif module.endswith(".py"):
            sys.path.insert(0, str(Path(module).parent))
            runpy.run_path(module, run_name="__main__")
        else:
            runpy.run_module(module, run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as error:
        code = error.code
        if isinstance(code, str):
            sys.stderr.write(f"{code}\n")
            code = 1
    except BaseException:
        traceback.print_exc()
    finally:
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code or 0)  # type: ignore[arg-type]


if __name__ == "__main__":
    families = {"space": _import_space, "bots": _import_bots, "libraries": _import_libraries}
    families[sys.argv[1]]()
    _serve(socket.socket(fileno=int(sys.argv[2])), int(sys.argv[3]))
