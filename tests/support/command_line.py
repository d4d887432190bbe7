"""Run `kronosbot` as a process."""

import os
from pathlib import Path
from subprocess import CompletedProcess

from tests.support import commands


def kronosbot(*arguments: str, folder: Path, **environ: str) -> CompletedProcess[str]:
    """Run it in `folder` until it ends; return stdout and stderr as text."""
    return commands.run(
        "tradingbot.kronosbot", *arguments, cwd=folder, env={**os.environ, **environ}
    )
