"""Debian packages that tests use, installed where we are root."""

import os
import shutil
import subprocess


def apt_install(*packages: str, purpose: str) -> None:
    """Install them where we are root; else leave it to the user."""
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        return
    print(f"installing {', '.join(packages)} for {purpose}, once", flush=True)
    apt = ["apt-get", "-qq", "-o", "Dpkg::Use-Pty=0"]
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (["update"], ["install", "-y", "--no-install-recommends", *packages]):
        subprocess.run([*apt, *command], env=quiet, stdout=subprocess.DEVNULL, check=False)
