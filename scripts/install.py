"""Install the project into .venv, as `make` does: one line that moves, and a count.

    .venv/bin/python scripts/install.py EXTRAS

What pip says is kept for the case that it fails, and its end is printed then. The standard library
alone: nothing is installed yet.
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
TAKES = {  # by what is installed, on a machine of 2 CPUs: from a warm index, else the network's
    "dev": "downloads 500 MB, takes 2 GB on disk and two to five minutes, once",
    "": "downloads 350 MB, takes 1.2 GB on disk and one to three minutes, once",
}
SHOWN = 30  # last lines of pip, after a failure
PIP = ["--no-compile", "--disable-pip-version-check", "--no-input", "--progress-bar", "off"]
# a folder on the path, not a hook: type checkers of scripts elsewhere find the project's types
EDITABLE = ["--config-settings", "editable_mode=compat"]


def main(extras: str) -> int:
    print(f"installing {extras} into .venv: {TAKES.get(extras, TAKES[''])}", flush=True)
    command = [
        *(sys.executable, "-m", "pip", "install", *PIP, *_torch_index(), *EDITABLE),
        *("-c", "constraints.txt", "-e", f".[{extras}]"),
    ]
    line = Line()
    started = time.monotonic()
    status, said = run(command, line)
    line.clear()
    if status:
        print(*said, sep="\n", file=sys.stderr)
        print(f"pip failed with {status}; what it said is above", file=sys.stderr)
        return status
    print(f"installed {line.count} packages in {time.monotonic() - started:.0f} s", flush=True)
    return 0


class Line:
    """What is under way, in one line that is written over; nothing where nobody watches."""

    def __init__(self) -> None:
        self.count = 0
        self.what = "asking the index"
        self._began = time.monotonic()
        self._moves = sys.stdout.isatty()
        self._done = threading.Event()
        if self._moves:
            threading.Thread(target=self._tick, daemon=True).start()

    def take(self, said: str) -> None:
        """One line of pip."""
        if found := re.match(r"Collecting ([\w.-]+)", said):
            self.count += 1
            self.what = f"collecting {found[1]}"
        elif found := re.match(r"\s*Downloading (\S+?)-\d\S* \((.*)\)", said):
            self.what = f"downloading {found[1].split('/')[-1]} ({found[2]})"
        elif said.startswith("Installing collected packages:"):
            self.count = said.count(",") + 1
            self.what = "unpacking all of them"

    def clear(self) -> None:
        self._done.set()
        if self._moves:
            print("\r\x1b[K", end="", flush=True)

    def _tick(self) -> None:
        while not self._done.wait(0.2):
            seconds = time.monotonic() - self._began
            text = f"  {self.count} packages, {seconds:.0f} s: {self.what}"
            width = os.get_terminal_size().columns - 1
            print(f"\r\x1b[K{text[:width]}", end="", flush=True)


def run(command: list[str], line: Line) -> tuple[int, list[str]]:
    """Its exit status, and its last lines."""
    said: deque[str] = deque(maxlen=SHOWN)
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    ) as pip:
        assert pip.stdout is not None
        for output in pip.stdout:
            said.append(output.rstrip())
            line.take(output)
    return pip.returncode, list(said)


def _torch_index() -> list[str]:
    """The index of PyTorch for the CPU alone, where it can be reached."""
    try:
        if sys.platform == "linux":
            urllib.request.urlopen(f"{TORCH_CPU_INDEX}/torch/", timeout=3).close()
            return ["--extra-index-url", TORCH_CPU_INDEX]
    except OSError:
        pass
    return []


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
