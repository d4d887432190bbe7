"""The commission on paper trades, in addition to the slippage."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

from tradingbot.settings.variables import variable

MAX_COMMISSION = 10_000.0  # USD


@dataclass(frozen=True)
class Commission:
    """Commission of a trade in USD: max(minimum, per_trade + per_share x shares), at least 0."""

    per_trade: float = variable(
        "KRONOS_COMMISSION", 0.0, "commission of a paper trade in USD", shown="0"
    )
    per_share: float = variable(
        "KRONOS_COMMISSION_PER_SHARE", 0.0, "commission per share in USD", shown="0"
    )
    minimum: float = variable(
        "KRONOS_COMMISSION_MINIMUM",
        0.0,
        "minimum commission of a paper trade in USD",
        shown="0",
    )

    @classmethod
    def read(cls, number: Callable[[str, float, float, float], float]) -> Self:
        """Read the variables with `number(name, default, low, high)`."""
        return cls(
            per_trade=number("KRONOS_COMMISSION", cls.per_trade, 0, MAX_COMMISSION),
            per_share=number("KRONOS_COMMISSION_PER_SHARE", cls.per_share, 0, MAX_COMMISSION),
            minimum=number("KRONOS_COMMISSION_MINIMUM", cls.minimum, 0, MAX_COMMISSION),
        )

    def of(self, shares: float) -> float:
        """Return the commission in USD of a trade of `shares` shares."""
        return max(self.minimum, self.per_trade + self.per_share * shares)
