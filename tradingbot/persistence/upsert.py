"""INSERT … ON CONFLICT, which each database writes in its own way."""

from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from tradingbot.persistence.models import Base


def dialect_insert(session: Session, model: type[Base]) -> sqlite.Insert | postgresql.Insert:
    """ON CONFLICT is no standard SQL: each dialect has its own insert()."""
    on_sqlite = session.get_bind().dialect.name == "sqlite"
    return (sqlite if on_sqlite else postgresql).insert(model.__table__)
