"""Install Debian packages that the tests use, when running as root."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress


def apt_install(*packages: str, purpose: str) -> None:
    """Install the packages when running as root; otherwise do nothing."""
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        return
    print(f"installing {', '.join(packages)} for {purpose}, once", flush=True)
    apt = ["apt-get", "-qq", "-o", "Dpkg::Use-Pty=0"]
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (["update"], ["install", "-y", "--no-install-recommends", *packages]):
        subprocess.run([*apt, *command], env=quiet, stdout=subprocess.DEVNULL, check=False)


def installed(find: Callable[[], object], package: str, *, purpose: str) -> int:
    """Install `package` unless `find` succeeds; print one line and return 1 if that fails.

    `find` raises FileNotFoundError with that line if the program is missing.
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
