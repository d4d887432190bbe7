"""Read the history of the job's runs from run_logs."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal

from sqlalchemy import select
from sqlalchemy.orm import Session

from tradingbot.persistence.models import RunLog
from tradingbot.runtime.lock_interface import Lock
from tradingbot.settings import MAX_SHARDS

JOB = "kronosbot"  # value of run_logs.name for runs of the job
KILLED = "killed"  # status of an unfinished run after a later one has started
LAST_RUNS = 10
# an unfinished run counts as killed after this time, if its lock is unknown
LONGEST_RUN = timedelta(hours=6)


@dataclass(frozen=True)
class Run:
    """One row of run_logs. Times are naive UTC."""

    state: Literal["ok", "failed", "running", "killed"]
    started_at: datetime
    seconds: float | None  # None: unfinished
    exit_code: int | None
    counts: dict[str, int]
    model: str | None
    source: str | None
    shard: str  # the run's share of the tickers: "0/4" is the first of four, "0/1" all tickers
    message: str | None
    # median relative error of the last closes as reconstructed by the model's tokenizer
    reconstruction_error: float | None = None
    durations: dict[str, float] = field(default_factory=dict)  # seconds by phase
    # type of the error that ended the run; also None in rows of an older version
    error: str | None = None


def last_source(session: Session) -> str | None:
    """Return the source of candles of the newest run that had one, or None."""
    newest = (
        select(RunLog.details)
        .where(RunLog.name == JOB)
        .order_by(RunLog.started_at.desc(), RunLog.id.desc())
        .limit(LAST_RUNS)
    )
    sources = (details.get("source") for details in session.scalars(newest))
    return next(filter(None, sources), None)


def is_unfinished(session: Session, shard: str) -> bool:
    """Return whether the newest run of the shard is unfinished. That run may have been killed."""
    newest = select(RunLog).where(RunLog.name == JOB).order_by(RunLog.id.desc())
    of_shard = (
        row for row in session.scalars(newest.limit(MAX_SHARDS)) if shard_of(row.details) == shard
    )
    last = next(of_shard, None)
    return last is not None and last.finished_at is None


def last_runs(session: Session, now: datetime, lock: Callable[[str], Lock]) -> list[Run]:
    """Return the last runs of the job, newest first. `lock` returns the lock of a shard."""
    newest = (
        select(RunLog)
        .where(RunLog.name == JOB)
        .order_by(RunLog.started_at.desc(), RunLog.id.desc())
    )
    last = session.scalars(newest.limit(1)).one_or_none()
    a_night = _parts(shard_of(last.details)) if last else 0
    runs: list[Run] = []
    for row in session.scalars(newest.limit(max(LAST_RUNS, 2 * a_night))):
        shard = shard_of(row.details)
        ended = row.finished_at is not None
        may_end = not ended and row.status != KILLED
        alive = may_end and _is_alive(shard, now - row.started_at, runs, lock)
        runs.append(
            Run(
                state=_ended_as(row.exit_code) if ended else "running" if alive else "killed",
                started_at=row.started_at,
                seconds=(row.finished_at - row.started_at).total_seconds()
                if row.finished_at
                else None,
                exit_code=row.exit_code,
                counts=row.counts,
                model=row.details.get("model"),
                source=row.details.get("source"),
                shard=shard,
                message=row.message,
                reconstruction_error=row.details.get("reconstruction_error"),
                durations=row.durations,
                error=row.details.get("error"),
            )
        )
    return runs


def newest_by_shard(runs: list[Run], *, running: bool = False) -> dict[str, Run]:
    """Return the newest run of each shard.

    If the number of shards has changed, only runs with the newest number count.

    Args:
        runs: The runs, newest first.
        running: Whether runs that are still running count.
    """
    last: dict[str, Run] = {}
    for run in runs:
        # runs with another number of shards do not count
        if (running or run.state != "running") and _parts(run.shard) == _parts(runs[0].shard):
            last.setdefault(run.shard, run)
    return last


def bad_runs(runs: list[Run]) -> list[str]:
    """Describe the problem of each shard's newest run that is not still running."""
    if not runs:
        return ["the job has never run on this database"]
    return [problem for run in newest_by_shard(runs).values() if (problem := _bad_run(run))]


def _is_alive(shard: str, age: timedelta, later: list[Run], lock: Callable[[str], Lock]) -> bool:
    """Return whether an unfinished run is still working."""
    if any(run.shard == shard for run in later):  # one run per shard at a time
        return False
    with lock(shard) as held:
        is_held = held.is_held()
    return age < LONGEST_RUN if is_held is None else is_held


def shard_of(details: Mapping[str, Any]) -> str:
    """Return the shard of a run, "0/1" for all tickers."""
    return str(details.get("shard", "0/1"))


def _parts(shard: str) -> int:
    """Return the number of shards: 0/4 -> 4."""
    return int(shard.partition("/")[2])


def _ended_as(exit_code: int | None) -> Literal["ok", "failed"]:
    return "failed" if exit_code else "ok"


def _bad_run(run: Run) -> str | None:
    subject = f"the last run{'' if run.shard == '0/1' else f' of shard {run.shard}'}"
    when = f"{run.started_at:%Y-%m-%d %H:%M}"
    if run.state == "killed":
        return f"{subject}, of {when}, never finished: was it killed?"
    if run.state == "failed":
        return f"{subject}, of {when}, ended with {run.exit_code}: {run.message}"
    return None
