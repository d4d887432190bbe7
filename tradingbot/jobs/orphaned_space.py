"""Pause a Space that another run left running, if this run ends before it wakes the Space."""

import logging
from collections.abc import Mapping
from typing import NoReturn

from tradingbot.environment import environment
from tradingbot.errors import ConfigError, DatabaseError
from tradingbot.jobs.database import JobDatabase
from tradingbot.jobs.sharding import WHOLE, Shard
from tradingbot.runtime.locking import NoLock
from tradingbot.runtime.progress import ProgressReporter
from tradingbot.settings import Settings
from tradingbot.space.connect import pause_orphaned_space
from tradingbot.space.orphaned_space import NoWakeLog, warn_loudly

logger = logging.getLogger(__name__)


def pause_unused_space(
    settings: Settings, database: JobDatabase | None, shard: Shard, reporter: ProgressReporter
) -> bool:
    """Pause a Space that runs although no run uses it.

    Args:
        settings: The Space.
        database: Has the runs' locks and notes; None: its URL is invalid.
        shard: The shard shown to other runs.
        reporter: Shows what is done.

    Returns:
        False, after a log message, if the Space may still be running.
    """
    if database is None:
        return pause_orphaned_space(
            settings, reporter=reporter, lock=_UnknownLock(), wake_log=_UnknownLog()
        )
    with database.space_lock(settings.space_name, shard) as lock:
        return pause_orphaned_space(
            settings, reporter=reporter, lock=lock, wake_log=database.space_notes()
        )


def pause_space_of_environment(
    database_url: str | None,
    reporter: ProgressReporter,
    environ: Mapping[str, str] | None = None,
) -> bool:
    """Call `pause_unused_space` for a run that could not be built, for example with a wrong
    setting.

    If the settings of the Space are wrong themselves, only a warning is possible.
    """
    environ = environment(environ)
    try:
        settings = Settings.of_the_space(environ)
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
    return pause_unused_space(settings, database, WHOLE, reporter)


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
