"""The commands that a person can type next, as they work from where this one was typed."""

import os
import shutil
import sys
from pathlib import Path

import tradingbot

_ROOT = Path(tradingbot.__file__).parent.parent


def kronosbot() -> str:
    """Return `kronosbot` as this process was called: with the path where it is not on PATH."""
    called = Path(sys.argv[0])
    if called.name != "kronosbot" or not called.exists():
        return "kronosbot"
    return _typed(called)


def serve() -> str:
    """Return what starts a Space with its page on this machine."""
    in_clone = Path.cwd() == _ROOT and (_ROOT / "Makefile").exists()
    return "make serve" if in_clone else f"{_typed(Path(sys.executable))} -m kronos_space"


def _typed(program: Path) -> str:
    """Its name where that is found on PATH, else the shorter of its paths."""
    found = shutil.which(program.name)
    if found is not None and Path(found).absolute() == program.absolute():
        return program.name
    relative = os.path.relpath(program)
    return relative if len(relative) < len(str(program)) else str(program)
