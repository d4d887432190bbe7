"""The Chromium of the page tests: found, or installed by `python -m tests.support.browser`.

Debian's, a distribution's or Google's is taken where there is one, else Playwright's own.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# it makes no requests of its own, and runs as root in a container
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
MISSING = (
    "no Chromium for the tests of the page: install Debian's chromium, or Google Chrome, "
    "or run: python -m playwright install chromium"
)


@contextmanager
def chromium() -> Iterator[Browser]:
    """A running browser. It fails, with the way out, where there is none."""
    with sync_playwright() as playwright:
        path = _installed() or playwright.chromium.executable_path
        if not Path(path).exists():
            raise FileNotFoundError(MISSING)
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        try:
            yield browser
        finally:
            browser.close()


def _installed() -> str | None:
    return next(filter(None, map(shutil.which, NAMES)), None)


def _playwrights_own() -> bool:
    with sync_playwright() as playwright:
        return Path(playwright.chromium.executable_path).exists()


def _install() -> bool:
    if os.geteuid() == 0 and shutil.which("apt-get"):
        print("installing Debian's chromium for the tests of the page, once")
        apt = ["apt-get", "-qq", "-o", "Dpkg::Use-Pty=0"]
        quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        packages = ["--no-install-recommends", "chromium", "fonts-liberation"]
        for command in (["update"], ["install", "-y", *packages]):
            subprocess.run([*apt, *command], env=quiet, stdout=subprocess.DEVNULL, check=False)
        if _installed():
            return True
    print("downloading Playwright's chromium for the tests of the page, once")
    command = [sys.executable, "-m", "playwright", "install", "chromium"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def main() -> int:
    if _installed() or _playwrights_own() or _install():
        return 0
    print(MISSING, file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
