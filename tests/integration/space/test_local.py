"""A local Space process: it runs within the context, ends after it, and explains failures."""

import importlib.util
import os
import subprocess
import sys
import time
from typing import Any

import psutil
import pytest

from tradingbot.errors import ConfigError, SpaceError, SpaceUnavailable
from tradingbot.settings import Timeouts
from tradingbot.space import local as module
from tradingbot.space.local import local_space


def test_without_the_models_packages_an_error_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    find = importlib.util.find_spec

    def without_torch(name: str, package: str | None = None) -> Any:
        return None if name == "torch" else find(name, package)

    monkeypatch.setattr(importlib.util, "find_spec", without_torch)
    with (
        pytest.raises(SpaceError, match=r"pip install torch=="),
        local_space(),
    ):
        pass


def test_a_wrong_setting_of_the_space_is_a_settings_error_of_the_job() -> None:
    environ = {**os.environ, "KRONOS_MAX_BODY_MB": "lots"}
    with (
        pytest.raises(ConfigError, match="could not start: KRONOS_MAX_BODY_MB='lots': expected"),
        local_space(environ=environ),
    ):
        pass


@pytest.mark.parametrize("program", ["import time; time.sleep(60)", "STUBBORN"])
def test_a_local_space_that_never_answers_is_terminated(
    monkeypatch: pytest.MonkeyPatch, program: str
) -> None:
    if program == "STUBBORN":
        program = (
            "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)"
        )
    started: list[subprocess.Popen[str]] = []
    popen = subprocess.Popen

    def other_program(command: list[str], **options: Any) -> Any:
        started.append(popen([command[0], "-c", program], **options))
        return started[-1]

    monkeypatch.setattr(subprocess, "Popen", other_program)
    with (
        pytest.raises(SpaceUnavailable, match=r"not healthy within 0\.5 s"),
        local_space(timeout=0.5, timeouts=Timeouts(local_space_stop=0.3)),
    ):
        pass
    assert started[0].poll() is not None


HEALTHY = """
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
class Space(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'{"status": "ok", "model": "m", "boot_id": "b"}')
HTTPServer(("127.0.0.1", int(sys.argv[sys.argv.index("--port") + 1])), Space).serve_forever()
"""


def test_a_space_killed_during_a_run_is_reported(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    started: list[subprocess.Popen[str]] = []
    popen = subprocess.Popen

    def other_program(command: list[str], **options: Any) -> Any:
        started.append(popen([command[0], "-c", HEALTHY, *command[3:]], **options))
        return started[-1]

    monkeypatch.setattr(subprocess, "Popen", other_program)
    with local_space(timeout=30):
        started[0].kill()
        started[0].wait()
    assert caplog.messages == [
        "the local Space ended with -9 (killed, perhaps out of memory)",
    ]


LOGGING = """
import json
print("plain text, which is nobody's warning", flush=True)
print('{"not": "an entry"}')
print(json.dumps({"level": "INFO", "message": "ready"}))
print(json.dumps({"level": "WARNING", "message": "the small model\\nhas to do"}))
print(json.dumps({"level": "ERROR", "message": "it broke", "exception": "Trace\\nValueError: 7"}))
"""


def test_a_local_spaces_warnings_and_the_end_of_its_log_are_reported(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    popen = subprocess.Popen

    def other_program(command: list[str], **options: Any) -> Any:
        return popen([command[0], "-c", LOGGING], **options)

    monkeypatch.setattr(subprocess, "Popen", other_program)
    messages: list[str] = []
    with (
        pytest.raises(SpaceError, match=r"could not start: ValueError: 7$"),
        local_space(say=messages.append),
    ):
        pass
    assert messages == ["Space: the small model", "Space: it broke"]


def test_a_killed_job_leaves_no_local_space_running() -> None:
    program = "from tradingbot.space.local import local_space\nwith local_space(): pass"
    environ = {**os.environ, "KRONOS_MODEL": "kronos-nano", "KRONOS_THREADS": "1"}
    parent = subprocess.Popen([sys.executable, "-c", program], env=environ)
    try:
        space = child_space(psutil.Process(parent.pid))
    finally:
        parent.kill()
        parent.wait()
    assert not psutil.wait_procs([space], timeout=30)[1], "the Space runs on"


def child_space(parent: psutil.Process) -> psutil.Process:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        for child in parent.children():
            if "kronos_space" in child.cmdline():
                return child
        time.sleep(0.02)
    raise AssertionError("no Space was started")


def test_secrets_of_the_job_do_not_reach_the_space() -> None:
    environ = {"HF_TOKEN": "a", "DATABASE_URL": "b", "POSTGRES_PASSWORD": "c", "KRONOS_MODEL": ""}
    assert module._environment(environ) == {
        "KRONOS_MODEL": "auto", "KRONOS_LOG_FORMAT": "json", "PYTHONUNBUFFERED": "1",
    }  # fmt: skip
