"""Time and memory of `kronosbot score` on a real Postgres.

    python -m benchmarks.scoring                    250,000 and 1,000,000 matured forecasts
    python -m benchmarks.scoring --sessions 100     fewer

Prints Markdown to stdout and progress to stderr. Takes about four minutes.

The candles are CSV files of 500 tickers on New York sessions. Each ticker has forecasts of 5 days
ahead for every session, with 19 raw and 19 calibrated quantiles of 17 digits. The command runs in a
separate process: its time is from start to end, its memory the maximum.
"""

# ruff: noqa: RUF001 (the multiplication sign is intended)
import argparse
import io
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from statistics import NormalDist

import numpy as np
import psycopg2  # type: ignore[import-untyped]

from benchmarks._support import cpu, postgres, say, table
from tradingbot.forecast import QUANTILE_LEVELS
from tradingbot.markets.calendars import next_sessions
from tradingbot.persistence.engine import init_db

TICKERS, STEPS, BEFORE = 500, 5, 300
VOLATILITY = 0.012
Z = np.array([NormalDist().inv_cdf(level) for level in QUANTILE_LEVELS])
KEYS = [f"{level:g}" for level in QUANTILE_LEVELS]
COLUMNS = (
    "symbol", "interval", "model_name", "model_revision", "as_of", "target_date",
    "prediction_made_at", "horizon_days", "last_close", "predicted_open", "predicted_high",
    "predicted_low", "predicted_close", "predicted_volume", "close_quantiles", "prob_up",
    "samples", "calibration", "calibrated_quantiles",
)  # fmt: skip


def main() -> int:
    """Run the benchmark and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sessions", type=int, default=400, help="that forecasts were made on")
    sessions = parser.parse_args().sessions
    rows = []
    with tempfile.TemporaryDirectory() as folder, postgres() as new_database:
        for count in (sessions // 4, sessions):
            candles = Path(folder) / str(count)
            database = new_database()
            init_db(database)
            say(f"{TICKERS * STEPS * count} forecasts into Postgres")
            fill(database, candles, count)
            say("scoring")
            scored, seconds, mib = score(database, candles)
            rows.append([f"{scored:,}", f"{seconds:.1f}", f"{mib:.0f}"])
    print(f"{cpu()}, {len(os.sched_getaffinity(0))} cores. {TICKERS} tickers × {STEPS} ahead.\n")
    print(table(["forecasts with an outcome", "s", "most memory, MiB"], rows))
    return 0


def score(database: str, candles: Path) -> tuple[int, float, float]:
    """Return the number of scored forecasts, the seconds, and the peak memory in MiB."""
    command = [sys.executable, "-m", "tradingbot.kronosbot", "score", "--json"]
    command += ["--source", f"csv:{candles}", "--database-url", database]
    began = time.monotonic()
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(command, stdout=output)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.monotonic() - began
        if status:
            raise SystemExit(f"it ended with {os.waitstatus_to_exitcode(status)}")
        output.seek(0)
        return json.load(output)["scored"], seconds, usage.ru_maxrss / 1024


def fill(database: str, candles: Path, sessions: int) -> None:
    """Fill the ledger, and write the candles to score it with."""
    candles.mkdir()
    last = datetime(2024, 5, 15)
    length = BEFORE + sessions + STEPS
    days = next_sessions("SPY", last - timedelta(days=2 * length), 2 * length)[:length]
    random = np.random.default_rng(0)
    connection = psycopg2.connect(database)
    with connection, connection.cursor() as cursor:
        for number in range(TICKERS):
            symbol = f"T{number:03}"
            closes = 100 * np.exp(np.cumsum(VOLATILITY * random.standard_normal(length)))
            lines = [f"{day:%Y-%m-%d},{c},{c},{c},{c}" for day, c in zip(days, closes, strict=True)]
            text = "\n".join(["date,open,high,low,close", *lines])
            (candles / f"{symbol}.csv").write_text(text)
            rows = io.StringIO("".join(forecasts(symbol, days, closes.tolist(), sessions)))
            cursor.copy_from(rows, "kronos_forecasts", columns=COLUMNS)
    with connection.cursor() as cursor:
        connection.rollback()
        connection.autocommit = True
        cursor.execute("VACUUM ANALYZE kronos_forecasts")
    connection.close()


def forecasts(
    symbol: str, days: list[datetime], closes: list[float], sessions: int
) -> Iterator[str]:
    """Yield lines for COPY."""
    spreads = [np.exp(VOLATILITY * step**0.5 * Z) for step in range(1, STEPS + 1)]
    for at in range(BEFORE, BEFORE + sessions):
        close = closes[at]
        for step, spread in enumerate(spreads, 1):
            calibrated = json.dumps(dict(zip(KEYS, (close * spread).tolist(), strict=True)))
            raw = json.dumps(dict(zip(KEYS, (close * spread**0.5).tolist(), strict=True)))
            values = (
                symbol, "1d", "NeoQuasar/Kronos-mini", "f4e6869", days[at], days[at + step],
                days[at], step, close, close, close, close, close * 1.001, 1.0, raw, 0.5, 20,
                "conformal", calibrated,
            )  # fmt: skip
            yield "\t".join(map(str, values)) + "\n"


if __name__ == "__main__":
    sys.exit(main())
