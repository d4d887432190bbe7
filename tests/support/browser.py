"""Find Chromium for the page tests; `python -m tests.support.browser` installs it.

A Chromium from Debian, another distribution or Google is preferred to Playwright's download.
"""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright._impl._driver import compute_driver_executable
from playwright.sync_api import Browser, sync_playwright

from tests.support.debian import apt_install

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# disable background requests, and the sandbox that does not work for root in a container
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PURPOSE = "the tests of the page"
MISSING = (
    "no Chromium for the tests of the page: install Debian's chromium, or Google Chrome, "
    "or run: python -m playwright install chromium"
)
NO_DRIVER = (
    "Playwright's Node does not start, so the tests of the page will fail: "
    "install Debian's libatomic1 (apt-get install libatomic1)"
)


@contextmanager
def chromium() -> Iterator[Browser]:
    """Yield a running browser. Fails with installation instructions if there is none."""
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


def _driver_starts() -> bool:
    """Return whether Playwright's Node runs; it needs libatomic, which a few machines lack."""
    driver = compute_driver_executable()
    node = driver[0] if isinstance(driver, tuple) else driver
    return subprocess.run([node, "--version"], capture_output=True, check=False).returncode == 0


def _download() -> None:
    print("downloading Playwright's chromium for the tests of the page, once", flush=True)
    command = [sys.executable, "-m", "playwright", "install", "chromium"]
    subprocess.run(command, capture_output=True, check=False)


def main() -> int:
    """Install what is missing. Return 1, after naming it, if something is still missing."""
    if not _driver_starts():
        apt_install("libatomic1", purpose=PURPOSE)
        if not _driver_starts():
            print(NO_DRIVER, file=sys.stderr)
            return 1
    if not shutil.which("git"):  # a clone can exist on a machine without git
        apt_install("git", purpose="the tests of releases")
    if not shutil.which("curl"):  # a test runs the curl command that the page shows
        apt_install("curl", purpose=PURPOSE)
        if not shutil.which("curl"):
            print("no curl for the tests of the page: install it (apt-get install curl)")
            return 1
    if not _installed() and not _playwrights_own():
        apt_install("chromium", "fonts-liberation", purpose=PURPOSE)
        if not _installed():
            _download()
        if not _installed() and not _playwrights_own():
            print(MISSING, file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
