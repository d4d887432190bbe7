"""Read the newest forecasts of many tickers from the ledger at once."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import fields
from datetime import datetime
from itertools import accumulate, groupby, pairwise
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from tradingbot.persistence.ledger import (
    LedgerPart,
    LedgerRows,
    first_complete,
    ledger_parts,
    rows_as_arrays,
    select_rows,
)
from tradingbot.persistence.loose_scan import for_each_key
from tradingbot.persistence.models import KronosForecast
from tradingbot.typing import SessionFactory

_LEDGER = KronosForecast
_OLDEST_OF_EACH = """
    SELECT symbol, interval, model_name, oldest.as_of FROM keys, LATERAL (
      SELECT as_of FROM kronos_forecasts ledger
      WHERE ledger.symbol = keys.symbol AND ledger.interval = keys.interval
        AND ledger.model_name = keys.model_name
        AND ledger.as_of BETWEEN '1900-01-01' AND '2200-01-01'
      ORDER BY as_of LIMIT 1
    ) oldest
"""


def ledger_keys(session: Session, *, symbols: Collection[str] | None = None) -> list[LedgerPart]:
    """Return the parts of the ledger as `ledger_parts` does.

    On Postgres only an index is read. Parts with only damaged rows are then included, and `count`
    is 0, which means unknown.
    """
    if session.connection().dialect.name != "postgresql":
        return ledger_parts(session, symbols=symbols)
    query = for_each_key(_LEDGER.__tablename__, _OLDEST_OF_EACH)
    columns = (_LEDGER.symbol, _LEDGER.interval, _LEDGER.model_name, _LEDGER.as_of)
    found = [
        LedgerPart(row[0], row[1], row[2], row[3], 0)
        for row in session.execute(query.columns(*columns))
    ]
    return sorted(
        (part for part in found if symbols is None or part.symbol in symbols),
        key=lambda part: (part.symbol, part.interval, part.model_name),
    )


def count_forecasts(session: Session, part: LedgerPart) -> int:
    """Count the forecasts of this part."""
    query = select(func.count()).where(
        _LEDGER.symbol == part.symbol,
        _LEDGER.interval == part.interval,
        _LEDGER.model_name == part.model_name,
    )
    return session.scalar(query.select_from(_LEDGER)) or 0


def read_open(
    sessions: SessionFactory, since: Mapping[LedgerPart, datetime]
) -> dict[LedgerPart, LedgerRows]:
    """Return the newest forecasts of each part: those with an `as_of` from `since[part]` on.

    The result has no entry for a part without such forecasts.
    """
    found: dict[LedgerPart, LedgerRows] = {}
    for (interval, model), parts in groupby(
        sorted(since, key=lambda part: (part.interval, part.model_name, part.symbol)),
        key=lambda part: (part.interval, part.model_name),
    ):
        by_symbol = {part.symbol: part for part in parts}
        query = select_rows(
            _LEDGER.symbol.in_(list(by_symbol)),
            _LEDGER.interval == interval,
            _LEDGER.model_name == model,
            _LEDGER.as_of >= min(since[part] for part in by_symbol.values()),
        )
        with sessions() as session:
            rows = session.execute(query).all()
        of_part = {
            part: first_complete(part, [row for row in part_rows if row.as_of >= since[part]])
            for symbol, part_rows in groupby(rows, key=lambda row: row.symbol)
            for part in [by_symbol[symbol]]
        }
        found |= _split({part: part_rows for part, part_rows in of_part.items() if part_rows})
    return found


def _split(rows: Mapping[LedgerPart, Sequence[Any]]) -> dict[LedgerPart, LedgerRows]:
    """Return the rows of each part as arrays. All rows are decoded together, which is faster."""
    if not rows:
        return {}
    arrays = rows_as_arrays([row for part_rows in rows.values() for row in part_rows])
    ends = accumulate(map(len, rows.values()), initial=0)
    return {
        part: LedgerRows(*(getattr(arrays, field.name)[start:end] for field in fields(LedgerRows)))
        for part, (start, end) in zip(rows, pairwise(ends), strict=True)
    }
