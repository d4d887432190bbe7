"""Active tickers: those that bots hold or watch."""

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
    """Return every ticker in a bot's portfolio, of any quantity, sorted; [] without the table.

    Invalid portfolios are skipped with a warning.
    """
    found: set[str] = set()
    for name, text in stored_portfolios(session):
        try:
            found.update(dict(json.loads(text)))
        except (TypeError, ValueError, RecursionError):  # not a JSON object
            logger.warning(
                "bots.portfolio of %r cannot be read, and its tickers are not known", name
            )
    return sorted(found - {CASH})


def active_tickers(
    settings: Settings, data: DataService, sessions: SessionFactory | None
) -> list[str]:
    """Return the job's default tickers: the source's own, or else those of bots and settings."""
    if listed := data.symbols():
        return listed
    if sessions is None:
        return sorted(settings.extra_symbols)
    with sessions() as session:
        return sorted({*active_symbols(session), *settings.extra_symbols})
