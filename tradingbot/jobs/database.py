"""The database of one run of the job: its sessions and its locks."""

import logging
from collections.abc import Mapping
from contextlib import AbstractContextManager

from sqlalchemy.orm import Session

from tradingbot.environment import environment
from tradingbot.errors import DatabaseError, DatabaseUnavailable
from tradingbot.jobs.sharding import Shard
from tradingbot.persistence.damage import warn_of_damaged_rows
from tradingbot.persistence.database_locks import open_lock
from tradingbot.persistence.engine import get_db_session, get_engine, init_db
from tradingbot.persistence.partitions import add_partitions
from tradingbot.persistence.run_log import SpaceNotes
from tradingbot.persistence.url import database_exists, database_url, redact
from tradingbot.runtime.clock import utcnow
from tradingbot.runtime.lock_interface import Lock, NoLock
from tradingbot.space.orphaned_space import NoWakeLog, WakeLog
from tradingbot.typing import SessionFactory

logger = logging.getLogger(__name__)


class JobDatabase:
    """The database. In a dry run it is only read: not created, not upgraded, not written to.

    Attributes:
        address: Its URL without the password.
    """

    def __init__(
        self, url: str | None, *, dry_run: bool = False, environ: Mapping[str, str] | None = None
    ) -> None:
        """Use `url`, or else the URL in the environment. Raise ConfigError if it is invalid."""
        environ = environment() if environ is None else environ
        self.dry_run = dry_run
        self._url = url or database_url(environ)
        get_engine(self._url)  # a dry run also refuses an invalid URL
        self.address = redact(self._url)

    def prepare(self) -> None:
        """Upgrade the schema, create upcoming partitions of the ledger, and warn of damaged rows.

        The ledger is the table of all stored forecasts. A dry run only warns.

        Raises:
            DatabaseError: The database cannot be used.
        """
        if not self.dry_run:
            init_db(self._url)
            with self.sessions() as session:
                add_partitions(session.connection(), utcnow())
        if self._is_there():
            self._tell_damage()

    def _tell_damage(self) -> None:
        try:
            with self.sessions() as session:
                warn_of_damaged_rows(session)
        except DatabaseUnavailable:
            raise
        except DatabaseError as error:  # the run does not need every table
            logger.warning("damaged rows were not looked for: %s", error)

    def sessions(self) -> AbstractContextManager[Session]:
        """Open one transaction. A dry run does not upgrade the schema."""
        return get_db_session(self._url, create=not self.dry_run)

    @property
    def storage(self) -> SessionFactory | None:
        """Return a factory of transactions for writing; None in a dry run."""
        return None if self.dry_run else self.sessions

    @property
    def readable(self) -> SessionFactory | None:
        """Return a factory of transactions for reading; None if there is no database to read."""
        return self.sessions if self._is_there() else None

    def run_lock(self, shard: Shard) -> Lock:
        """Return the lock of this part of the tickers, held by one run at a time.

        Not used in a dry run.
        """
        return NoLock() if self.dry_run else self._lock(f"run {shard}", f"kronosbot {shard}")

    def space_lock(self, repo: str, shard: Shard) -> Lock:
        """Return the lock with which runs share the Space. Dry runs take this lock too."""
        return self._lock(f"Space {repo}", f"kronosbot {shard}") if self._is_there() else NoLock()

    def space_notes(self) -> WakeLog:
        """Return the notes of earlier runs about the Space. A dry run writes none."""
        return SpaceNotes(self.sessions) if self._is_there() else NoWakeLog()

    def score_lock(self) -> Lock:
        """Return the lock for scoring, held by one process at a time."""
        return self._lock("scores", "kronosbot score")

    def _lock(self, name: str, who: str) -> Lock:
        return open_lock(self._url, name, who=who)

    def _is_there(self) -> bool:
        return not self.dry_run or database_exists(self._url)
