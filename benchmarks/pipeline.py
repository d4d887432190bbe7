"""Time the nightly job by phase, and the upsert compared with COPY and row-by-row ORM.

    python -m benchmarks.pipeline                  the shape of Kronos-mini, synthetic weights
    python -m benchmarks.pipeline --model nano     the small bundled checkpoint

Prints Markdown to stdout and progress to stderr. Takes about two minutes.

The candles are CSV files of 100 tickers (500 bars each, random walks on New York sessions). The
Space runs in a separate process on this machine, the database is a real Postgres, and the job is
the command `kronosbot run` with 50 paths and 5 days ahead. Its time is that of the process, from
start to end. The start of the Space is shown separately. Each round begins with an empty database.
"""

# ruff: noqa: RUF001 (the multiplication sign is intended)
import argparse
import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from benchmarks._support import cpu, engine_seconds, postgres, say, service, table
from kronos_space.verification.cases import made_up
from kronos_space.verification.memory import memory_mib
from kronos_space.verification.synthetic_weights import write_checkpoint
from tradingbot.forecast import QUANTILE_LEVELS, Forecast, ForecastBar
from tradingbot.markets.calendars import next_sessions
from tradingbot.persistence.engine import get_db_session, init_db
from tradingbot.persistence.forecast_rows import ledger_row, prediction_row
from tradingbot.persistence.forecasts import store_forecasts
from tradingbot.persistence.models import KronosForecast, KronosPrediction, RunLog

TICKERS, BARS, STEPS, PATHS = 100, 500, 5, 50
ROWS = 10_000
CASES = ("new rows", "rows that are there")
PHASES = ("wake", "fetch", "forecast", "store", "pause", "score")


def main() -> int:
    """Run the benchmark and return the exit status."""
    options = parser().parse_args()
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # as the service sets it
    with tempfile.TemporaryDirectory() as folder, postgres() as new_database:
        candles = Path(folder) / "candles"
        write_candles(candles)
        model = "kronos-nano"
        if options.model != "nano":
            model = str(write_checkpoint(Path(folder) / "mini"))
        print(
            f"{cpu()}, {len(os.sched_getaffinity(0))} cores. {TICKERS} tickers × {BARS} bars × "
            f"{STEPS} ahead × {PATHS} paths; {options.model}, float32.\n"
        )
        with service(model) as (url, _, start_s):
            runs = []
            for turn in range(options.rounds + 1):  # the first round is a warm-up
                say(f"job {turn} of {options.rounds}")
                runs.append(job(url, candles, new_database()))
        print(phases(runs[1:], start_s), flush=True)
        print("\n" + upserts(new_database, options.rounds))
    return 0


def job(url: str, candles: Path, database: str) -> dict[str, float]:
    """Run the job. Return seconds by phase, process and engine, and peak memory in MiB."""
    init_db(database)  # on all nights but the first the schema exists
    environ = os.environ | {"KRONOS_SPACE_URL": url, "KRONOS_SAMPLES": str(PATHS)}
    command = [sys.executable, "-m", "tradingbot.kronosbot", "--source", f"csv:{candles}"]
    command += ["--horizon", str(STEPS), "--database-url", database]
    busy, began, peak = engine_seconds(url), time.monotonic(), 0.0
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(command, env=environ, stdout=subprocess.DEVNULL, stderr=errors)
        while process.poll() is None:
            peak = max(peak, memory_mib("VmHWM", process.pid))
            time.sleep(0.02)
        took = time.monotonic() - began
        if process.returncode:
            errors.seek(0)
            raise SystemExit(errors.read())
    with get_db_session(database) as session:
        [log] = session.scalars(select(RunLog))
        rows = session.query(KronosPrediction).count()
    assert rows == TICKERS * STEPS, rows
    known = {phase: log.durations.get(phase, 0.0) for phase in PHASES}
    rest = took - sum(known.values())
    busy = engine_seconds(url) - busy
    totals = {"rest": rest, "took": took, "busy": busy, "ours": took - busy, "MiB": peak}
    return known | totals


def phases(runs: Sequence[dict[str, float]], start_s: float) -> str:
    def row(name: str, key: str, target: str = "", bold: bool = False) -> list[str]:
        values = [run[key] for run in runs]
        median = f"{statistics.median(values):.2f}"
        scatter = f"{min(values):.2f} to {max(values):.2f}"
        return [name, f"**{median}**" if bold else median, scatter, target]

    return table(
        [f"{len(runs)} rounds, s", "median", "lowest to highest", "target"],
        [
            ["start of the Space, not counted", f"**{start_s:.2f}**", "", "≤ 2.5 s"],
            row("start and end of the process", "rest"),
            row("wake (is it up?)", "wake"),
            row("fetch candles", "fetch"),
            row("forecast: waiting for the Space", "forecast"),
            row("store, while the Space computes", "store"),
            row("score", "score"),
            row("the whole job", "took", "≤ 30 s", bold=True),
            row("engine of the Space at work", "busy"),
            row("the whole job without the engine", "ours", "≤ 3 s", bold=True),
            row("peak memory of the job, MiB", "MiB", "≤ 400", bold=True),
        ],
    )


def upserts(new_database: Callable[[], str], rounds: int) -> str:
    """Insert and update the same rows in both tables, several times; row by row only once."""
    forecasts = list(made_forecasts(ROWS // STEPS))
    stores: list[Callable[[Session, Sequence[Forecast]], object]] = [store_forecasts, copy] * rounds
    times: dict[tuple[str, str], list[float]] = {}
    for store in [*stores, row_by_row]:
        say(f"{ROWS} rows: {store.__name__}")
        database = new_database()
        init_db(database)
        for case in CASES:
            began = time.monotonic()
            with get_db_session(database) as session:
                store(session, forecasts)
            times.setdefault((store.__name__, case), []).append(time.monotonic() - began)
    rows = []
    for case in CASES:
        ours, copied = (
            statistics.median(times[store.__name__, case]) for store in (store_forecasts, copy)
        )
        [row_time] = times[row_by_row.__name__, case]
        rows.append(
            [
                *(
                    f"{ROWS:,} {case}",
                    f"**{ours:.2f}**",
                    f"{copied:.2f}",
                    f"**{ours / copied:.1f}**",
                ),
                *(f"{row_time:.2f}", f"**{row_time / ours:.0f}**"),
            ]
        )
    head = "both tables, s (targets: ≤ 2 s, ≥ 5 times faster)"
    by_hand = "ORM, select then insert, row by row"
    return table([head, "upsert", "COPY", "upsert ÷ COPY", by_hand, "times faster"], rows)


def copy(session: Session, forecasts: Sequence[Forecast]) -> None:
    """Write the same rows with COPY into temporary tables: the fastest possible write."""
    cursor = session.connection().connection.cursor()
    for model, row_of in (
        (KronosPrediction, prediction_row),
        (KronosForecast, partial(ledger_row, challenger=False)),
    ):
        rows = [row_of(made, bar) for made in forecasts for bar in made.bars]
        name, staged = model.__tablename__, f"staged_{model.__tablename__}"
        cursor.execute(f"CREATE TEMPORARY TABLE {staged} (LIKE {name}) ON COMMIT DROP")
        lines = "".join("\t".join(map(cell, row.values())) + "\n" for row in rows)
        columns = ", ".join(rows[0])
        cursor.copy_expert(f"COPY {staged} ({columns}) FROM STDIN", io.StringIO(lines))


def cell(value: object) -> str:
    """Return the value in COPY's format. Values of this benchmark need no escaping."""
    if value is None:
        return r"\N"
    return json.dumps(value) if isinstance(value, dict) else str(value)


def row_by_row(session: Session, forecasts: Sequence[Forecast]) -> None:
    """Write rows in the obvious way: look for each row, then change or add it."""
    for made in forecasts:
        for bar in made.bars:
            key = {
                "symbol": made.symbol,
                "interval": made.interval,
                "target_date": bar.target_date,
                "model_name": made.model_name,
            }
            common = {
                "prediction_made_at": made.made_at,
                "horizon_days": bar.step,
                "last_close": made.last_close,
                "predicted_open": bar.open,
                "predicted_high": bar.high,
                "predicted_low": bar.low,
                "predicted_close": bar.close,
                "predicted_volume": bar.volume,
                "prob_up": bar.prob_up,
                "samples": made.samples,
            }
            latest = session.execute(select(KronosPrediction).filter_by(**key)).scalar_one_or_none()
            if latest is None:
                latest = KronosPrediction(**key)
                session.add(latest)
            quantiles = bar.close_quantiles
            latest.close_p10, latest.close_p50 = quantiles[0.1], quantiles[0.5]
            latest.close_p90, latest.as_of = quantiles[0.9], made.as_of
            for name, value in common.items():
                setattr(latest, name, value)
            key["as_of"] = made.as_of
            stored = session.execute(select(KronosForecast).filter_by(**key)).scalar_one_or_none()
            if stored is None:
                levels = {f"{level:g}": price for level, price in quantiles.items()}
                session.add(KronosForecast(**key, **common, close_quantiles=levels))


def made_forecasts(count: int) -> Iterator[Forecast]:
    as_of = datetime(2024, 3, 8)
    for number in range(count):
        bars = tuple(
            ForecastBar(
                step=step,
                target_date=as_of + timedelta(days=step),
                open=100.0,
                high=101.0,
                low=99.0,
                close=100.5,
                volume=1e6,
                close_quantiles={level: 100 + level for level in QUANTILE_LEVELS},
                prob_up=0.5,
            )
            for step in range(1, STEPS + 1)
        )
        yield Forecast(
            symbol=f"T{number}",
            interval="1d",
            model_name="m",
            model_revision=None,
            as_of=as_of,
            made_at=as_of,
            last_close=100.0,
            samples=PATHS,
            seed=None,
            bars=bars,
        )


def write_candles(folder: Path) -> None:
    folder.mkdir()
    days = next_sessions("SPY", datetime(2021, 6, 1), BARS)
    for number in range(TICKERS):
        history: dict[str, Any] = made_up("walk", bars=BARS, horizon=1, seed=number).as_json()[
            "history"
        ]
        columns = [history[name] for name in ("open", "high", "low", "close", "volume")]
        lines = ["date,open,high,low,close,volume"] + [
            ",".join([f"{day:%Y-%m-%d}", *(f"{value!r}" for value in row)])
            for day, row in zip(days, zip(*columns, strict=True), strict=True)
        ]
        (folder / f"T{number:03}.csv").write_text("\n".join(lines) + "\n")


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--rounds", type=int, default=3, help="of each (%(default)s)")
    made.add_argument("--model", choices=["mini", "nano"], default="mini", help="(%(default)s)")
    return made


if __name__ == "__main__":
    sys.exit(main())
