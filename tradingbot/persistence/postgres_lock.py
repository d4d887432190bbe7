"""A lock that is an advisory lock of a Postgres session."""

import hashlib
import os
import random
import socket
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Self

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import SQLAlchemyError

from tradingbot.errors import ConfigError
from tradingbot.persistence.failures import unreachable
from tradingbot.persistence.url import redact
from tradingbot.runtime.lock_interface import Holder, Mode
from tradingbot.runtime.signals import signals_held

ROUNDS = 50  # attempts at making a pooler switch sessions

# pg_locks shows a 64-bit key as two halves
_OF_KEY = (
    " l.locktype = 'advisory' AND l.granted AND l.objsubid = 1"
    " AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    " AND (l.classid::bigint << 32 | l.objid::bigint) = :key"
)
_IS_MINE = f"SELECT count(*) FROM pg_locks l WHERE l.pid = pg_backend_pid() AND{_OF_KEY}"
_SHOWN_AS = {"exclusive": "ExclusiveLock", "shared": "ShareLock"}  # in pg_locks


class PostgresLock:
    """A lock with its own connection, whose application_name shows the holder.

    After a lost connection, or a signal that interrupted a query, the lock connects again. (After
    such a signal SQLAlchemy accepts only a rollback: PendingRollbackError.)

    Raises:
        ConfigError: The connection changes its session, as through pgbouncer with
            pool_mode=transaction. Raised when the lock connects.
    """

    def __init__(self, engine: Engine, name: str, who: str) -> None:
        self._sessions = engine
        self._engine = engine.execution_options(isolation_level="AUTOCOMMIT")
        digest = hashlib.sha256(f"kronosbot {name}".encode()).digest()
        self._key = int.from_bytes(digest[:8], signed=True)
        self._settings = {
            "application_name": str(Holder(who, os.getpid(), socket.gethostname()))[:63],
            "idle_session_timeout": "0",
            # let the server notice a dead client, such as a node without power
            "tcp_keepalives_idle": "10",
            "tcp_keepalives_interval": "5",
            "tcp_keepalives_count": "3",
        }
        self._connection: Connection | None = None
        self._is_set_up = False  # the connection has these settings and a permanent session
        self._mode: Mode | None = None  # the mode requested
        self._held = False  # whether it is held in this mode; False once the connection is lost
        self._lost = False

    def try_exclusive(self) -> bool:
        with signals_held():  # a signal between the response and `_held` would make `_held` wrong
            if not self._ask("SELECT pg_try_advisory_lock(:key)"):
                return False
            self._mode, self._held = "exclusive", True
            return True

    def try_shared(self) -> bool:
        with signals_held():
            exclusively = self._mode == "exclusive" and self._held
            if not self._ask("SELECT pg_try_advisory_lock_shared(:key)"):
                return False
            if exclusively:  # unlock only now, so that no other process gets it in between
                self._ask("SELECT pg_advisory_unlock(:key)")
            self._mode, self._held = "shared", True
            return True

    def renew(self) -> bool:
        if self._mode is None:
            return False
        if self._held and self._connection is not None:
            held_mode = text(f"{_IS_MINE} AND l.mode = :mode")
            values = {"key": self._key, "mode": _SHOWN_AS[self._mode]}
            with suppress(SQLAlchemyError):
                if self._connection.scalar(held_mode, values):
                    return True
            self._lose_connection()
        return self.try_exclusive() if self._mode == "exclusive" else self.try_shared()

    def release(self) -> None:
        with signals_held():
            self._mode = None
            if self._connection is not None:
                try:
                    self._connection.execute(text("SELECT pg_advisory_unlock_all()"))
                    self._held = False
                except SQLAlchemyError:
                    self._lose_connection()

    def held_by(self) -> Holder:
        rows = self._holders()
        if not rows:
            return Holder("a run that has just ended")
        # application_name includes process and host; for other users name and times are hidden
        name, since, active = rows[0]
        who = name or "another user of the database"
        return Holder(who, since=since, active=active, others=len(rows) - 1)

    def is_held(self) -> bool | None:
        return bool(self._holders())

    def got_lost(self) -> bool:
        return self._lost

    def _holders(self) -> Sequence[Any]:
        query = (
            "SELECT a.application_name, a.backend_start, a.state_change"
            " FROM pg_locks l JOIN pg_stat_activity a USING (pid)"
            f" WHERE{_OF_KEY} ORDER BY a.backend_start"
        )
        try:
            return self._connected().execute(text(query), {"key": self._key}).all()
        except SQLAlchemyError as error:
            self._lose_connection()
            raise unreachable(self._engine.url, error) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.release()
        self._lose_connection()

    def _ask(self, statement: str) -> Any:
        """Return the result of a statement. Reconnect if the connection turns out to be dead."""
        while True:
            fresh = self._connection is None
            try:
                connection = self._connected()
                if not self._is_set_up:
                    self._set_up(connection)
                return connection.scalar(text(statement), {"key": self._key})
            except SQLAlchemyError as error:
                self._lose_connection()
                if fresh:
                    raise unreachable(self._engine.url, error) from error

    def _connected(self) -> Connection:
        if self._connection is None:
            self._connection = self._engine.connect()
            # remove it from the pool: closing it ends the session, and thus the lock
            self._connection.detach()
        return self._connection

    def _set_up(self, connection: Connection) -> None:
        if not self._session_lasts(connection):
            self._lose_connection()
            raise ConfigError(
                f"database {redact(self._engine.url)}: a pooler in front of it gives each "
                "transaction another session, as pgbouncer does with pool_mode=transaction, so no "
                "lock lasts and two runs could work at once: use pool_mode=session, or the "
                "server's own port"
            )
        setting = text("SELECT set_config(name, :value, false) FROM pg_settings WHERE name = :name")
        for name, value in self._settings.items():  # only those that this server knows
            connection.execute(setting, {"name": name, "value": value})
        self._is_set_up = True

    def _session_lasts(self, connection: Connection) -> bool:
        """Return whether a session lock stays with this connection.

        It does if the driver and the server give the same process ID for the session. With a pooler
        the two IDs differ. Then a second transaction is held open for a test: a pooler that
        switches sessions gives this transaction the session that the connection has just used, or
        gives the connection another session.
        """
        # not the run's own key, which could stay locked in a session of the pool
        probe = {"key": random.getrandbits(62)}
        take = text("SELECT pg_backend_pid() FROM pg_advisory_lock(:key)")
        backend_pid = connection.scalar(take, probe)
        driver_info = getattr(connection.connection.driver_connection, "info", None)
        if getattr(driver_info, "backend_pid", None) == backend_pid:
            return self._unlock(connection, probe)
        lasts = True
        for _ in range(ROUNDS):
            with self._sessions.connect() as other:
                lasts = (
                    other.scalar(text("SELECT pg_backend_pid()")) != backend_pid
                    and connection.scalar(text(_IS_MINE), probe) == 1
                )
            if not lasts:
                break
        return self._unlock(connection, probe) and lasts

    def _unlock(self, connection: Connection, probe: dict[str, int]) -> bool:
        return bool(connection.scalar(text("SELECT pg_advisory_unlock(:key)"), probe))

    def _lose_connection(self) -> None:
        self._lost |= self._held
        self._held = self._is_set_up = False
        if self._connection is not None:
            with suppress(SQLAlchemyError):
                self._connection.close()
            self._connection = None
