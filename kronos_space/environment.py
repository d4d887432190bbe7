"""Environment variables. No other module of the service reads or sets them."""

import os
from collections.abc import Mapping


def environment(environ: Mapping[str, str] | None = None) -> Mapping[str, str]:
    """Return `environ` (default: the process's) without line ends and byte order marks.

    Secrets often come from files, which may contain line ends or a byte order mark.
    """
    environ = os.environ if environ is None else environ
    return {name: value.lstrip("\ufeff").rstrip("\r\n") for name, value in environ.items()}


def let_threads_sleep() -> None:
    """Limit how long the engine's threads spin. Call it before torch is imported.

    A thread without work spins before it sleeps, by default 300,000 rounds. When other processes
    need the CPU, 300,000 rounds make forecasts ten times slower. 1,000 rounds do not.
    """
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
