"""`kronosbot` as a process."""

import os
import subprocess
import sys
from pathlib import Path


def kronosbot(*arguments: str, folder: Path, **environ: str) -> "subprocess.CompletedProcess[str]":
    """Run it in `folder` until it ends; stdout and stderr as text."""
    return subprocess.run(
        [sys.executable, "-m", "tradingbot.kronosbot", *arguments],
        cwd=folder,
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
