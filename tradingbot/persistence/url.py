"""The database URL: read it from the environment, and show it without the password."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.util import asbool

from tradingbot.environment import environment
from tradingbot.errors import ConfigError

DEFAULT_URL = "sqlite:///kronos.db"
VARIABLES = {
    "DATABASE_URL": f"URL of the database; `{DEFAULT_URL}` if none of these is set",
    "POSTGRES_URI": "the same, if `DATABASE_URL` is not set",
    "POSTGRES_HOST": "host of the server, if neither is set",
    "POSTGRES_PORT": "port of the server",
    "POSTGRES_USER": "user of the database",
    "POSTGRES_PASSWORD": "password of the user",
    "POSTGRES_DATABASE": "name of the database",
}

# Options of a URL whose values are shown. Other values are hidden, because they may be secret.
# These are the options of libpq, and of SQLite's file: URLs.
_SHOWN = {
    "application_name", "cache", "channel_binding", "check_same_thread", "client_encoding",
    "connect_timeout", "dbname", "gssencmode", "host", "hostaddr", "immutable",
    "isolation_level", "keepalives", "keepalives_count", "keepalives_idle",
    "keepalives_interval", "load_balance_hosts", "mode", "nolock", "options", "port", "psow",
    "require_auth", "sslcert", "sslcrl", "sslkey", "sslmode", "sslnegotiation", "sslrootcert",
    "target_session_attrs", "tcp_user_timeout", "timeout", "uri", "user",
}  # fmt: skip
_HIDDEN = "***"


def database_url(environ: Mapping[str, str] | None = None) -> str:
    """Return DATABASE_URL, else POSTGRES_URI, else POSTGRES_*, else `sqlite:///kronos.db`.

    An empty variable counts as missing. `environ` replaces the environment of the process. Raise
    ConfigError if a variable is invalid.
    """
    if environ is not None:
        environ = {name: environ[name] for name in VARIABLES if name in environ}
    environ = environment(environ)
    for name in ("DATABASE_URL", "POSTGRES_URI"):
        if given := environ.get(name, "").strip():
            return parsed(given, name).render_as_string(hide_password=False)
    for name in VARIABLES:
        _check_text(environ.get(name, ""), name)
    host = environ.get("POSTGRES_HOST", "").strip()
    if host:
        if environ.get("POSTGRES_PASSWORD") and not environ.get("POSTGRES_USER"):
            raise ConfigError("POSTGRES_PASSWORD is set but POSTGRES_USER is not: set it, too")
        return URL.create(
            "postgresql+psycopg2",
            port=_port(environ.get("POSTGRES_PORT", "")),
            username=environ.get("POSTGRES_USER") or None,
            password=environ.get("POSTGRES_PASSWORD") or None,
            database=environ.get("POSTGRES_DATABASE") or None,
            **_where(host),
        ).render_as_string(hide_password=False)
    # otherwise the run would write to a file that no one looks at
    for name in ("POSTGRES_USER", "POSTGRES_PASSWORD", "POSTGRES_DATABASE", "POSTGRES_PORT"):
        # Kubernetes sets POSTGRES_PORT=tcp://10.0.0.7:5432 next to a service named postgres
        if environ.get(name) and not environ[name].startswith("tcp://"):
            raise ConfigError(f"{name} is set but POSTGRES_HOST is not: set it, or DATABASE_URL")
    return DEFAULT_URL


def redact(url: str | URL) -> str:
    """Return the URL without its password and the values of unknown options, for messages."""
    try:
        address = make_url(url)
    except (ArgumentError, ValueError):
        return "(unreadable URL)"
    if _has_stray_at(address):
        return "(unreadable URL)"
    passwords = [name for name in address.query if "password" in name.lower()]
    address = address.difference_update_query(passwords)
    address = address.update_query_dict(dict.fromkeys(address.query.keys() - _SHOWN, _HIDDEN))
    return address.render_as_string(hide_password=True).replace("%2A%2A%2A", _HIDDEN)


def without_password(address: URL, text: str) -> str:
    """Return `text`, such as a driver's message, with the secrets of `address` replaced by ***."""
    text = text.replace(address.render_as_string(hide_password=False), redact(address))
    options = address.normalized_query
    values = [value for name in options.keys() - _SHOWN for value in options[name]]
    for secret in filter(None, [address.password, *values]):
        # short values occur inside ordinary words, and hiding them there would reveal the secret
        if len(secret) >= 4 and secret not in ("true", "false"):
            text = re.sub(rf"(?<!\w){re.escape(secret)}(?!\w)", _HIDDEN, text)
    return text


def parsed(url: str, source: str) -> URL:
    """Parse a URL. A bare Postgres URL means psycopg2; SQLAlchemy 2.1 would use psycopg 3."""
    _check_text(unquote(url), source)
    try:
        address = make_url(re.sub(r"^postgres://", "postgresql://", url))
    except (ArgumentError, ValueError):  # not chained: the error's text contains the password
        if re.match(r"[^:]+://[^/?]*,", url):
            raise ConfigError(
                f"{source} names several hosts: write them as "
                "postgresql://user:password@/database?host=HOST1:5432&host=HOST2:5432"
            ) from None
        raise ConfigError(
            f"{source} cannot be read: expected postgresql://user:password@host:5432/database"
            " or sqlite:///file.db (write odd characters of a password as %XX)"
        ) from None
    if _has_stray_at(address):
        raise ConfigError(f"{source} has an @ too many: write @ in a password as %40")
    if address.drivername == "postgresql":
        return address.set(drivername="postgresql+psycopg2")
    return address


def check_options(address: URL) -> None:
    """Raise ConfigError for an option (after ?) that the database's client does not know."""
    sqlite = address.get_backend_name() == "sqlite"
    if not sqlite and "psycopg" not in address.get_driver_name():
        return
    for name, value in address.query.items():
        if not sqlite and _repeats(address, name):
            raise ConfigError(
                f"database {redact(address)}: the option {name!r} repeats what is before "
                "the ?: remove one of them"
            )
        if isinstance(value, tuple) and name not in ("host", "port"):
            raise ConfigError(f"database {redact(address)}: the option {name!r} is given twice")
        if _knows_sqlite(name, address) if sqlite else _knows_libpq(name):
            continue
        remedy = _INSTEAD_OF.get(name.lower(), "remove it, or correct its name")
        if sqlite and name in _SHOWN:
            remedy = f"write sqlite:///file:PATH?{name}=…&uri=true"
        kind = "SQLite" if sqlite else "Postgres"
        raise ConfigError(f"database {redact(address)}: {kind} has no option {name!r}: {remedy}")


def _repeats(address: URL, option: str) -> bool:
    """Return whether the URL before the ? already gives what this option gives."""
    parts = {"user": address.username, "password": address.password, "host": address.host}
    return bool({**parts, "port": address.port, "dbname": address.database}.get(option))


def _knows_libpq(name: str) -> bool:
    from psycopg2 import ProgrammingError, extensions  # type: ignore[import-untyped]

    try:
        extensions.make_dsn(**{name: "1"})
    except ProgrammingError:
        return False
    return name != "database"  # psycopg2's old name of the database


def _knows_sqlite(name: str, address: URL) -> bool:
    by_uri = _is_true(address.query.get("uri")) and str(address.database).startswith("file:")
    return name in _OF_SQLITE_DRIVER or by_uri  # otherwise the driver ignores it


def _is_true(value: object) -> bool:
    """Return whether the driver reads this value as yes. The driver refuses invalid values."""
    try:
        return bool(asbool(value))
    except ValueError:
        return True


_OF_SQLITE_DRIVER = {
    "cached_statements", "check_same_thread", "detect_types", "isolation_level", "timeout", "uri",
}  # fmt: skip
_INSTEAD_OF = {  # options that other programs write into a URL, and what to write instead
    "pgbouncer": "it is meant for Prisma; remove it (a pooler needs pool_mode=session)",
    "schema": "write options=-csearch_path%3DNAME instead",
    "database": "write it after the host's /",
    "currentschema": "write options=-csearch_path%3DNAME instead",
    "ssl": "write sslmode=require instead",
    "connection_limit": "it is meant for Prisma; remove it",
    "pool_timeout": "it is meant for Prisma; remove it",
    "statement_timeout": "write options=-cstatement_timeout%3DMILLISECONDS instead",
}


def anchored(address: URL) -> URL:
    """Make a SQLite path absolute, so that a later chdir does not lead to another file."""
    path = address.database or ""
    if address.get_backend_name() != "sqlite" or in_memory(address) or path.startswith("file:"):
        return address
    return address.set(database=str(Path(path).absolute()))


def in_memory(address: URL) -> bool:
    return address.database in (None, "", ":memory:")


def _has_stray_at(address: URL) -> bool:
    """Return whether a password has a bare @. The parser would take the text after it as host."""
    if address.get_backend_name() == "sqlite":  # a file name may contain @
        return False
    return any("@" in part for part in (address.host or "", address.database or ""))


def _check_text(text: str, source: str) -> None:
    """Raise ConfigError for text that no client accepts. The text is not shown."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ConfigError(f"{source} has bytes that are not UTF-8") from None
    if "\0" in text:
        raise ConfigError(f"{source} has a NUL character")


def _where(host: str) -> dict[str, Any]:
    """Return the URL parts for POSTGRES_HOST: a name, an IP address, or a socket's folder."""
    if host.startswith("/"):
        return {"query": {"host": host}}
    # not shown, because it may contain a password
    if set("/@?#") & set(host) or host.count(":") == 1:
        raise ConfigError(
            "POSTGRES_HOST is more than a host's name: the port goes into POSTGRES_PORT, a whole "
            "address into DATABASE_URL"
        )
    return {"host": host}


def _port(value: str) -> int | None:
    value = value.strip()
    digits = value.rpartition(":")[2] if value.startswith("tcp://") else value
    if not digits:
        return None
    if not re.fullmatch("[0-9]{1,5}", digits) or not 0 < int(digits) < 65536:
        raise ConfigError(f"POSTGRES_PORT={value!r}: expected a whole number from 1 to 65535")
    return int(digits)


def database_exists(url: str) -> bool:
    """Return False for a SQLite file that does not exist, because opening it would create it."""
    address = parsed(url, "the database URL")
    check_options(address)
    if address.get_backend_name() != "sqlite" or not address.database:
        return True
    return address.database.startswith((":memory:", "file:")) or is_there(Path(address.database))


def is_there(path: Path) -> bool:
    """Return whether the file exists. False if this process may not look."""
    try:
        return path.exists()
    except OSError:  # the name is too long, or a folder is not accessible
        return False
