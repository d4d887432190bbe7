"""Pause Spaces that another run left running and that this run has not woken itself."""

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Literal, NoReturn

from tradingbot.environment import environment
from tradingbot.errors import ConfigError, DatabaseError
from tradingbot.jobs.database import JobDatabase
from tradingbot.jobs.sharding import WHOLE, Shard
from tradingbot.runtime.lock_interface import NoLock
from tradingbot.runtime.progress import ProgressReporter
from tradingbot.settings import Settings
from tradingbot.settings.models import AskedModel, parse_models
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
    *,
    wait_for_lock: bool,
) -> bool:
    """Pause each Space that runs although no run uses it.

    Args:
        of: The models whose Spaces are checked.
        settings: Names the Spaces and their credentials.
        database: Database with the runs' locks and notes. None: the database's URL is invalid.
        shard: The shard shown to other runs.
        reporter: Shows what is done.
        wait_for_lock: Wait until the database releases the lock of a killed run. Without it, a
            Space whose lock is held is left alone.

    Returns:
        False, after a log message, if a Space may still be running.
    """
    spaces = [settings] if of == "all" else []
    if of != "none":
        elsewhere = [asked for asked in settings.models if asked.is_elsewhere]
        spaces += [settings_of_model(settings, asked) for asked in elsewhere]
    by_name = {space.space_name: space for space in spaces}
    paused = [
        _pause_unused(space, database, shard, reporter, wait_for_lock=wait_for_lock)
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
    """Pause unused Spaces for a run that could not be built, for example due to a wrong setting.

    If a Space's own settings are wrong, only a warning about this Space is logged.
    """
    environ = environment(environ)
    if not environ.get("HF_TOKEN", "").strip() or environ.get("KRONOS_PAUSE") == "never":
        return True
    known = True
    models: tuple[AskedModel, ...] = ()
    try:
        text = environ.get("KRONOS_MODELS", "").strip()
        models = parse_models(text) if text else ()
    except ConfigError as error:
        known = _warn("the challengers' Spaces", error)
    of: Unused = "all"
    try:
        settings = Settings.of_the_space(environ)
    except ConfigError as error:
        known, of = _warn("the Space", error), "challengers'"
        others = {name: environ[name] for name in environ if name not in _OF_THE_CHAMPION}
        try:
            settings = Settings.of_the_space(others)
        except ConfigError:
            for asked in models:
                if asked.is_elsewhere:
                    _warn(asked.space_repo or str(asked.space_url), error)
            return False
    settings = replace(settings, models=models)
    database = _database(database_url, environ)
    paused = pause_unused_spaces(of, settings, database, WHOLE, reporter, wait_for_lock=True)
    return paused and known


_OF_THE_CHAMPION = ("HF_SPACE_REPO", "KRONOS_SPACE_URL")


def _warn(space: str, error: ConfigError) -> Literal[False]:
    warn_loudly(space, error)
    return False


def _database(url: str | None, environ: Mapping[str, str]) -> JobDatabase | None:
    try:
        return JobDatabase(url, dry_run=True, environ=environ)
    except ConfigError as error:
        logger.debug("the runs' locks are not known: %s", error)
        return None


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
