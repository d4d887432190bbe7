"""Paper accounts: a bot's cash and positions, and the arithmetic of trades.

A portfolio is `{"USD": cash, "AAPL": quantity, …}`; quantities may be fractions. A trade has a
price per unit, and costs: slippage, as a share of the trade's value, and a commission. Cash and
quantities never fall below 0, and up to floating-point rounding a trade preserves

    cash + quantity x price + costs
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from numbers import Real
from typing import Literal

from tradingbot.errors import TradeRefused
from tradingbot.settings.commission import Commission

CASH = "USD"  # the portfolio's key for cash
START_CASH = 10_000.0
MIN_TRADE = 0.01  # USD; a rebalance skips smaller differences


@dataclass(frozen=True)
class Fill:
    """One executed paper trade."""

    symbol: str
    side: Literal["buy", "sell", "dividend"]  # a dividend has its amount per share as `price`
    quantity: float  # always positive
    price: float  # per unit, before costs
    costs: float  # USD


def ticker(symbol: object) -> str:
    """Normalise a ticker: ' aapl ' -> 'AAPL'. TradeRefused for cash, or if it is not text."""
    if not isinstance(symbol, str) or not symbol.strip():
        raise TradeRefused(f"trading {symbol!r}: expected a ticker, such as 'SPY'")
    name = symbol.strip().upper()
    if name == CASH:
        raise TradeRefused(f"trading {CASH}: expected a ticker, and {CASH} is the portfolio's cash")
    return name


@dataclass(frozen=True)
class Costs:
    """Costs of trades: slippage as a share of the value, and the commission."""

    rate: float = 0.0
    commission: Commission = field(default_factory=Commission)

    def of(self, quantity: float, price: float) -> float:
        """Return a trade's costs in USD. A sale costs at most its proceeds, see `Account`."""
        return quantity * price * self.rate + self.commission.of(quantity)

    def quantity_for(self, cash: float, price: float) -> float:
        """Return how many units `cash` buys including costs; 0 if it only covers the commission."""
        fee, value = self.commission, price * (1 + self.rate)
        quantity = (cash - fee.per_trade) / (value + fee.per_share)
        if fee.per_trade + fee.per_share * quantity < fee.minimum:
            quantity = (cash - fee.minimum) / value
        return max(0.0, quantity)


class Account:
    """A portfolio during trading: prices, costs, and the fills so far.

    `prices` are USD per unit; tickers without a price cannot be traded. `costs` given as a number
    are a share of the value: 5 basis points are 0.0005. A sale costs at most its proceeds. Raises
    TradeRefused for an invalid portfolio, price or costs.
    """

    def __init__(
        self, portfolio: Mapping[str, float], prices: Mapping[str, float], costs: Costs | float
    ) -> None:
        for symbol, amount in portfolio.items():
            if not _is_number(amount) or not 0 <= amount < math.inf:
                raise TradeRefused(
                    f"the portfolio has {symbol}={amount!r}: expected a number from 0 on"
                )
        for symbol, price in prices.items():
            if not 0 < price < math.inf:  # also refuses nan
                raise TradeRefused(f"{symbol} at a price of {price}: expected a price above 0")
        costs = costs if isinstance(costs, Costs) else Costs(costs)
        if not 0 <= costs.rate < 1:  # otherwise a sale would cost more than its proceeds
            raise TradeRefused(
                f"costs of {costs.rate:g} times a trade's value: expected from 0 on, less than 1"
            )
        self.portfolio = {CASH: 0.0, **portfolio}
        self.prices = dict(prices)
        self.costs = costs
        self.fills: list[Fill] = []
        self.dividends: list[tuple[int, Fill]] = []  # (number of fills before it, dividend)

    @property
    def cash(self) -> float:
        return self.portfolio[CASH]

    def held(self, symbol: str) -> float:
        """Return the quantity held, or 0."""
        return self.portfolio.get(symbol, 0.0)

    def worth(self, symbols: Iterable[str]) -> float:
        """Return the value of cash and these positions at current prices, in USD."""
        return self.cash + sum(self.held(symbol) * self._price(symbol) for symbol in symbols)

    def buy(self, symbol: str, cash: float | None = None) -> Fill | None:
        """Spend `cash` USD including costs, by default all cash.

        Returns None if there is no cash. Raises TradeRefused if there is less cash.
        """
        if cash is None:
            if self.cash < MIN_TRADE or self.cash <= self.costs.commission.of(0.0):
                return None
            return self._spend(symbol, self.cash)
        if not _is_number(cash) or not 0 < cash < math.inf:
            raise TradeRefused(f"buying {symbol} for {cash!r} USD: expected an amount above 0")
        if cash > self.cash:
            raise TradeRefused(
                f"buying {symbol} for {cash:.2f} USD: the cash is {self.cash:.2f} USD"
            )
        return self._spend(symbol, float(cash))

    def sell(self, symbol: str, quantity: float | None = None) -> Fill | None:
        """Sell `quantity` units, by default all units held.

        Returns None if none are held. Raises TradeRefused if fewer are held.
        """
        held = self.held(symbol)
        if quantity is None:
            return self._sell(symbol, held) if held else None
        if not _is_number(quantity) or not 0 < quantity < math.inf:
            raise TradeRefused(f"selling {quantity!r} {symbol}: expected a quantity above 0")
        if quantity > held:
            raise TradeRefused(f"selling {quantity:g} {symbol}: {held:g} are held")
        return self._sell(symbol, float(quantity))

    def close(self, symbol: str, price: float) -> Fill | None:
        """Sell the whole position at this price without costs, since it is no longer traded."""
        held = self.held(symbol)
        if not held:
            return None
        self.portfolio[symbol] = 0.0
        self.portfolio[CASH] = self.cash + held * price
        fill = Fill(symbol, "sell", held, price, 0.0)
        self.fills.append(fill)
        return fill

    def credit(self, symbol: str, dividend: float) -> Fill | None:
        """Add a dividend, USD per unit, to the cash. Records no fill."""
        held = self.held(symbol)
        if not held:
            return None
        self.portfolio[CASH] = self.cash + held * dividend
        paid = Fill(symbol, "dividend", held, dividend, 0.0)
        self.dividends.append((len(self.fills), paid))
        return paid

    def rebalance(self, weights: Mapping[str, float]) -> None:
        """Trade these tickers until each has its weight, a share of the account's value.

        Sales come first. If costs leave too little cash for all purchases, all are reduced in
        proportion. Other positions stay. The rest remains cash. Raises TradeRefused unless weights
        are at least 0 and their sum is at most 1.
        """
        if not all(_is_number(weight) and weight >= 0 for weight in weights.values()) or not (
            sum(weights.values()) <= 1 + 1e-9
        ):
            raise TradeRefused(
                f"weights {dict(weights)}: expected shares from 0 on, 1 in all at most"
            )
        total = self.worth(weights)
        if not total < math.inf:
            raise TradeRefused(f"{', '.join(weights)}: their value is too large")
        missing = {
            symbol: float(weight) * total - self.held(symbol) * self._price(symbol)
            for symbol, weight in weights.items()
        }
        for symbol, amount in missing.items():
            if weights[symbol] == 0:
                self.sell(symbol)
            elif amount <= -MIN_TRADE:
                self._sell(symbol, min(-amount / self._price(symbol), self.held(symbol)))
        wanted = {symbol: amount for symbol, amount in missing.items() if amount >= MIN_TRADE}
        scale = min(1.0, self.cash / sum(wanted.values())) if wanted else 0.0
        for symbol, amount in wanted.items():
            self._spend_if_worth_it(symbol, min(amount * scale, self.cash))

    def follow(self, decisions: Mapping[str, int]) -> None:
        """Execute decisions: -1 sells a position, 0 keeps it, 1 wants to hold the ticker.

        If a wanted ticker is not held yet, the value is split evenly over all held or wanted ones.
        Otherwise idle cash is split evenly over the held tickers that are wanted.
        """
        for symbol, decision in decisions.items():
            if decision < 0:
                self.sell(symbol)
        wanted = [symbol for symbol, decision in decisions.items() if decision > 0]
        if any(not self.held(symbol) for symbol in wanted):
            among = [symbol for symbol in decisions if self.held(symbol) or symbol in wanted]
            self.rebalance({symbol: 1 / len(among) for symbol in among})
        elif wanted and self.cash >= MIN_TRADE * len(wanted):
            share = self.cash / len(wanted)
            for symbol in wanted:
                self._spend_if_worth_it(symbol, min(share, self.cash))

    def _spend_if_worth_it(self, symbol: str, cash: float) -> None:
        if cash >= MIN_TRADE and self.costs.quantity_for(cash, self._price(symbol)):
            self._spend(symbol, cash)

    def _spend(self, symbol: str, cash: float) -> Fill:
        price = self._price(symbol)
        quantity = self.costs.quantity_for(cash, price)
        if not quantity and self.costs.commission.of(0.0) >= cash:
            raise TradeRefused(f"buying {symbol} for {cash:.2f} USD: the commission is higher")
        if not 0 < quantity < math.inf:
            raise TradeRefused(f"buying {symbol} for {cash:g} USD at {price:g}: too large")
        self.portfolio[CASH] = self.cash - cash
        self.portfolio[symbol] = self.held(symbol) + quantity
        return self._filled("buy", symbol, quantity, max(0.0, cash - quantity * price))

    def _sell(self, symbol: str, quantity: float) -> Fill:
        value = quantity * self._price(symbol)
        costs = min(value, self.costs.of(quantity, self._price(symbol)))
        if not value < math.inf:
            raise TradeRefused(f"selling {quantity:g} {symbol}: too large")
        self.portfolio[symbol] = self.held(symbol) - quantity
        self.portfolio[CASH] = self.cash + (value - costs)
        return self._filled("sell", symbol, quantity, costs)

    def _filled(
        self, side: Literal["buy", "sell"], symbol: str, quantity: float, costs: float
    ) -> Fill:
        fill = Fill(symbol, side, quantity, self._price(symbol), costs)
        self.fills.append(fill)
        return fill

    def _price(self, symbol: str) -> float:
        if symbol not in self.prices:
            raise TradeRefused("there is no price to trade it at", symbol=symbol)
        return self.prices[symbol]


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)
