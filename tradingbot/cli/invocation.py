"""Commands to suggest to the user, in a form that works from the current directory."""

import os
import shutil
import sys
from pathlib import Path

import tradingbot

_ROOT = Path(tradingbot.__file__).parent.parent


def kronosbot() -> str:
    """Return `kronosbot` as the user called it: with its path if it is not on PATH."""
    called = Path(sys.argv[0])
    if called.name != "kronosbot" or not called.exists():
        return "kronosbot"
    return _command_for(called)


def serve() -> str:
    """Return the command that starts a Space with its page on this machine."""
    in_clone = Path.cwd() == _ROOT and (_ROOT / "Makefile").exists()
    return "make serve" if in_clone else f"{_command_for(Path(sys.executable))} -m kronos_space"


def _command_for(program: Path) -> str:
    """Return the program's name if it is on PATH, or else the shorter of its paths."""
    found = shutil.which(program.name)
    if found is not None and Path(found).absolute() == program.absolute():
        return program.name
    relative = os.path.relpath(program)
    return relative if len(relative) < len(str(program)) else str(program)
