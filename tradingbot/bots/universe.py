"""The active tickers: which ones the bots hold or watch."""

import json
import logging

from sqlalchemy import Text, cast, inspect, select
from sqlalchemy.orm import Session

from tradingbot.persistence.models import BotRow
from tradingbot.utils.portfolio import CASH

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
