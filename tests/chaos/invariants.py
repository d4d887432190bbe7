"""Invariants that must hold after every chaos schedule."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tests.chaos.faults import Fault
from tests.chaos.world import HORIZON, LAST_FRIDAY, SECRETS, TICKERS, Run, World
from tests.support.hub import REPO
from tests.support.postgres import Postgres
from tradingbot.markets.calendars import next_sessions

NAMES = {
    "fired": "each fault is seen to fire",
    "rows": "no row is lost: none that was reported, no half forecast, none after one more run",
    "twice": "no row is there twice, and the ledger's first vintage stays",
    "running": "no Space runs unreported",
    "exit": "the exit code says what happened",
    "survived": "what may pass is survived: everything is stored",
    "told": "report and run_logs tell the truth",
    "output": "no stack trace, no secret",
    "left": "no process is left behind, and the end comes in time",
}
MIN_SUCCESS = 0.5  # default of KRONOS_MIN_SUCCESS
KEYS = {
    "kronos_predictions": ("symbol", "interval", "target_date", "model_name"),
    "kronos_forecasts": ("symbol", "interval", "target_date", "model_name", "as_of"),
    "kronos_events": ("symbol", "interval", "target_date", "model_name", "as_of", "event"),
}
MAY_LACK = (  # tables that may be empty: there is no record yet to calibrate or combine with
    "calibrated_quantiles",
    "combined_quantiles",
    "shares",
)
LOUD = "THE SPACE MAY STILL BE RUNNING"
IDLE = "Nothing to do: another run is at work"


@dataclass(frozen=True)
class Violation:
    """A violated invariant."""

    name: str  # one of NAMES
    says: str


class Tables:
    """The content of the database at one moment."""

    def __init__(self, postgres: Postgres, database: str) -> None:
        self.rows = {table: _rows(postgres, database, table) for table in KEYS}
        ledger = self.rows["kronos_forecasts"]
        self.rows["kronos_forecasts"] = [row for row in ledger if not row["challenger"]]
        self.of_challengers = [row for row in ledger if row["challenger"]]
        self.runs = sorted(_rows(postgres, database, "run_logs"), key=lambda row: row["id"])

    def complete(self) -> set[str]:
        """Return the tickers whose forecast is complete in all tables."""
        return {ticker for ticker in TICKERS if not self.missing(ticker)}

    def missing(self, ticker: str) -> list[str]:
        """Return the ticker's days that a table lacks."""
        days = {f"{day:%Y-%m-%d}" for day in next_sessions(ticker, LAST_FRIDAY, HORIZON)}
        return sorted(
            f"{table} {day}"
            for table in KEYS
            for day in days - {row["target_date"][:10] for row in self.of(ticker, table)}
        )

    def made_by(self, challenger: str, ticker: str) -> list[int]:
        """Return the steps of a challenger's forecasts of the ticker, in order."""
        rows = self.of_challengers
        mine = [row for row in rows if (row["model_name"], row["symbol"]) == (challenger, ticker)]
        return sorted(row["horizon_days"] for row in mine)

    def of(self, ticker: str, table: str) -> list[dict[str, Any]]:
        """Return the ticker's rows in the order of their steps."""
        rows = [row for row in self.rows[table] if row["symbol"] == ticker]
        return sorted(rows, key=lambda row: row["horizon_days"])


def _rows(postgres: Postgres, database: str, table: str) -> list[dict[str, Any]]:
    [(there,)] = postgres.execute(f"SELECT to_regclass('{table}') IS NOT NULL", database=database)
    if not there:
        return []
    found = postgres.execute(f"SELECT row_to_json(t) FROM {table} t", database=database)
    return [row for (row,) in found]


class Evidence:
    """Externally visible facts about the runs with faults."""

    def __init__(self, world: World, faults: list[Fault]) -> None:
        self.runs = world.runs[:]
        self.faults = faults
        self.calls = world.hub.calls[:]
        self.space_calls = world.hub.space_calls[:]
        self.spaces = list(world.hub.spaces)
        self.running = [repo for repo, space in world.hub.spaces.items() if space.running]

    @property
    def refused(self) -> bool:
        """Whether the Hub refused the token or the name before a Space was up."""
        for action, status in self.calls:
            if action == "pause":
                return False
            if action in ("restart", "runtime") and status in (401, 403, 404):
                return True
        return False

    @property
    def woken(self) -> bool:
        return any(a in ("metrics", "batch") and status == 200 for a, status in self.space_calls)

    @property
    def good(self) -> set[str]:
        """Tickers with usable candles."""
        return set(TICKERS) - {ticker for fault in self.faults for ticker in fault.bad_tickers}

    @property
    def passes(self) -> bool:
        """Whether the job can survive the faults: none ends it, or shortens its time to wake the
        Space.
        """
        return all(fault.passes for fault in self.faults if fault.fired or fault.hurries)

    @property
    def spares(self) -> bool:
        """Whether no fault can cost a forecast of the champion."""
        relevant = [fault for fault in self.faults if fault.fired or fault.hurries]
        return all(fault.passes or fault.spares for fault in relevant)

    def fired(self, kind: str) -> bool:
        return any(fault.kind == kind and fault.fired for fault in self.faults)


def check_disturbed(seen: Evidence, before: Tables, after: Tables) -> list[Violation]:
    """Check the run, or runs, with faults."""
    broken = [
        Violation("fired", f"{fault.says}: never came to it")
        for fault in seen.faults
        if not fault.fired
    ]
    broken += _check_tables(before, after)
    for run in seen.runs:
        broken += _check_process(run)
        if run.in_time:
            broken += _check_report(run, after)
            expected = _expected_codes(run, seen, stored=after.complete())
            if run.code not in expected:
                broken.append(Violation("exit", f"{run.name}: {run.code}, expected {expected}"))
    broken += _check_space(seen)
    broken += _check_log(seen.runs, before, after)
    if seen.spares and (lacks := seen.good - after.complete()):
        broken.append(Violation("survived", f"no forecast of {', '.join(sorted(lacks))}"))
    if seen.passes and any(LOUD in run.err for run in seen.runs):
        broken.append(Violation("survived", "says that the Space may still be running"))
    return broken


def check_further(world: World, seen: Evidence, before: Tables, after: Tables) -> list[Violation]:
    """Check the next run, without faults: it does exactly what is missing."""
    run = world.runs[-1]
    broken = [*_check_tables(before, after), *_check_process(run)]
    if not run.in_time:
        return broken
    if lacks := seen.good - after.complete():
        broken.append(
            Violation("rows", f"after one more run there is no {', '.join(sorted(lacks))}")
        )
    expected = 0 if len(seen.good) >= MIN_SUCCESS * len(TICKERS) else 1
    if run.code != expected:
        broken.append(Violation("exit", f"{run.name}: {run.code}, expected {expected}"))
    there = set() if run.forced else before.complete()
    wanted = {
        **dict.fromkeys(seen.good, "stored"),
        **dict.fromkeys(there, "already_there"),
        **dict.fromkeys(set(TICKERS) - seen.good, "failed"),
    }
    tickers = run.report.get("tickers", {})
    told = {symbol: outcome["status"] for symbol, outcome in tickers.items()}
    if told != wanted:
        broken.append(Violation("told", f"{run.name} tells {told}, expected {wanted}"))
    if LOUD in run.err or any(space.running for space in world.hub.spaces.values()):
        broken.append(Violation("running", f"after {run.name}"))
    broken += _check_challengers(world, seen, run, after)
    return [*broken, *_check_report(run, after), *_check_log([run], before, after)]


def _check_challengers(
    world: World, seen: Evidence, run: Run, after: Tables
) -> Iterator[Violation]:
    """Check that after one more run every challenger has a forecast of each usable ticker."""
    steps = list(range(1, HORIZON + 1))
    for name in world.lineup:
        if lacks := [t for t in sorted(seen.good) if after.made_by(name, t) != steps]:
            yield Violation("rows", f"{name} lacks {', '.join(lacks)} after {run.name}")
    for told in run.report.get("challengers", []):
        if told["failure"] or told["stored"] + told["already_there"] != len(seen.good):
            yield Violation("told", f"{run.name} tells {told}")


def _check_tables(before: Tables, after: Tables) -> Iterator[Violation]:
    """Check that forecasts are complete, finite and unique, and no ledger row is lost."""
    for ticker in TICKERS:
        missing = after.missing(ticker)
        if 0 < len(missing) < len(KEYS) * HORIZON:
            yield Violation("rows", f"{ticker} lacks {', '.join(missing)}")
        for table in KEYS:
            steps = [row["horizon_days"] for row in after.of(ticker, table)]
            if steps != list(range(1, HORIZON + 1))[: len(steps)]:
                yield Violation("twice", f"{ticker} in {table} has steps {steps}")
    for table, rows in after.rows.items():
        for row in rows:
            if odd := [name for name, value in row.items() if not _sound(name, value)]:
                yield Violation("rows", f"{row['symbol']} in {table}: {', '.join(odd)}")
    yield from _check_ledger(before, after)


def _check_ledger(before: Tables, after: Tables) -> Iterator[Violation]:
    """Check the challengers' forecasts too, and that earlier rows are still there."""
    for row in after.of_challengers:
        if odd := [name for name, value in row.items() if not _sound(name, value)]:
            yield Violation("rows", f"{row['model_name']}, {row['symbol']}: {', '.join(odd)}")
        steps = after.made_by(row["model_name"], row["symbol"])
        if steps != list(range(1, HORIZON + 1)):
            yield Violation("rows", f"{row['model_name']} has steps {steps} of {row['symbol']}")
    key = KEYS["kronos_forecasts"]
    ledger = [*after.rows["kronos_forecasts"], *after.of_challengers]
    now = {tuple(row[name] for name in key): row for row in ledger}
    for row in [*before.rows["kronos_forecasts"], *before.of_challengers]:
        if now.get(tuple(row[name] for name in key)) != row:
            yield Violation(
                "twice", f"the ledger's {row['symbol']} {row['target_date']} was changed"
            )


def _sound(name: str, value: Any) -> bool:
    if name.startswith(("predicted_", "close_p", "last_close", "prob_")):
        return isinstance(value, int | float) and math.isfinite(value)
    return value is not None or name in MAY_LACK


def _check_process(run: Run) -> Iterator[Violation]:
    text = run.out + run.err
    for trace in ("Traceback", "Exception ignored", "Fatal Python error", "a bug in kronosbot"):
        if trace in text:
            yield Violation("output", f"{run.name} prints {trace!r}")
    if any(secret in text for secret in SECRETS):
        yield Violation("output", f"{run.name} prints a secret")
    for what in run.leftovers():
        yield Violation("left", f"{run.name} leaves {what!r}")
    if not run.in_time:
        yield Violation("left", f"{run.name} did not end within {run.ended - run.began:.0f} s")


def _check_report(run: Run, after: Tables) -> Iterator[Violation]:
    """Check that the forecasts reported as stored or found are in the database."""
    report = run.report
    if not report:
        if not run.signals:
            yield Violation("told", f"{run.name} prints no report")
        return
    if report["exit_code"] != run.code and not run.signals:
        yield Violation("told", f"{run.name} ends with {run.code}, tells {report['exit_code']}")
    for symbol, outcome in report.get("tickers", {}).items():
        if outcome["status"] in ("stored", "already_there"):
            told = [(bar["step"], bar["target_date"][:10], bar["close"]) for bar in outcome["bars"]]
            stored = [
                (row["horizon_days"], row["target_date"][:10], row["predicted_close"])
                for row in after.of(symbol, "kronos_predictions")
            ]
            if told != stored:
                yield Violation("rows", f"{run.name}, {symbol}: told {told}, stored {stored}")


def _cries(run: Run, repo: str, *, at_last: bool = False) -> bool:
    """Return whether the run warns that this Space may be running; `at_last`: and ends so."""
    names = (repo, "the settings of the Space") if repo == REPO else (repo,)
    lines = [line for line in run.err.splitlines() if any(name in line for name in names)]
    cries = [LOUD in line for line in lines if LOUD in line or line.endswith(("paused", "now"))]
    return bool(cries) and cries[-1] if at_last else any(cries)


def _check_space(seen: Evidence) -> Iterator[Violation]:
    """Check that no Space runs after the last run, unless that run was killed or warns."""
    last = max(seen.runs, key=lambda run: run.ended)
    for repo in seen.running:
        told = any(run.code != 0 and _cries(run, repo) for run in seen.runs)
        if not last.killed and not told:
            yield Violation("running", f"{repo} after {last.name}, exit code {last.code}")
    doubtful = ("pause", "verify", "runtime")  # the Hub may not know its own state
    moments = {fault.moment.removeprefix("other ") for fault in seen.faults}
    loud = [run for run in seen.runs if LOUD in run.err]
    if loud and not seen.running and not moments.intersection(doubtful):
        yield Violation(
            "running", f"{loud[0].name} cries that it may run, though nothing was wrong"
        )


def _check_log(runs: list[Run], before: Tables, after: Tables) -> Iterator[Violation]:
    """Check that every run has a finished row with its exit code, or reports that it lacks one."""
    rows = after.runs[len(before.runs) :]
    at_work = [run for run in runs if IDLE not in run.err]
    if len(rows) > len(at_work):
        yield Violation("told", f"{len(rows)} rows in run_logs for {len(at_work)} runs")
    if any(run.signals or not run.in_time for run in at_work):
        return  # it may have been ended before its row existed or after the row was finished
    finished = sorted(row["exit_code"] for row in rows if row["finished_at"])
    # a row may exist although its commit was not answered and the run could not begin
    begun = [run for run in at_work if "Waking" in run.err]
    silent = [run for run in begun if "run_logs lacks the end" not in run.err]
    if len(rows) == len(at_work) and finished != sorted(run.code for run in silent):
        yield Violation(
            "told", f"run_logs has exit codes {finished} of {len(silent)} finished runs"
        )
    if len(rows) < len(at_work) and not any(run.code for run in at_work):
        yield Violation("told", f"{len(rows)} rows in run_logs for {len(at_work)} runs")


def _sure_code(run: Run, seen: Evidence) -> int | None:
    """Return the exit code if it does not depend on the number of stored forecasts."""
    if run.signals:
        return 128 + run.signals[0]
    if run.ends_with is not None:
        return run.ends_with or int(LOUD in run.err)
    if seen.fired("pgbouncer of transactions"):
        return 2
    return 0 if IDLE in run.err else None


def _expected_codes(run: Run, seen: Evidence, *, stored: set[str]) -> set[int]:
    """Return the exit codes that the specification allows for the visible facts."""
    if (sure := _sure_code(run, seen)) is not None:
        return {sure}
    enough = len(stored & run.tickers) >= MIN_SUCCESS * len(run.tickers)
    if len(seen.runs) > 1 and not enough:
        return {1, 2}
    if len(seen.runs) > 1 and (seen.refused or seen.fired("database stays gone")):
        return {0, 1, 2}  # one of them met the fault; which one is not visible
    if len(seen.runs) > 1 and not seen.passes:
        # as above: one may have failed and ended before the other began and did all the work
        return {0, 1}
    if seen.refused:
        return {2}
    unsure = [repo for repo in seen.spaces if _cries(run, repo, at_last=repo != REPO)]
    if unsure or not seen.woken:
        return {1}
    if seen.fired("database stays gone"):
        return {0, 1} if seen.good <= stored else {1}
    return {0} if enough else {1}
