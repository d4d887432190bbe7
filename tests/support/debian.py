"""Debian packages that tests use, installed where we are root."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress


def apt_install(*packages: str, purpose: str) -> None:
    """Install them where we are root; else leave it to the user."""
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        return
    print(f"installing {', '.join(packages)} for {purpose}, once", flush=True)
    apt = ["apt-get", "-qq", "-o", "Dpkg::Use-Pty=0"]
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (["update"], ["install", "-y", "--no-install-recommends", *packages]):
        subprocess.run([*apt, *command], env=quiet, stdout=subprocess.DEVNULL, check=False)


def installed(find: Callable[[], object], package: str, *, purpose: str) -> int:
    """Install `package` where `find` does not find its program; 1, told in a line, if it fails.

    `find` raises FileNotFoundError, with the line, where there is none.
    """
    with suppress(FileNotFoundError):
        find()
        return 0
    apt_install(package, purpose=purpose)
    try:
        find()
    except FileNotFoundError as missing:
        print(missing, file=sys.stderr)
        return 1
    return 0
