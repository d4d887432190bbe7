"""Start `kronosbot`, `kronos_space` and other commands without import time, by forking.

`python -m tradingbot.kronosbot` and `python -m kronos_space` each take two seconds, almost all of
it imports. Here a fork server imports everything once and forks a process for each command. The
forked process has its own arguments, environment, folder and output, runs the same module as
`__main__` and ends with the same exit status. The fork servers start on first use, serve all
pytest workers and end with the test run.

    done = run("tradingbot.kronosbot", "status", cwd=folder, env=os.environ)
    assert done.returncode == 0, done.stderr

Instead of a module, pass the path of a script, or "-c" followed by a program. `family` names the
imports of the fork server: "bots" (tradingbot), "space" (kronos_space), or "libraries" (neither of
them, and not huggingface_hub).

A command that `run` starts gets a `sys.executable` that forks too, so the local Space that it
starts also skips its imports. `forked_python` provides the same for shell commands.
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
from datetime import datetime
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

_in_place_of_python = False  # True in a forked process once it has the command's streams
LARGEST_ORDER = 1 << 17  # maximum bytes of arguments and environment
FORKED = ("kronos_space", "tradingbot.kronosbot", "tradingbot.kronostraderbot")
OF_THE_BOTS = (  # imports of the commands, some of which are inside functions
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
    """A running command with the part of the subprocess.Popen interface that the tests need."""

    def __init__(self, module: str, answers: socket.socket) -> None:
        self._module = module
        self._answers = answers
        self.pid = int(answers.recv(64))
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Return the exit status, or None while the command runs."""
        return self._look(0.0)

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the exit status. Raises subprocess.TimeoutExpired."""
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
    """A running command with text pipes as streams."""

    def __init__(
        self, module: str, answers: socket.socket, stdin: int, stdout: int, stderr: int
    ) -> None:
        super().__init__(module, answers)
        self.stdin, self.stdout, self.stderr = (
            open(stream, mode, encoding="utf-8")  # noqa: PTH123, SIM115 - a descriptor; see below
            for stream, mode in ((stdin, "w"), (stdout, "r"), (stderr, "r"))
        )

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Close stdin and return the remaining stdout and stderr once the command has ended."""
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
    """Start a command with pipes as streams."""
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
        python: The command's sys.executable, with which it starts further processes.
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
    """Ask the fork server for a process; return the socket on which its status arrives."""
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
    """Run `python -m module arguments` until it ends; return stdout and stderr as text.

    Raises subprocess.TimeoutExpired after killing the command.
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
    """Return the name of the fork server that has imported what the module needs."""
    return "space" if module == "kronos_space" else "bots"


def _connected(family: str) -> socket.socket:
    """Connect to the fork server; start it first if it does not run."""
    run, owner = _of_the_run()
    # an abstract socket: its name disappears with the process
    address = f"\0kronos-tests-{run}-{family}"
    ours = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    while True:
        with suppress(ConnectionRefusedError):
            ours.connect(address)
            return ours
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
            try:
                listener.bind(address)
            except OSError:  # another worker is about to listen
                continue
            listener.listen(64)
            _start_server(family, listener, owner)


@cache
def _of_the_run() -> tuple[str, int]:
    """Return a name shared by all workers of this test run, and the pid of its main process."""
    owner = os.getppid() if "PYTEST_XDIST_WORKER" in os.environ else os.getpid()
    return os.environ.get("PYTEST_XDIST_TESTRUNUID") or f"{owner}-{uuid4().hex}", owner


def _start_server(family: str, listener: socket.socket, owner: int) -> None:
    """Start the fork server, which ends with the test run."""
    python = (sys.executable, "-m", __name__, family, str(listener.fileno()), str(owner))
    # inherited streams stay closed: the fork server would keep the readers of a pipe waiting
    errors = subprocess.DEVNULL if _in_place_of_python else None
    subprocess.run(
        ["setsid", "--fork", *python],  # no parent process, and Ctrl-C reaches only the tests
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
    """Create a `python` that forks where possible, or such a command for one module."""
    folder = Path(mkdtemp(prefix="kronos-forked-"))
    atexit.register(rmtree, folder, ignore_errors=True)
    path = folder / "python"
    python = forked_python() if module else path
    program = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); from tests.support import commands; "
        f"commands._of_the_run = lambda: {_of_the_run()!r}; "
        f"commands.fork_instead({sys.executable!r}, {str(python)!r}, {module!r})"
    )
    # without `site`, a Python with only the standard library starts in hundredths of a second
    command = shlex.join([sys.executable, "-SE", "-c", program])
    path.write_text(f'#!/bin/sh\nexec {command} "$@"\n')
    path.chmod(0o755)
    return path


def fork_instead(real: str, python: str, module: str) -> None:
    """Run the command of this process's arguments by forking, or else with the real Python."""
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


# in the fork server -----------------------------------------------------------------------


def _import_space() -> None:
    import torch

    torch.set_num_threads(1)  # OpenMP threads do not survive a fork
    import uvicorn  # noqa: F401

    import kronos_space.app
    import kronos_space.server.connection  # noqa: F401
    from kronos_space.weights.checkpoint import load_checkpoint

    load_checkpoint("kronos-nano")  # loaded only for the modules that it imports
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
    from tradingbot.data.sources.sample import SampleSource
    from tradingbot.markets.calendar_library import widest_calendar

    for name in ("24/5", "24/7", "XNYS"):
        widest_calendar(name)  # exchange_calendars caches them
    sample = SampleSource()
    for symbol in sample.symbols():  # the source caches their candles
        sample.fetch(symbol, "1d", datetime.min, datetime.max)
    _compile_statements()
    assert "huggingface_hub" not in sys.modules, "it reads HF_ENDPOINT when it is imported"


def _compile_statements() -> None:
    """Compile SQL statements and report templates, which take most of a command's time."""
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
    """Fork a process for every connection until the process `owner` has ended."""
    import gc
    import select

    gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # reap the children that wait for commands
    end = os.pidfd_open(owner)
    while end not in select.select([listener, end], [], [])[0]:
        caller, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            os.close(end)
            _attend(caller)
        caller.close()


def _attend(caller: socket.socket) -> None:
    """Start the command, send its pid and then its status; end it when the caller is gone."""
    import select

    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    # background jobs of a shell ignore SIGINT
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # `nohup` ignores SIGHUP
    order, streams, _, _ = socket.recv_fds(caller, LARGEST_ORDER, 3)
    if not order:
        os._exit(0)
    pid = os.fork()
    if pid == 0:
        caller.close()
        _become(json.loads(order), streams)
    for stream in streams:  # close them here: their readers wait until the command closes them
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
