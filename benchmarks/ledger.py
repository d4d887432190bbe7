"""Measure a ledger of ten million forecasts on a real Postgres.

    python -m benchmarks.ledger                     2,000 tickers, 1,000 sessions, 5 ahead
    python -m benchmarks.ledger --sessions 100      a tenth of it

Prints Markdown to stdout and progress to stderr. Nights are stored in turn into an empty database
and into the large one, so that a busy machine affects both. The commands run as processes and are
timed from start to end. Scores are timed with closes in memory, as after a night's fetch.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from datetime import datetime, timedelta
from functools import partial
from statistics import median

import numpy as np
import pandas as pd
import psycopg2  # type: ignore[import-untyped]

from benchmarks._support import cpu, postgres, say, table, timed
from tradingbot.evaluation.scoring import score
from tradingbot.forecast import QUANTILE_LEVELS, Forecast, ForecastBar
from tradingbot.persistence.engine import get_db_session, init_db
from tradingbot.persistence.forecasts import store_forecasts

TICKERS, STEPS, ROUNDS = 2000, 5, 5
NOW = datetime(2026, 11, 27)
OLDEST = NOW - timedelta(days=3000)  # the oldest close
FILL = """
    INSERT INTO kronos_forecasts
      (symbol, interval, model_name, model_revision, as_of, target_date, bars_hash,
       prediction_made_at, horizon_days, last_close, predicted_open, predicted_high, predicted_low,
       predicted_close, predicted_volume, close_quantiles, prob_up, samples)
    SELECT 'T' || ticker, '1d', 'NeoQuasar/Kronos-mini', 'f4e6869', day, day + step * interval '1 day',
      'a1b2c3d4e5f6', day, step, 100.123, 100.123, 101.123, 99.123,
      99.623 + (ticker * 7 + session) %% 11 * 0.1, 1e6, (%(quantiles)s)[1 + (ticker + session) %% 20]::jsonb,
      0.55, 50
    FROM generate_series(%(first)s, %(last)s) session,
      LATERAL (SELECT timestamp '2026-11-20' - session * interval '1 day') days(day),
      generate_series(1, %(tickers)s) ticker, generate_series(1, %(steps)s) step
"""  # noqa: E501 (SQL)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sessions", type=int, default=1000, help="that forecasts were made on")
    sessions = parser.parse_args().sessions
    with postgres() as new_database:
        empty, large = new_database(), new_database()
        for url in (empty, large):
            init_db(url)
        say(f"{TICKERS * STEPS * sessions:,} forecasts into Postgres")
        filled = timed(lambda: fill(large, sessions))
        say("storing in turn")
        rates = store_in_turn(empty, large)
        say("scoring")
        whole = scored(large, until=NOW - timedelta(days=3), resume=False)
        nightly = scored(large, until=NOW - timedelta(days=2), resume=True)
        rows = [
            ["rows in the ledger", f"{count(large):,}"],
            ["size, index included", size(large)],
            ["filled in", f"{filled:.0f} s"],
            ["one night stored, 10,000 bars: empty", f"{median(rates[0]):.2f} s"],
            ["the same: large", f"{median(rates[1]):.2f} s"],
            ["rate, of the empty one's", f"{median(ratios(rates)):.0%}"],
            ["`kronosbot status`", f"{command(large, 'status'):.1f} s"],
            ["all of it scored (`kronosbot score`)", f"{whole:.0f} s"],
            ["scored at the end of a night", f"{nightly:.1f} s"],
            ["`kronosbot partition`", f"{command(large, 'partition'):.1f} s"],
        ]
        after = store_in_turn(empty, large, first=ROUNDS)
        rows += [
            ["partitioned: rate, of the empty one's", f"{median(ratios(after)):.0%}"],
            ["partitioned: `kronosbot status`", f"{command(large, 'status'):.1f} s"],
        ]
    print(f"{cpu()}, {len(os.sched_getaffinity(0))} cores. {TICKERS} tickers, {STEPS} ahead.\n")
    print(table(["what", "measured"], rows))


def fill(url: str, sessions: int) -> None:
    quantiles = [_quantiles(0.05 * number) for number in range(1, 21)]
    connection = psycopg2.connect(url)
    connection.autocommit = True
    with connection.cursor() as cursor:
        for first in range(1, sessions + 1, 20):
            batch = {"first": first, "last": min(first + 19, sessions)}
            shape = {"tickers": TICKERS, "steps": STEPS, "quantiles": quantiles}
            cursor.execute(FILL, {**batch, **shape})
        cursor.execute("VACUUM ANALYZE kronos_forecasts")
    connection.close()


def _quantiles(width: float) -> str:
    """Return bands of this width at all levels as JSON, with as many digits as a model's."""
    prices = {
        f"{level:g}": 100.12345678901 + width * 10 * (level - 0.5) for level in QUANTILE_LEVELS
    }
    return json.dumps(prices)


def scored(url: str, *, until: datetime, resume: bool) -> float:
    """Return the seconds for scoring all tickers with closes up to this day."""
    days = pd.date_range(OLDEST, until)
    known = {
        f"T{number}": pd.Series(
            100 * np.exp(np.cumsum(np.random.default_rng(number).normal(0, 0.012, len(days)))),
            index=days,
        )
        for number in range(1, TICKERS + 1)
    }

    def closes(symbol: str, interval: str, since: datetime) -> pd.Series:  # noqa: ARG001
        return known[symbol].loc[since:]

    return timed(lambda: score(partial(get_db_session, url), closes, resume=resume))


def store_in_turn(empty: str, large: str, *, first: int = 0) -> tuple[list[float], list[float]]:
    """Store nights into both databases in turn. Return the seconds of each."""
    seconds: tuple[list[float], list[float]] = ([], [])
    for number in range(first, first + ROUNDS):
        night = forecasts(NOW + timedelta(days=number))
        for url, taken in zip((empty, large), seconds, strict=True):
            taken.append(timed(partial(store, url, night)))
    return seconds


def ratios(seconds: tuple[list[float], list[float]]) -> list[float]:
    return [a / b for a, b in zip(*seconds, strict=True)]


def store(url: str, night: list[Forecast]) -> None:
    with get_db_session(url) as session:
        store_forecasts(session, night)


def forecasts(as_of: datetime) -> list[Forecast]:
    """Return one forecast per ticker."""
    bars = tuple(
        ForecastBar(
            step=step,
            target_date=as_of + timedelta(days=step),
            open=100.1, high=101.1, low=99.1, close=100.1, volume=1e6,
            close_quantiles={level: 100 + level for level in QUANTILE_LEVELS},
            prob_up=0.55,
        )
        for step in range(1, STEPS + 1)
    )  # fmt: skip
    return [
        Forecast(
            symbol=f"T{number}", interval="1d", model_name="NeoQuasar/Kronos-mini",
            model_revision="f4e6869", as_of=as_of, made_at=as_of, last_close=100.0, samples=50,
            seed=None, bars=bars, bars_hash="a1b2c3d4e5f6",
        )
        for number in range(1, TICKERS + 1)
    ]  # fmt: skip


def command(url: str, name: str) -> float:
    """Return the seconds of a command, from start to end."""
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "tradingbot.kronosbot", name, "--database-url", url],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    # 1: forecasts of synthetic tickers are old
    if "Traceback" in done.stderr or done.returncode > 1:
        raise SystemExit(done.stderr)
    return time.monotonic() - began


def count(url: str) -> int:
    return int(str(_ask(url, "SELECT count(*) FROM kronos_forecasts")))


def size(url: str) -> str:
    return str(_ask(url, "SELECT pg_size_pretty(pg_total_relation_size('kronos_forecasts'))"))


def _ask(url: str, query: str) -> object:
    connection = psycopg2.connect(url)
    with connection, connection.cursor() as cursor:
        cursor.execute(query)
        [[answer]] = cursor.fetchall()
    connection.close()
    return answer


if __name__ == "__main__":
    main()
