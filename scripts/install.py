"""Install the project into .venv, as `make` does, with a progress line on a terminal.

    .venv/bin/python scripts/install.py EXTRAS

Prints the last lines of pip's output only if pip fails. Uses the standard library only, because
nothing is installed yet.
"""

import os
import re
import subprocess
import sys
import threading
import time
import urllib.request
from collections import deque

TORCH_CPU_INDEX = "https://download.pytorch.org/whl/cpu"  # 190 MB instead of several GB
COSTS = {  # download size, disk use and time on a machine with 2 CPUs
    "dev": "downloads 500 MB, takes 2 GB on disk and two to five minutes, once",
    "": "downloads 350 MB, takes 1.2 GB on disk and one to three minutes, once",
}
SHOWN = 30  # lines of pip output to print after a failure
PIP = ["--no-compile", "--disable-pip-version-check", "--no-input", "--progress-bar", "off"]
# with "compat" a folder on the path replaces the import hook, so that type checkers see the types
EDITABLE = ["--config-settings", "editable_mode=compat"]


def main(extras: str) -> int:
    print(f"installing {extras} into .venv: {COSTS.get(extras, COSTS[''])}", flush=True)
    command = [
        *(sys.executable, "-m", "pip", "install", *PIP, *_torch_index(), *EDITABLE),
        *("-c", "constraints.txt", "-e", f".[{extras}]"),
    ]
    line = Line()
    started = time.monotonic()
    status, output = run(command, line)
    line.clear()
    if status:
        print(*output, sep="\n", file=sys.stderr)
        print(f"pip failed with {status}; see its output above", file=sys.stderr)
        return status
    print(f"installed {line.count} packages in {time.monotonic() - started:.0f} s", flush=True)
    return 0


class Line:
    """A progress line that overwrites itself. Prints nothing if stdout is not a terminal."""

    def __init__(self) -> None:
        self.count = 0
        self.activity = "asking the index"
        self._started = time.monotonic()
        self._is_terminal = sys.stdout.isatty()
        self._done = threading.Event()
        if self._is_terminal:
            threading.Thread(target=self._tick, daemon=True).start()

    def update(self, output: str) -> None:
        """Update the count and the activity from one line of pip's output."""
        if found := re.match(r"Collecting ([\w.-]+)", output):
            self.count += 1
            self.activity = f"collecting {found[1]}"
        elif found := re.match(r"\s*Downloading (\S+?)-\d\S* \((.*)\)", output):
            self.activity = f"downloading {found[1].split('/')[-1]} ({found[2]})"
        elif output.startswith("Installing collected packages:"):
            self.count = output.count(",") + 1
            self.activity = "unpacking all of them"

    def clear(self) -> None:
        self._done.set()
        if self._is_terminal:
            print("\r\x1b[K", end="", flush=True)

    def _tick(self) -> None:
        while not self._done.wait(0.2):
            seconds = time.monotonic() - self._started
            text = f"  {self.count} packages, {seconds:.0f} s: {self.activity}"
            width = os.get_terminal_size().columns - 1
            print(f"\r\x1b[K{text[:width]}", end="", flush=True)


def run(command: list[str], line: Line) -> tuple[int, list[str]]:
    """Run pip. Return its exit status and the last `SHOWN` lines of its output."""
    last_lines: deque[str] = deque(maxlen=SHOWN)
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    ) as pip:
        assert pip.stdout is not None
        for output in pip.stdout:
            last_lines.append(output.rstrip())
            line.update(output)
    return pip.returncode, list(last_lines)


def _torch_index() -> list[str]:
    """Return pip options for PyTorch's CPU-only index, or nothing if the index is unreachable."""
    try:
        if sys.platform == "linux":
            urllib.request.urlopen(f"{TORCH_CPU_INDEX}/torch/", timeout=3).close()
            return ["--extra-index-url", TORCH_CPU_INDEX]
    except OSError:
        pass
    return []


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
