"""Build the nightly job with its real collaborators."""

from contextlib import AbstractContextManager
from functools import partial

from tradingbot.data.service import DataService
from tradingbot.jobs.challengers import other_space
from tradingbot.jobs.database import JobDatabase
from tradingbot.jobs.nightly import NightlyJob
from tradingbot.jobs.options import JobOptions
from tradingbot.jobs.steps import Forecaster
from tradingbot.runtime.lock_interface import Lock
from tradingbot.runtime.progress import ProgressReporter
from tradingbot.settings import Settings
from tradingbot.space.connect import check_space_is_known, open_space
from tradingbot.space.orphaned_space import WakeLog


def build_job(settings: Settings, options: JobOptions, reporter: ProgressReporter) -> NightlyJob:
    """Return the job with its real collaborators, before it has done anything.

    Raises:
        ConfigError: A setting is wrong.
    """
    check_space_is_known(settings, local=options.local)

    def opener(lock: Lock, log: WakeLog | None) -> AbstractContextManager[Forecaster]:
        local, model = options.local, options.model
        return open_space(
            settings, local=local, model=model, reporter=reporter, lock=lock, wake_log=log
        )

    database = JobDatabase(options.database_url, dry_run=options.dry_run)
    data = DataService(
        settings.data_source,
        horizon=settings.horizon,
        sessions=database.storage,
        timeouts=settings.timeouts,
        max_jump=settings.max_jump,
    )
    open_other = partial(
        other_space, settings=settings, database=database, shard=options.shard, reporter=reporter
    )
    return NightlyJob(settings, options, database, data, opener, reporter, open_other)
