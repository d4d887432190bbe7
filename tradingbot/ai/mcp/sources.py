"""The data sources of the tools: one database, one source of candles, one Space."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace

import pandas as pd
from sqlalchemy.orm import Session

from tradingbot.ai.forecast_answer import as_ticker
from tradingbot.ai.forecast_document import ForecastDocument
from tradingbot.ai.mcp.documents import SpaceState
from tradingbot.ai.sanitising import MOST_NAME
from tradingbot.client import KronosClient
from tradingbot.data.service import DataService
from tradingbot.errors import DatabaseError, DataError, KronosError
from tradingbot.formatting import quoted
from tradingbot.jobs.status import REMEDY, Status, read_status
from tradingbot.persistence.engine import read_only_session
from tradingbot.persistence.runs import last_source
from tradingbot.persistence.url import database_exists, redact
from tradingbot.settings import Settings, default_timeouts

PAST = 3  # bars before a forecast to draw, per bar of the forecast

Closes = list[tuple[str, float]]  # session and close in today's prices


class ToolError(KronosError):
    """A call failed. The text says why, and what to ask instead."""


@dataclass(frozen=True)
class Sources:
    """The data sources of the tools. Nothing is opened before it is needed."""

    given: Settings
    url: str  # of the database
    source: str | None  # source of candles; None: that of the last run, or else of the settings

    @contextmanager
    def session(self) -> Iterator[Session]:
        """Yield a read-only session. Raise DatabaseError if there is no database."""
        if not database_exists(self.url):
            raise DatabaseError(f"there is no {redact(self.url)} yet: {REMEDY}")
        with read_only_session(self.url) as session:
            yield session

    def settings(self) -> Settings:
        source = self.source
        if source is None:
            with suppress(DatabaseError), self.session() as session:
                source = last_source(session)
        return self.given if source is None else replace(self.given, data_source=source)

    def data(self) -> DataService:
        settings = self.settings()
        return DataService(
            settings.data_source,
            horizon=settings.horizon,
            timeouts=settings.timeouts,
            max_jump=settings.max_jump,
        )

    def closes(self, forecast: ForecastDocument) -> Closes:
        """Return the closes before and after a forecast, or [] if unavailable."""
        horizon = forecast.predictions[-1].target_date - forecast.as_of
        try:
            known = self.data().closes(forecast.symbol, since=forecast.as_of - PAST * horizon)
        except DataError:
            return []
        known = known[known.index <= forecast.predictions[-1].target_date]
        days = pd.DatetimeIndex(known.index).strftime("%Y-%m-%d")
        return list(zip(days, known.tolist(), strict=True))

    def client(self, data: DataService | None = None) -> KronosClient:
        """Return a client of the Space. The caller closes it."""
        patience = default_timeouts().ai_space
        return KronosClient(data=data, settings=self.given, sessions=self.session, timeout=patience)

    def status(self) -> Status:
        return read_status(self.url, self.given, source=self.source, max_age=1)

    def space(self) -> SpaceState:
        """Return whether the Space responds."""
        try:
            with self.client() as client:
                return SpaceState(up=True, model=str(client.health()["model"]), message=None)
        except KronosError as error:
            return SpaceState(up=False, model=None, message=quoted(error.reason, 300))


def ticker_of(symbol: str) -> str:
    """Return `as_ticker(symbol)`. Raise ToolError if it is not a ticker."""
    ticker = as_ticker(symbol)
    if ticker is None:
        raise ToolError(
            f"symbol={quoted(symbol, MOST_NAME)!r} is not a ticker: ask again with the ticker as "
            "on Yahoo Finance, such as AAPL, 7203.T or BTC-USD."
        )
    return ticker
