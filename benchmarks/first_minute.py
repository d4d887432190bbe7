"""Measure a new user's first minute. Takes half a minute.

    python -m benchmarks.first_minute

Prints Markdown to stdout with a target for each: from `make serve` to a forecast visible in a
browser without scrolling; three lines of Python from yfinance candles to a plot; `import
tradingbot`. Installation is not measured; `make` prints how long it took.
"""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager

from playwright.sync_api import Error, Page, sync_playwright

from benchmarks._support import ROOT, cpu, say, table

SIZES = {"desk": (1400, 900), "phone": (390, 844)}
PATIENCE = 120_000  # ms
IMPORTS = 5  # the fastest counts, because other processes share the machine

SEEN = """() => {
    const chart = document.getElementById("chart");
    const drawn = (chart?.data ?? []).some((trace) => trace.name === "median");
    const boxes = ["go", "summary", "chart"].map((id) =>
        document.getElementById(id).getBoundingClientRect());
    const inSight = (box) => box.top >= 0 && box.bottom <= innerHeight;
    return drawn && scrollY === 0 && boxes.every(inSight);
}"""

# as from yfinance's Ticker.history: capitalised names, a time zone, and extra columns
THREE_LINES = """
import sys, time
import numpy as np, pandas as pd
days = pd.bdate_range("2024-01-02", periods=300, tz="America/New_York", name="Date")
close = pd.Series(100 + np.random.default_rng(1).standard_normal(300).cumsum(), days)
frame = pd.DataFrame({"Open": close, "High": close + 1, "Low": close - 1, "Close": close,
                      "Volume": 1_000_000, "Dividends": 0.0, "Stock Splits": 0.0})
started = time.perf_counter()
from tradingbot import KronosClient
client = KronosClient(sys.argv[1])
client.forecast("SPY", history=frame).plot()
print(time.perf_counter() - started)
"""
IMPORT = """
import time
started = time.perf_counter()
import tradingbot
print(time.perf_counter() - started)
"""


def main() -> int:
    with serving() as (url, started), browser_page() as page:
        say(f"waiting for a forecast on {url}")
        seconds = seen_after(page, url, started)
        sights = {name: is_seen_at(page, size) for name, size in SIZES.items()}
        say("three lines of Python")
        plotted = float(python(THREE_LINES, url))
    say("import tradingbot")
    imported = min(float(python(IMPORT)) for _ in range(IMPORTS))
    rows = [
        ("`make serve` to a forecast seen", f"{seconds:.1f} s", "10 s", seconds <= 10),
        *(
            (f"seen without a scroll on a {name}", "yes" if seen else "no", "yes", seen)
            for name, seen in sights.items()
        ),
        ("three lines from a yfinance frame to a plot", f"{plotted:.1f} s", "runs", True),
        ("`import tradingbot`", f"{1000 * imported:.0f} ms", "100 ms", imported <= 0.1),
    ]
    print(f"{cpu()}, {os.cpu_count()} CPUs\n")
    print(table(("what", "measured", "target", "met"), [(*row[:3], str(row[3])) for row in rows]))
    return 0 if all(met for *_, met in rows) else 1


@contextmanager
def serving() -> Iterator[tuple[str, float]]:
    """Run `make serve` on a free port. Yield its URL and the time at which it was started."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    started = time.perf_counter()
    process = subprocess.Popen(
        ["make", "--no-print-directory", "serve", f"PORT={port}"],
        cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    try:
        yield f"http://127.0.0.1:{port}", started
    finally:
        os.killpg(process.pid, 15)
        process.wait()


@contextmanager
def browser_page() -> Iterator[Page]:
    """Yield a page of a browser that is already running."""
    with sync_playwright() as playwright:
        path = next(filter(os.path.exists, ("/usr/bin/chromium", "/usr/bin/google-chrome")), None)
        arguments = ["--no-sandbox", "--disable-gpu"]
        with closing(playwright.chromium.launch(executable_path=path, args=arguments)) as browser:
            width, height = SIZES["desk"]
            yield browser.new_page(viewport={"width": width, "height": height})


def seen_after(page: Page, url: str, started: float) -> float:
    """Return the seconds until the forecast is drawn and visible."""
    while True:
        try:
            page.goto(url, timeout=PATIENCE)
            break
        except Error:  # the server does not listen yet
            if time.perf_counter() - started > PATIENCE / 1000:
                raise
            time.sleep(0.05)
    page.wait_for_function(SEEN, timeout=PATIENCE)
    return time.perf_counter() - started


def is_seen_at(page: Page, size: tuple[int, int]) -> bool:
    """Return whether button, summary and chart fit on the first screen at this size."""
    page.set_viewport_size({"width": size[0], "height": size[1]})
    page.reload()
    try:
        page.wait_for_function(SEEN, timeout=20_000)
    except Error:
        return False
    return True


def python(code: str, *arguments: str) -> str:
    """Return the output of a fresh interpreter."""
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT).stdout


if __name__ == "__main__":
    sys.exit(main())
