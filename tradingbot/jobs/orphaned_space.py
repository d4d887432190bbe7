"""Pause Spaces that another run left running and that this run has not woken itself."""

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Literal, NoReturn

from tradingbot.environment import environment
from tradingbot.errors import ConfigError, DatabaseError
from tradingbot.jobs.database import JobDatabase
from tradingbot.jobs.sharding import WHOLE, Shard
from tradingbot.runtime.locking import NoLock
from tradingbot.runtime.progress import ProgressReporter
from tradingbot.settings import Settings
from tradingbot.settings.models import parse_models
from tradingbot.space.connect import pause_orphaned_space, settings_of_model
from tradingbot.space.orphaned_space import NoWakeLog, warn_loudly

logger = logging.getLogger(__name__)

Unused = Literal["all", "challengers'", "none"]


def pause_unused_spaces(
    of: Unused,
    settings: Settings,
    database: JobDatabase | None,
    shard: Shard,
    reporter: ProgressReporter,
) -> bool:
    """Pause each Space that runs although no run uses it.

    Args:
        of: Which models' Spaces.
        settings: The Spaces.
        database: Has the runs' locks and notes; None: its URL is invalid.
        shard: The shard shown to other runs.
        reporter: Shows what is done.

    Returns:
        False, after a log message, if a Space may still be running.
    """
    spaces = [settings] if of == "all" else []
    if of != "none":
        elsewhere = [asked for asked in settings.models if asked.is_elsewhere]
        spaces += [settings_of_model(settings, asked) for asked in elsewhere]
    by_name = {space.space_name: space for space in spaces}
    wait = of == "all"  # else this run has lasted longer than the lock of a killed one
    paused = [
        _pause_unused(space, database, shard, reporter, wait_for_lock=wait)
        for space in by_name.values()
    ]
    return all(paused)


def _pause_unused(
    settings: Settings,
    database: JobDatabase | None,
    shard: Shard,
    reporter: ProgressReporter,
    *,
    wait_for_lock: bool,
) -> bool:
    if database is None:
        return pause_orphaned_space(
            settings, reporter=reporter, lock=_UnknownLock(), wake_log=_UnknownLog()
        )
    with database.space_lock(settings.space_name, shard) as lock:
        return pause_orphaned_space(
            settings,
            reporter=reporter,
            lock=lock,
            wake_log=database.space_notes(),
            wait_for_lock=wait_for_lock,
        )


def pause_space_of_environment(
    database_url: str | None,
    reporter: ProgressReporter,
    environ: Mapping[str, str] | None = None,
) -> bool:
    """Call `pause_unused_spaces` for a run that could not be built, as with a wrong setting.

    If the settings of the Space are wrong themselves, only a warning is possible.
    """
    environ = environment(environ)
    try:
        settings = Settings.of_the_space(environ)
        models = environ.get("KRONOS_MODELS", "").strip()
        settings = replace(settings, models=parse_models(models) if models else ())
    except ConfigError as error:
        if not environ.get("HF_TOKEN", "").strip() or environ.get("KRONOS_PAUSE") == "never":
            return True
        warn_loudly("the Space", error)
        return False
    try:
        database = JobDatabase(database_url, dry_run=True, environ=environ)
    except ConfigError as error:
        logger.debug("the runs' locks are not known: %s", error)
        database = None
    return pause_unused_spaces("all", settings, database, WHOLE, reporter)


class _UnknownLock(NoLock):
    """The lock in a database whose URL is invalid."""

    def try_exclusive(self) -> bool:
        _refuse()


class _UnknownLog(NoWakeLog):
    """The notes in a database whose URL is invalid."""

    def woke(self, repo: str) -> bool:
        _refuse()


def _refuse() -> NoReturn:
    raise DatabaseError("the database's address cannot be read")
