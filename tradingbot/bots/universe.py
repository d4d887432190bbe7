"""The active tickers: which ones the bots hold or watch."""

import json
import logging

from sqlalchemy.orm import Session

from tradingbot.bots.account import CASH
from tradingbot.bots.repository import stored_portfolios
from tradingbot.data.service import DataService
from tradingbot.settings import Settings
from tradingbot.typing import SessionFactory

logger = logging.getLogger(__name__)


def active_symbols(session: Session) -> list[str]:
    """Every ticker in a bot's portfolio, whatever the quantity; sorted. [] without the table.

    A portfolio that is no JSON object is left out, with a warning.
    """
    found: set[str] = set()
    for name, text in stored_portfolios(session):
        try:
            found.update(dict(json.loads(text)))
        except (TypeError, ValueError):  # no object, no JSON
            logger.warning(
                "bots.portfolio of %r cannot be read, and its tickers are not known", name
            )
    return sorted(found - {CASH})


def active_tickers(
    settings: Settings, data: DataService, sessions: SessionFactory | None
) -> list[str]:
    """The job's default tickers: the source's own; if it cannot list them, the bots' and extras."""
    if listed := data.symbols():
        return listed
    if sessions is None:
        return sorted(settings.extra_symbols)
    with sessions() as session:
        return sorted({*active_symbols(session), *settings.extra_symbols})
