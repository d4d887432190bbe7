"""Read and write `kronos_scores`."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Row, delete, func, inspect, select
from sqlalchemy.orm import Session

from tradingbot.persistence.columns import columns_of, primary_key_of
from tradingbot.persistence.models import ALL_STEPS, ALL_SYMBOLS, SERVED, KronosScore
from tradingbot.persistence.upsert import upsert


def store_scores(session: Session, rows: Sequence[Mapping[str, Any]]) -> int:
    """Insert or overwrite scores, and return the number of rows.

    The keys of a row are the columns of KronosScore.
    """
    return upsert(session, KronosScore, rows)


def delete_scores_before(
    session: Session,
    moment: datetime,
    *,
    model: str | None = None,
    symbols: Collection[str] | None = None,
    keep: Collection[str] = (),
) -> None:
    """Delete scores computed before `moment`, naive UTC.

    Args:
        session: The transaction.
        moment: The time.
        model: Only scores of this model.
        symbols: Only scores of these tickers.
        keep: Tickers whose scores are kept. If there are any, the scores over all tickers are kept
            as well.
    """
    outdated = delete(KronosScore).where(KronosScore.scored_at < moment)
    if model is not None:
        outdated = outdated.where(KronosScore.model_name == model)
    if symbols is not None:
        outdated = outdated.where(KronosScore.symbol.in_(list(symbols)))
    if keep:
        outdated = outdated.where(KronosScore.symbol.not_in([*keep, ALL_SYMBOLS]))
    session.execute(outdated)


def read_scores(
    session: Session, *, model: str | None = None, symbols: Collection[str] | None = None
) -> Sequence[Row[Any]]:
    """Return all scores, or only those of one model or of some tickers, in the order of their key.

    With `symbols`, the scores over all tickers are included. The result covers served, raw,
    calibrated and combined forecasts.
    """
    table = KronosScore
    query = select(*columns_of(table)).order_by(*primary_key_of(table))
    if model is not None:
        query = query.where(KronosScore.model_name == model)
    if symbols is not None:
        query = query.where(KronosScore.symbol.in_([*symbols, ALL_SYMBOLS]))
    return session.execute(query).all()


def scores_over_all_steps(
    session: Session,
    symbols: Collection[str],
    *,
    model: str,
    revision: str,
    interval: str,
    windows: Collection[int],
) -> Sequence[KronosScore]:
    """Return the scores of served forecasts over all steps, of these tickers and windows."""
    return session.scalars(
        select(KronosScore).where(
            KronosScore.model_name == model,
            KronosScore.model_revision == revision,
            KronosScore.interval == interval,
            KronosScore.symbol.in_(list(symbols)),
            KronosScore.step == ALL_STEPS,
            KronosScore.forecast == SERVED,
            KronosScore.last_sessions.in_(list(windows)),
        )
    ).all()


def last_scored_at(session: Session) -> datetime | None:
    """Return when all tickers were last scored together, naive UTC; None: never."""
    newest = select(func.max(KronosScore.scored_at)).where(KronosScore.symbol == ALL_SYMBOLS)
    return session.scalar(newest)


def has_scores_table(session: Session) -> bool:
    """Return whether the schema is new enough to have scores."""
    schema, table = inspect(session.connection()), KronosScore.__table__
    if not schema.has_table(KronosScore.__tablename__):
        return False
    columns = {column["name"] for column in schema.get_columns(KronosScore.__tablename__)}
    return columns >= {*table.columns.keys()}
