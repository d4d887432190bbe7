"""What a database's refusal means: an error of ours, with the way out."""

import re

from sqlalchemy import URL
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from tradingbot.errors import DatabaseError, DatabaseUnavailable
from tradingbot.persistence.url import redact, without_password

# SQLSTATEs besides those of a lost connection (08…): deadlock, too many connections, lock timeout,
# a server that is shut down, crashed, starts, or has closed an idle session.
_PASSING = ("40001", "40P01", "53300", "55P03", "57P01", "57P02", "57P03", "57P05", "25006")
REFUSED = ("25006", "42501")  # read-only, as a standby is until it takes over; no permission
# What a server says to who may not connect, which comes without a SQLSTATE.
_FINAL = re.compile(r"authentication failed|does not exist|no pg_hba.conf entry|not permitted")


def unreachable(address: URL, error: SQLAlchemyError) -> DatabaseError:
    """One line: which database, what it said, the way out. DatabaseUnavailable if it may pass."""
    said = without_password(address, " ".join(str(getattr(error, "orig", None) or error).split()))
    if "locked" in said or "lock timeout" in said:
        way_out = "another process holds it; try again when that is done"
    elif sqlstate(error) in REFUSED:
        way_out = "use a database, and a user, that may be written to"
    elif address.get_backend_name() == "sqlite":
        way_out = "is its folder there and writable? Else set DATABASE_URL"
    else:
        way_out = "is the server up, and is DATABASE_URL (or POSTGRES_*) right?"
    kind = DatabaseUnavailable if _may_pass(address, error, said) else DatabaseError
    return kind(f"database {redact(address)}: {said}; {way_out}")


def _may_pass(address: URL, error: SQLAlchemyError, said: str) -> bool:
    if address.get_backend_name() == "sqlite":
        return "locked" in said
    if not isinstance(error, DBAPIError):
        return False
    if code := sqlstate(error):
        return code.startswith("08") or code in _PASSING
    return not _FINAL.search(said)


def lacks_something(error: DBAPIError) -> bool:
    """Whether a table or column is not there, as in a schema that nobody has upgraded yet."""
    if code := sqlstate(error):
        return code in ("42P01", "42703")
    return str(error.orig).startswith(("no such table", "no such column"))


def sqlstate(error: SQLAlchemyError) -> str | None:
    """Postgres's code for what went wrong; None if it could not even say."""
    orig = getattr(error, "orig", None)
    return getattr(orig, "pgcode", None) or getattr(orig, "sqlstate", None)
