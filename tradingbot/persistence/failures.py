"""Convert database errors to our own errors, which say what to do."""

import re

from sqlalchemy import URL
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from tradingbot.errors import ConfigError, DatabaseError, DatabaseUnavailable, KronosError
from tradingbot.persistence.url import redact, without_password

# SQLSTATEs of transient errors, besides those of a lost connection (08…): deadlock, too many
# connections, lock timeout, read-only, and a server that shut down, crashed, is starting, or closed
# an idle session.
_PASSING = ("40001", "40P01", "53300", "55P03", "57P01", "57P02", "57P03", "57P05", "25006")
NO_RIGHT = "42501"
NO_SUCH_CHARACTER = "22P05"  # the database's encoding lacks a character
# 25006 is a read-only server, such as a standby until it takes over.
REFUSED = ("25006", NO_RIGHT, NO_SUCH_CHARACTER)
# Messages of a server that refuses a connection; they have no SQLSTATE.
_FINAL = re.compile(
    r"authentication failed|does not exist|no pg_hba.conf entry|not permitted"
    r"|no such (database|user)|unsupported startup parameter"
)
# Messages of Postgres's client library about a wrong address. It reports them before it connects.
_WRONG_ADDRESS = re.compile(
    r"invalid (integer value|port number|connection option|\S+ value:|\S+ value \S|value for)"
    r"|could not match \d+|definition of service|could not parse network address"
)
# Message of pgbouncer with pool_mode=statement, with which this program cannot work.
_NO_TRANSACTIONS = "transaction blocks not allowed in statement pooling mode"


def unreachable(address: URL, error: SQLAlchemyError) -> KronosError:
    """Return an error in one line: the database, its message, and what to do.

    The result is a DatabaseUnavailable if the error is transient, a ConfigError for a wrong option
    or a pooler that refuses transactions, else a DatabaseError.
    """
    message = without_password(
        address, " ".join(str(getattr(error, "orig", None) or error).split())
    )
    if _NO_TRANSACTIONS in message:
        return ConfigError(
            f"database {redact(address)}: a pooler in front of it allows no transactions "
            "(pool_mode=statement): use pool_mode=session, or the server's own port"
        )
    if _WRONG_ADDRESS.search(message):
        return ConfigError(
            f"database {redact(address)}: {message}; correct that in DATABASE_URL (or POSTGRES_*)"
        )
    remedy = _remedy(address, error, message)
    kind = DatabaseUnavailable if _may_pass(address, error, message) else DatabaseError
    return kind(f"database {redact(address)}: {message}; {remedy}")


def _remedy(address: URL, error: SQLAlchemyError, message: str) -> str:
    """Return what to do about the error.

    Suggest that the server is down only if it sent no message.
    """
    sqlite = address.get_backend_name() == "sqlite"
    if isinstance(error, DBAPIError) and lacks_something(error):
        return (
            "its tables are not those of this version; the next `kronosbot run` upgrades older ones"
        )
    if sqlstate(error) == NO_RIGHT:
        return "grant this user that right, or use one that has it"
    if sqlstate(error) == NO_SUCH_CHARACTER:
        return "make a database with ENCODING 'UTF8' TEMPLATE template0, and copy this one into it"
    if sqlstate(error) in REFUSED:
        return "use a database, and a user, that may be written to"
    for pattern, remedy in _SQLITE_REMEDIES if sqlite else _REMEDIES:
        if pattern.search(message):
            return remedy
    if sqlite:
        return "check that file, or set DATABASE_URL"
    code = sqlstate(error)
    if code and not code.startswith("08") and code not in _DOWN:
        return "see the server's log"
    if "FATAL:" in message and not _GOES_DOWN.search(message):
        return "the server, or a pooler in front of it, refuses: see its log"
    return "is the server up, and is DATABASE_URL (or POSTGRES_*) right?"


_DOWN = ("57P01", "57P02", "57P03")  # shut down, crashed, starting
_GOES_DOWN = re.compile("terminating connection|cannot connect to server|server login|query_wait")
_HELD = (re.compile("locked|lock timeout"), "another process holds it; try again when that is done")
_REMEDIES = [
    _HELD,
    (
        re.compile("no schema has been selected"),
        "let its search_path name a schema: ALTER DATABASE … SET search_path = public",
    ),
    (
        re.compile(r"(password|peer|ident|\w+) authentication failed|no password supplied"),
        "check the user and the password in DATABASE_URL (or POSTGRES_*)",
    ),
    (
        re.compile(r"(database|role|user) \S+ does not exist|no such (database|user)"),
        "create it, or correct its name in DATABASE_URL (or POSTGRES_*)",
    ),
    (
        re.compile(r"no pg_hba.conf entry|not permitted|not currently accepting"),
        "the server does not let this user in: ask who runs it",
    ),
    (
        re.compile(r"unsupported startup parameter"),
        "name it in ignore_startup_parameters of the pooler, or use the server's own port",
    ),
    (
        re.compile(
            r"too many (clients|connections)|remaining connection slots|no more connections"
        ),
        "try again later",
    ),
    (
        re.compile(r"session is (not )?read-only|server is (not )?in hot standby"),
        "name another server, or correct target_session_attrs in DATABASE_URL",
    ),
    (re.compile(r"(starting up|shutting down|recovery mode)"), "try again once it is up"),
    (
        re.compile(r"SSL(?! connection has been closed| SYSCALL)|TLS|certificate|channel binding"),
        "check sslmode and the certificates in DATABASE_URL",
    ),
    (
        re.compile(r"could not translate host name|Name or service not known"),
        "correct the host in DATABASE_URL (or POSTGRES_HOST)",
    ),
    (re.compile(r"No space left|disk is full"), "make room on its disk"),
]
_SQLITE_REMEDIES = [
    _HELD,
    (
        re.compile("unable to open|readonly"),
        "is its folder there and writable? Else set DATABASE_URL",
    ),
    (
        re.compile("not a database|malformed|encrypted"),
        "give another file in DATABASE_URL, or bring back a copy of this one",
    ),
    (re.compile("disk is full|disk I/O"), "make room on its disk, or check that"),
]


def _may_pass(address: URL, error: SQLAlchemyError, message: str) -> bool:
    if address.get_backend_name() == "sqlite":
        return "locked" in message
    if not isinstance(error, DBAPIError):
        return False
    if code := sqlstate(error):
        return code.startswith("08") or code in _PASSING
    return not _FINAL.search(message)


def lacks_something(error: DBAPIError) -> bool:
    """Return whether a table or column is missing, as in a schema that is not upgraded yet."""
    if code := sqlstate(error):
        return code in ("42P01", "42703")
    return str(error.orig).startswith(("no such table", "no such column"))


def sqlstate(error: SQLAlchemyError) -> str | None:
    """Return Postgres's error code, or None if there is none."""
    orig = getattr(error, "orig", None)
    return getattr(orig, "pgcode", None) or getattr(orig, "sqlstate", None)
