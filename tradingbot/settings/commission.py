"""What a broker asks for a paper trade besides the slippage."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

from tradingbot.settings.variables import variable

MOST = 10_000.0  # USD


@dataclass(frozen=True)
class Commission:
    """max(minimum, per_trade + per_share x shares), in USD, from 0 on."""

    per_trade: float = variable("KRONOS_COMMISSION", 0.0, "USD for a trade, besides", shown="0")
    per_share: float = variable(
        "KRONOS_COMMISSION_PER_SHARE", 0.0, "USD for each share of it, besides", shown="0"
    )
    minimum: float = variable(
        "KRONOS_COMMISSION_MINIMUM",
        0.0,
        "USD for a trade, if the other two come to less",
        shown="0",
    )

    @classmethod
    def read(cls, number: Callable[[str, float, float, float], float]) -> Self:
        """By `number(name, default, low, high)` of each variable."""
        return cls(
            per_trade=number("KRONOS_COMMISSION", cls.per_trade, 0, MOST),
            per_share=number("KRONOS_COMMISSION_PER_SHARE", cls.per_share, 0, MOST),
            minimum=number("KRONOS_COMMISSION_MINIMUM", cls.minimum, 0, MOST),
        )

    def of(self, shares: float) -> float:
        """What a trade of so many shares costs."""
        return max(self.minimum, self.per_trade + self.per_share * shares)
