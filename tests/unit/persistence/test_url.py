"""A wrong database address is refused in one line, with exit code 2 and without secrets."""

from contextlib import chdir
from itertools import combinations
from tempfile import TemporaryDirectory
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from sqlalchemy.exc import OperationalError

from tradingbot.errors import ConfigError, KronosError
from tradingbot.persistence.engine import dispose_engines, get_db_session, init_db
from tradingbot.persistence.failures import unreachable
from tradingbot.persistence.url import database_exists, database_url, in_memory, parsed

SECRET = "s3cret-pw"
NOWHERE = f"postgresql://me:{SECRET}@127.0.0.1:9/k"
BYTES = b"\xff".decode(errors="surrogateescape")

WRONG = [
    *(f"{NOWHERE}?connect_timeout=abc", f"{NOWHERE}?keepalives=x", f"{NOWHERE}?sslmode=nonsense"),
    *(f"{NOWHERE}?target_session_attrs=x", f"{NOWHERE}?ssl_min_protocol_version=TLSv9"),
    *(f"{NOWHERE}?port=0", f"{NOWHERE}?host=a&port=abc", f"{NOWHERE}?host=a&port=1&port=2"),
    *(f"{NOWHERE}?sslmode=require&sslmode=disable", f"{NOWHERE}?password=a&password={SECRET}"),
    *(f"{NOWHERE}?service=nope", f"{NOWHERE}?database=other", f"{NOWHERE}?application_name=%00"),
    *(f"{NOWHERE}?%00=x", f"{NOWHERE}%00", f"{NOWHERE}{BYTES}", f"{NOWHERE}?hostaddr=1&hostaddr=2"),
    *(f"postgresql://me:{SECRET}%00@h/k", f"postgresql://me:{SECRET}{BYTES}@h/k"),
    *(f"postgresql://me:{SECRET}@h:99999/k", f"postgresql://me:{SECRET}@h:abc/k"),
    *(
        "sqlite://x.db",
        "sqlite:///x.db?foo=1",
        "sqlite:///x.db?mode=ro",
        "sqlite:///x.db?timeout=x",
    ),
    *("sqlite:///x.db?timeout=1&timeout=2", "sqlite:///x.db?uri=x", "sqlite:///%00"),
    *("sqlite:///x.db?mode=ro&uri=true", f"sqlite:///{BYTES}.db", f"sqlite:///x.db?key={SECRET}"),
]


def refusal_of(url: str) -> KronosError | None:
    """Return the error from using the database at `url`, or None."""
    try:
        address = parsed(url, "DATABASE_URL")
        if database_exists(url) and not in_memory(address):
            with get_db_session(url, create=False) as session:
                session.connection()
    except KronosError as error:
        return error
    finally:
        dispose_engines()
    return None


@pytest.mark.parametrize("url", WRONG)
def test_a_wrong_address_is_refused_before_any_connection(url: str) -> None:
    with pytest.raises(ConfigError) as refused:
        init_db(url)
    message = str(refused.value)
    assert SECRET not in message
    assert "is the server up" not in message
    assert len(message.splitlines()) == 1


@given(
    st.sampled_from([NOWHERE, "sqlite:///nowhere.db", "sqlite:///file:nowhere.db", "sqlite://"]),
    st.text(max_size=8) | st.sampled_from(["%00", "%FF", BYTES, "&", "=", "?", "@", "x" * 300]),
    st.sampled_from(
        ["", "/", "?", "?timeout=", "?host=", "?port=", "?x=", "?mode=ro&uri=", ":", "#"]
    ),
)
@example("sqlite:///", "/" + "x" * 300, "")
@example("sqlite:///file:nowhere.db", "FALSE", "?mode=ro&uri=")
def test_any_address_gives_a_database_or_a_one_line_error(url: str, text: str, before: str) -> None:
    with TemporaryDirectory() as folder, chdir(folder):
        error = refusal_of(url + before + text)
    assert error is None or len(str(error).splitlines()) == 1
    assert SECRET not in str(error)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("POSTGRES_PORT", "9" * 5000, "a whole number from 1 to 65535"),
        ("POSTGRES_PORT", "\u0663", "a whole number from 1 to 65535"),
        ("POSTGRES_HOST", f"me:{SECRET}@h", "POSTGRES_HOST is more than a host's name"),
        ("POSTGRES_HOST", f"h?password={SECRET}", "POSTGRES_HOST is more than a host's name"),
        ("POSTGRES_HOST", "http://h", "POSTGRES_HOST is more than a host's name"),
        ("POSTGRES_HOST", "h:5432", "the port goes into POSTGRES_PORT"),
        *(
            (name, f"a{BYTES}", f"{name} has bytes that are not UTF-8")
            for name in ("POSTGRES_HOST", "POSTGRES_USER", "POSTGRES_PASSWORD", "POSTGRES_DATABASE")
        ),
    ],
)
def test_an_invalid_part_of_an_address_is_refused_by_name(
    name: str, value: str, expected: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        database_url({"POSTGRES_HOST": "h", name: value})
    assert expected in str(refused.value)
    assert SECRET not in str(refused.value)


PARTS = {
    "POSTGRES_HOST": "a-host", "POSTGRES_PORT": "5433", "POSTGRES_USER": "a-user",
    "POSTGRES_PASSWORD": SECRET, "POSTGRES_DATABASE": "a-database",
}  # fmt: skip


@pytest.mark.parametrize("given", [some for n in range(1, 6) for some in combinations(PARTS, n)])
def test_no_given_part_of_an_address_is_ignored_silently(
    given: tuple[str, ...],
) -> None:
    complete = "POSTGRES_HOST" in given
    if "POSTGRES_PASSWORD" in given:
        complete &= "POSTGRES_USER" in given
    environ = {name: PARTS[name] for name in given}
    if complete:
        url = database_url(environ)
        assert all(part in url for part in environ.values())
    else:
        with pytest.raises(ConfigError, match="is set but POSTGRES_") as refused:
            database_url(environ)
        assert SECRET not in str(refused.value)


@pytest.mark.parametrize("option", ["host=b", "port=6543", "user=b", "password=b", "dbname=b"])
def test_duplicate_parts_of_an_address_are_refused_by_name(option: str) -> None:
    name = option.partition("=")[0]
    with pytest.raises(ConfigError, match=f"the option '{name}' repeats") as refused:
        init_db(f"{NOWHERE}?{option}")
    assert SECRET not in str(refused.value)


@pytest.mark.integration
def test_a_socket_folder_is_accepted_as_host(postgres_url: str) -> None:
    [folder] = parse_qs(urlsplit(postgres_url).query)["host"]
    url = database_url({"POSTGRES_HOST": folder, "POSTGRES_USER": "postgres"})
    with get_db_session(url, create=False) as session:
        session.connection()
    dispose_engines()


@pytest.mark.parametrize(
    ("reason", "asks"),
    [
        ("server closed the connection unexpectedly", True),
        ("SSL connection has been closed unexpectedly", True),
        ("SSL SYSCALL error: EOF detected", True),
        ("FATAL:  terminating connection due to administrator command", True),
        ("FATAL:  pgbouncer cannot connect to server", True),
        ("FATAL:  query_wait_timeout", True),
        ('FATAL:  unrecognized configuration parameter "nonsense"', False),
        ("FATAL:  bouncer config error", False),
        ("session is read-only", False),
        ("server is in hot standby mode", False),
        ("channel binding is required, but server did not offer it", False),
        ("SSL error: certificate verify failed", False),
    ],
)
def test_only_a_silent_server_is_suspected_to_be_down(reason: str, asks: bool) -> None:
    error = unreachable(parsed(NOWHERE, "x"), OperationalError(None, None, Exception(reason)))
    assert ("is the server up" in str(error)) == asks
