"""Run the nightly job as a process and read its results from the database."""

import os
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import select

from tests.support import commands
from tests.support.hub import REPO, TOKEN, Hub
from tradingbot.persistence.engine import get_db_session
from tradingbot.persistence.models import KronosPrediction, RunLog

KRONOSBOT = "tradingbot.kronosbot"
NANO = {"KRONOS_MODEL": "kronos-nano", "KRONOS_THREADS": "1"}


@dataclass
class Done:
    code: int
    out: str  # stdout: the report
    err: str  # stderr: the progress


def job_command(*arguments: str) -> list[str]:
    """Return the Python arguments that start the job."""
    return ["-m", KRONOSBOT, *arguments]


def job(
    *arguments: str, folder: Path, timeout: float = 120, quick: bool = False, **environ: str
) -> Done:
    """Run the job until it ends; `quick` shortens its time-outs to tenths of seconds."""
    module, command = ("tests.support.quick_job", ["run"]) if quick else (KRONOSBOT, [])
    done = commands.run(
        module, *command, *arguments, cwd=folder, env={**os.environ, **environ}, timeout=timeout
    )
    assert "Traceback" not in done.stderr, done.stderr
    return Done(done.returncode, done.stdout, done.stderr)


def rows(url: str) -> list[KronosPrediction]:
    with get_db_session(url) as session:
        order = KronosPrediction.symbol, KronosPrediction.target_date
        return list(session.scalars(select(KronosPrediction).order_by(*order)))


def runs(url: str) -> list[RunLog]:
    with get_db_session(url) as session:
        return list(session.scalars(select(RunLog).order_by(RunLog.id)))


def of_hub(hub: Hub, database: str) -> dict[str, str]:
    return {
        "HF_ENDPOINT": hub.url,
        "HF_TOKEN": TOKEN,
        "HF_SPACE_REPO": REPO,
        "KRONOS_SPACE_URL": hub.space_url,
        "DATABASE_URL": database,
        "KRONOS_WAKE_TIMEOUT": "60",
    }
