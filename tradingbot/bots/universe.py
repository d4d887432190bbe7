"""The active tickers: which ones the bots hold or watch."""

import json
import logging
from typing import TYPE_CHECKING

from sqlalchemy import Text, cast, inspect, select
from sqlalchemy.orm import Session

from tradingbot.bots.account import CASH
from tradingbot.persistence.models import BotRow
from tradingbot.settings import Settings
from tradingbot.typing import SessionFactory

if TYPE_CHECKING:
    from tradingbot.data.service import DataService


logger = logging.getLogger(__name__)


def active_symbols(session: Session) -> list[str]:
    """Every ticker in a bot's portfolio, whatever the quantity; sorted. [] without the table.

    A portfolio that somebody has edited into something else is left out, with a warning.
    """
    if not inspect(session.connection()).has_table(BotRow.__tablename__):
        return []
    found: set[str] = set()
    for name, text in session.execute(select(BotRow.name, cast(BotRow.portfolio, Text))):
        try:
            found.update(dict(json.loads(text)))
        except (TypeError, ValueError):  # no object, no JSON
            logger.warning(
                "bots.portfolio of %r cannot be read, and its tickers are not known", name
            )
    return sorted(found - {CASH})


def active_tickers(
    settings: Settings, data: "DataService", sessions: SessionFactory | None
) -> list[str]:
    """What the job forecasts unless it is told: the source's own tickers, or the bots'."""
    if settings.data_source != "yahoo":
        return data.symbols()

    if sessions is None:
        return sorted(settings.extra_symbols)
    with sessions() as session:
        return sorted({*active_symbols(session), *settings.extra_symbols})
