"""Result of a bot's round."""

from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any

import pandas as pd

from tradingbot.bots.account import Fill
from tradingbot.bots.orders import Order
from tradingbot.errors import DataError


@dataclass
class Decision:
    """A decision on one bar."""

    symbol: str
    bar: datetime  # the bar's time
    close: float  # its price
    answer: int  # -1, 0 or 1
    reason: str  # given by the strategy, or empty
    traded_before: bool = False  # whether an earlier round traded on this bar


@dataclass
class Round:
    """Decisions and trades of a round."""

    name: str  # the bot's name
    interval: str
    decisions: list[Decision] = field(default_factory=list)
    left_out: dict[str, DataError] = field(default_factory=dict)  # ticker -> why
    fills: list[Fill] = field(default_factory=list)
    portfolio: dict[str, float] = field(default_factory=dict)  # after the round
    remarks: list[str] = field(default_factory=list)  # other changes to the portfolio
    held_prices: dict[str, float] = field(default_factory=dict)  # prices of earlier holdings
    orders: list[Order] = field(default_factory=list)  # waiting for the next open
    dry_run: bool = False  # whether nothing was stored

    @property
    def prices(self) -> dict[str, float]:
        decided = {decision.symbol: decision.close for decision in self.decisions}
        return {**self.held_prices, **decided}

    @property
    def failed(self) -> dict[str, str]:
        """Return ticker -> why it was skipped."""
        return {symbol: str(error) for symbol, error in self.left_out.items()}

    def to_frame(self) -> pd.DataFrame:
        """Return one row per decision: symbol, bar, close, answer, reason, traded_before."""
        names = [column.name for column in fields(Decision)]
        return pd.DataFrame([vars(decision) for decision in self.decisions], columns=names)

    def counts(self) -> dict[str, int]:
        return {
            "tickers": len(self.decisions) + len(self.left_out),
            "decided": len(self.decisions),
            "failed": len(self.left_out),
            "trades": len(self.fills),
        }

    def details(self) -> dict[str, Any]:
        """Return the JSON for run_logs."""
        decisions = {
            decision.symbol: {
                "bar": decision.bar.isoformat(),
                "close": decision.close,
                "decision": decision.answer,
                "reason": decision.reason,
            }
            for decision in self.decisions
        }
        return {
            "decisions": decisions,
            "failed": self.failed,
            "remarks": self.remarks,
            "orders": [order.to_json() for order in self.orders],
        }
