"""The database as one run of the job uses it: its sessions and its locks."""

import logging
from collections.abc import Mapping
from contextlib import AbstractContextManager

from sqlalchemy.orm import Session

from tradingbot.environment import environment
from tradingbot.errors import DatabaseError, DatabaseUnavailable
from tradingbot.jobs.sharding import Shard
from tradingbot.persistence.damage import warn_of_damaged_rows
from tradingbot.persistence.engine import get_db_session, get_engine, init_db
from tradingbot.persistence.locks import open_lock
from tradingbot.persistence.partitions import add_partitions
from tradingbot.persistence.run_log import SpaceNotes
from tradingbot.persistence.url import database_exists, database_url, redact
from tradingbot.runtime.clock import utcnow
from tradingbot.runtime.locking import Lock, NoLock
from tradingbot.space.orphaned_space import NoWakeLog, WakeLog
from tradingbot.typing import SessionFactory

logger = logging.getLogger(__name__)


class JobDatabase:
    """A dry run reads what is there: it makes no database, upgrades no schema, stores nothing.

    Attributes:
        address: Where it is, without a password.
    """

    def __init__(
        self, url: str | None, *, dry_run: bool = False, environ: Mapping[str, str] | None = None
    ) -> None:
        """`url`, else what the environment says. ConfigError if it cannot be read."""
        environ = environment() if environ is None else environ
        self.dry_run = dry_run
        self._url = url or database_url(environ)
        get_engine(self._url)  # a dry run too refuses an address that cannot be read
        self.address = redact(self._url)

    def prepare(self) -> None:
        """Bring the schema up to date, and partitions of the ledger ahead of it; DatabaseError.

        Damaged rows are told.
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
        except DatabaseError as error:  # the night needs not all tables
            logger.warning("damaged rows were not looked for: %s", error)

    def sessions(self) -> AbstractContextManager[Session]:
        """One transaction; a dry run upgrades no schema for it."""
        return get_db_session(self._url, create=not self.dry_run)

    @property
    def storage(self) -> SessionFactory | None:
        """Transactions to store with; None in a dry run."""
        return None if self.dry_run else self.sessions

    @property
    def readable(self) -> SessionFactory | None:
        """Transactions to read with; None if there is no database yet, and it is not to be made."""
        return self.sessions if self._is_there() else None

    def run_lock(self, shard: Shard) -> Lock:
        """One run at a time has this part of the tickers. A dry run is in nobody's way."""
        return NoLock() if self.dry_run else self._lock(f"run {shard}", f"kronosbot {shard}")

    def space_lock(self, repo: str, shard: Shard) -> Lock:
        """What the runs that use the Space share it by, dry ones too."""
        return self._lock(f"Space {repo}", f"kronosbot {shard}") if self._is_there() else NoLock()

    def space_notes(self) -> WakeLog:
        """What earlier runs have noted about the Space; a dry run notes nothing itself."""
        return SpaceNotes(self.sessions) if self._is_there() else NoWakeLog()

    def score_lock(self) -> Lock:
        """One process at a time scores."""
        return self._lock("scores", "kronosbot score")

    def _lock(self, name: str, who: str) -> Lock:
        return open_lock(self._url, name, who=who)

    def _is_there(self) -> bool:
        return not self.dry_run or database_exists(self._url)
