"""The nightly job: its parts brought together, run in order, and what is told at the end."""

import os
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack, closing
from functools import partial
from typing import TYPE_CHECKING

from tenacity import RetryCallState, retry_if_result

from tradingbot.bots.universe import active_tickers
from tradingbot.cli.run_output import query_command
from tradingbot.data.sources.registry import lasting
from tradingbot.errors import ConfigError, HubRefused, KronosError
from tradingbot.jobs.sharding import Shard
from tradingbot.jobs.steps import (
    INTERVAL,
    calibration,
    fetch,
    known_closes,
    score_matured,
    store,
    take_stored,
)
from tradingbot.jobs.summary import RunSummary
from tradingbot.persistence.transactions import retried
from tradingbot.runtime.locking import Lock
from tradingbot.runtime.progress import ProgressReporter
from tradingbot.runtime.retry import retry
from tradingbot.runtime.signals import Stopped, signals_held
from tradingbot.settings import Settings, Timeouts
from tradingbot.space.connect import check_space_is_known, open_space
from tradingbot.space.wire import prepared
from tradingbot.typing import SessionFactory

if TYPE_CHECKING:
    from tradingbot.data.service import DataService
    from tradingbot.postprocessing.bands import Calibration
    from tradingbot.space.client import SpaceClient


def nightly(
    settings: Settings,
    report: RunSummary,
    narrator: ProgressReporter,
    *,
    local: bool,
    tickers: tuple[str, ...],
    url: str | None,
    force: bool,
    shard: Shard,
) -> int:
    """Bring the parts together and run the job; the exit code. `report` tells the rest.

    One run at a time for each database and shard: another one does nothing, and that is a success.
    """
    from tradingbot.data.service import DataService
    from tradingbot.persistence.engine import get_db_session, get_engine, init_db
    from tradingbot.persistence.locks import locked, open_lock
    from tradingbot.persistence.url import database_exists, database_url, redact
    from tradingbot.runtime.locking import NoLock

    check_space_is_known(settings, local=local)
    dry_run = report.dry_run
    variable = None if url else _psql_variable(os.environ)
    url = url or database_url()
    get_engine(url)  # a dry run too refuses an address that cannot be read
    report.database, report.query = redact(url), query_command(url, variable)
    sessions = partial(get_db_session, url)
    data = DataService(
        settings.data_source, horizon=settings.horizon, sessions=None if dry_run else sessions
    )
    at_start = partial(
        retried, patience=settings.timeouts.database_retry_briefly, timeouts=settings.timeouts
    )
    if not dry_run:
        at_start(partial(init_db, url))  # before the Space is woken for nothing
    reading = partial(get_db_session, url, create=not dry_run)  # a dry run upgrades no schema
    there = not dry_run or database_exists(url)
    active = list(tickers) or at_start(
        partial(active_tickers, settings, data, reading if there else None)
    )
    report.source = lasting(settings.data_source)
    report.shard = str(shard)
    report.symbols = [symbol for symbol in active if shard.takes(symbol)]
    if not active:
        raise ConfigError(
            f"there are no tickers to forecast from {settings.data_source}: give --symbols, "
            "or KRONOS_EXTRA_SYMBOLS"
        )
    if not report.symbols:
        report.message = f"Nothing to do: shard {shard} has none of the {len(active)} tickers"
        return 0
    lock_of = partial(open_lock, url, who=f"kronosbot {shard}")
    with (
        lock_of(f"run {shard}") if not dry_run else NoLock() as lock,
        lock_of(f"Space {settings.hf_space_repo}") if there else NoLock() as space_lock,
    ):
        if not await_lock(lock, narrator, settings.timeouts):
            report.message = f"Nothing to do: another run is at work, {at_start(lock.held_by)}"
            return 0
        return _recorded(
            settings,
            report,
            narrator,
            space=partial(open_space, settings, local=local, narrator=narrator, lock=space_lock),
            data=data,
            sessions=None if dry_run else sessions,
            locked=partial(locked, sessions, lock, space_lock),
            force=force,
            url=url,
        )


def await_lock(lock: Lock, narrator: ProgressReporter, timeouts: Timeouts) -> bool:
    """Take the run's lock; False if another run keeps it for `timeouts.run_lock` seconds.

    After a run was killed the server still shows its lock for a moment, and the pod that replaces
    it comes at once: it must not leave the Space running because of a run that is no more.
    """
    deadline = time.monotonic() + timeouts.run_lock
    at_start = partial(retried, patience=timeouts.database_retry_briefly, timeouts=timeouts)

    def left() -> float:
        return deadline - time.monotonic()

    def tell_once(state: RetryCallState) -> None:
        if state.attempt_number == 1:
            limit, holder = timeouts.run_lock, at_start(lock.held_by)
            narrator.say(f"Waiting up to {limit:.0f} s for another run to end: {holder}")

    return retry(
        partial(at_start, lock.try_exclusive),
        again=retry_if_result(lambda taken: not taken),
        wait=lambda _: max(min(timeouts.run_lock_poll, left()), 0.0),
        stop=lambda _: left() <= 0,
        before_sleep=tell_once,
    )


def _recorded(
    settings: Settings,
    report: RunSummary,
    narrator: ProgressReporter,
    *,
    space: "Callable[..., AbstractContextManager[SpaceClient]]",
    data: "DataService",
    sessions: SessionFactory | None,
    locked: SessionFactory,
    force: bool,
    url: str,
) -> int:
    """Run the job, then score what has matured; what came of it goes into run_logs in any case."""
    from tradingbot.persistence.runs import RunRecord

    log = RunRecord.begin(sessions, report) if sessions is not None else None
    code = 1
    try:
        run_job(
            settings,
            report,
            space=partial(space, diary=log),
            data=data,
            sessions=locked if sessions is not None else None,
            narrator=narrator,
            force=force,
        )
        code = 0 if report.succeeded(settings.min_success) else 1
        if code:
            report.message = (
                f"{len(report.made | report.there)} of {len(report.symbols)} tickers have a "
                f"forecast, KRONOS_MIN_SUCCESS asks for {settings.min_success:.0%}"
            )
        if sessions is not None:
            score_matured(settings, report, narrator, data=data, sessions=sessions, url=url)
    except BaseException as error:
        report.message = str(error)
        code = exit_code(error)
        raise
    finally:
        with signals_held():
            narrator.end()
            if log is not None:  # first: nobody may be there to be shown anything
                log.end(report, code, report.message)
            report.actual = known_closes(data, report.forecasts.values())
    return code


def run_job(
    settings: Settings,
    report: RunSummary,
    *,
    space: "Callable[[], AbstractContextManager[SpaceClient]]",
    data: "DataService",
    sessions: SessionFactory | None,
    narrator: ProgressReporter,
    force: bool = False,
) -> None:
    """Forecast `report.symbols` and write down in `report` what became of each.

    `space` hands over a client of a Space that is up and puts the Space to rest on the way out;
    without `sessions` nothing is stored. One ticker's failure is noted; whatever concerns them
    all (Hub, Space, database) is raised as KronosError, and what was stored stays.
    """
    with ExitStack() as stack:
        with report.phase("wake"):
            client = stack.enter_context(space())
            report.model = str(client.health()["model"])
            client.check_key()  # before candles are fetched for nothing
        with report.phase("fetch"):
            histories = fetch(settings, report, data, narrator)
        missing = histories
        if sessions is not None and not force:
            with report.phase("store"):
                missing = take_stored(settings, report, histories, sessions)
        if missing:
            narrator.step("forecast", f"Forecasting with {report.model}", total=len(missing))
        remarks: dict[str, list[str]] = {}  # what the Space said about some tickers
        requests = prepared(
            missing,
            missing.__getitem__,
            settings.horizon,
            interval=INTERVAL,
            samples=settings.samples,
        )
        batches = client.forecast_batches(requests)
        stack.enter_context(closing(batches))  # so that nothing more is sent when storing fails
        known: Calibration | None = None
        fitted = False
        while True:
            with report.phase("forecast"):
                batch = next(batches, None)
            if batch is None:
                break
            forecasts = []
            for symbol, answer in batch:
                if isinstance(answer, KronosError):
                    report.fail(symbol, answer)
                else:
                    forecasts.append(answer)
                    for remark in answer.warnings:
                        remarks.setdefault(remark, []).append(symbol)
            with report.phase("store"):  # while the Space computes the next batch
                if forecasts and sessions is not None and not fitted:
                    known, fitted = calibration(forecasts[0], histories, sessions, narrator), True
                if known is not None:
                    forecasts = [known.apply(forecast) for forecast in forecasts]
                store(report, forecasts, sessions)
            for _ in batch:
                narrator.advance()
        for remark, symbols in remarks.items():
            narrator.say(f"{', '.join(symbols)}: {remark}")
        narrator.step("pause", "Leaving the Space")
        with report.phase("pause"):
            stack.close()


def exit_code(error: BaseException) -> int:
    """What the command ends with after `error`."""
    if isinstance(error, Stopped):
        return error.exit_code
    return 2 if isinstance(error, ConfigError | HubRefused) else 1


def _psql_variable(environ: Mapping[str, str]) -> str | None:
    """The variable that holds the database's address as psql too reads it."""
    for name in ("DATABASE_URL", "POSTGRES_URI"):
        if given := environ.get(name, "").strip():
            return name if given.startswith(("postgres://", "postgresql://")) else None
    return None
