"""Databases in other encodings than UTF-8: initdb makes SQL_ASCII where no locale is set."""

from collections.abc import Iterator
from itertools import count

import pytest
from sqlalchemy import select

from tests.support.postgres import Postgres
from tradingbot.errors import DatabaseError
from tradingbot.persistence.engine import dispose_engines, get_db_session
from tradingbot.persistence.models import RunLog
from tradingbot.runtime.clock import utcnow

_numbers = count()


@pytest.fixture(params=["UTF8", "SQL_ASCII", "LATIN1"])
def encoded(request: pytest.FixtureRequest, postgres_server: Postgres) -> Iterator[tuple[str, str]]:
    """An encoding and a database in it."""
    name = f"encoded_{next(_numbers)}"
    locale = "LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0"
    postgres_server.execute(f"CREATE DATABASE {name} ENCODING '{request.param}' {locale}")
    yield request.param, postgres_server.url(name)
    dispose_engines()
    postgres_server.execute(f"DROP DATABASE {name} WITH (FORCE)")


def store(url: str, words: str) -> tuple[str | None, str]:
    """Store words in a column of text and one of JSON; return what is read."""
    with get_db_session(url) as session:
        facts = {"name": "kronosbot", "status": "ok", "started_at": utcnow()}
        session.add(RunLog(**facts, message=words, details={words: words}))
    with get_db_session(url) as session:
        row = session.scalars(select(RunLog).order_by(RunLog.id.desc())).first()
        assert row is not None
        return row.message, row.details[words]


@pytest.mark.integration
def test_words_in_any_alphabet_are_stored_or_the_error_says_what_to_do(
    encoded: tuple[str, str],
) -> None:
    encoding, url = encoded
    assert store(url, "Ä") == ("Ä", "Ä")
    if encoding == "LATIN1":
        with pytest.raises(DatabaseError, match=r"ENCODING 'UTF8'"):
            store(url, "…日本€")
    else:
        assert store(url, "…日本€") == ("…日本€", "…日本€")
