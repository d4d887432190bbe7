"""The portfolio arithmetic, compared with hand calculations and tested as properties."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tradingbot.bots.account import CASH, MIN_TRADE, Account, Costs, Fill
from tradingbot.errors import TradeRefused
from tradingbot.settings.commission import Commission

TICKERS = ["AAPL", "IBM", "MSFT"]


def test_a_purchase_spends_the_cash_on_units_and_costs() -> None:
    account = Account({"USD": 1_000.0}, {"AAPL": 100.0}, 0.01)
    fill = account.buy("AAPL", 505.0)
    assert fill == Fill("AAPL", "buy", 5.0, 100.0, 5.0)  # 5 units for 500, plus 1 % costs
    assert account.portfolio == {"USD": 495.0, "AAPL": 5.0}


def test_a_sale_yields_its_value_less_costs() -> None:
    account = Account({"USD": 0.0, "AAPL": 5.0}, {"AAPL": 100.0}, 0.01)
    assert account.sell("AAPL", 2.0) == Fill("AAPL", "sell", 2.0, 100.0, 2.0)
    assert account.portfolio == {"USD": 198.0, "AAPL": 3.0}
    account.sell("AAPL")
    assert account.portfolio == {"USD": 495.0, "AAPL": 0.0}
    assert account.sell("AAPL") is None


def test_without_costs_wanted_tickers_are_bought_evenly() -> None:
    account = Account({"USD": 900.0}, {"AAPL": 100.0, "IBM": 50.0, "MSFT": 10.0}, 0.0)
    account.follow({"AAPL": 1, "IBM": 0, "MSFT": 1})
    assert account.portfolio == {"USD": 0.0, "AAPL": 4.5, "MSFT": 45.0}


def test_a_new_ticker_rebalances_all_holdings() -> None:
    owned = {"USD": 0.0, "AAPL": 6.0, "IBM": 6.0}  # 600 and 300
    account = Account(owned, {"AAPL": 100.0, "IBM": 50.0, "MSFT": 10.0}, 0.0)
    account.follow({"AAPL": 0, "IBM": 0, "MSFT": 1})
    assert account.portfolio == {"USD": 0.0, "AAPL": 3.0, "IBM": 6.0, "MSFT": 30.0}


def test_proceeds_stay_in_cash_until_a_ticker_is_wanted() -> None:
    account = Account({"USD": 0.0, "AAPL": 6.0, "IBM": 6.0}, {"AAPL": 100.0, "IBM": 50.0}, 0.0)
    account.follow({"AAPL": -1, "IBM": 0})
    assert account.portfolio == {"USD": 600.0, "AAPL": 0.0, "IBM": 6.0}
    account.follow({"AAPL": 0, "IBM": 1})
    assert account.portfolio == {"USD": 0.0, "AAPL": 0.0, "IBM": 18.0}


def test_holdings_that_are_still_wanted_are_not_traded() -> None:
    account = Account({"USD": 0.0, "AAPL": 6.0, "IBM": 6.0}, {"AAPL": 120.0, "IBM": 50.0}, 0.0005)
    account.follow({"AAPL": 1, "IBM": 1})
    assert account.fills == []


def test_a_ticker_without_a_decision_is_unchanged() -> None:
    account = Account({"USD": 100.0, "AAPL": 6.0}, {"IBM": 50.0}, 0.0)
    account.follow({"IBM": 1})
    assert account.portfolio == {"USD": 0.0, "AAPL": 6.0, "IBM": 2.0}


def test_weights_rebalance_the_whole_portfolio() -> None:
    account = Account({"USD": 500.0, "AAPL": 5.0}, {"AAPL": 100.0, "IBM": 50.0}, 0.0)
    account.rebalance({"AAPL": 0.25, "IBM": 0.5})
    assert account.portfolio == {"USD": 250.0, "AAPL": 2.5, "IBM": 10.0}
    account.rebalance({"AAPL": 0.0, "IBM": 0.0})
    assert account.portfolio == {"USD": 1_000.0, "AAPL": 0.0, "IBM": 0.0}


@pytest.mark.parametrize(
    ("order", "says"),
    [
        (lambda a: a.buy("AAPL", 1_001.0), "buying AAPL for 1001.00 USD: the cash is 1000.00 USD"),
        (lambda a: a.buy("AAPL", 0), "an amount above 0"),
        (lambda a: a.buy("AAPL", -5), "an amount above 0"),
        (lambda a: a.buy("AAPL", math.nan), "an amount above 0"),
        (lambda a: a.buy("AAPL", "100"), "buying AAPL for '100' USD"),
        (lambda a: a.buy("TSLA", 5), "TSLA: there is no price to trade it at"),
        (lambda a: a.sell("AAPL", 6), "selling 6 AAPL: 5 are held"),
        (lambda a: a.sell("AAPL", -1), "a quantity above 0"),
        (lambda a: a.rebalance({"AAPL": 1.1}), "1 in all at most"),
        (lambda a: a.rebalance({"AAPL": -0.1}), "shares from 0 on"),
        (lambda a: a.rebalance({"AAPL": math.nan}), "shares from 0 on"),
        (lambda a: a.rebalance({"AAPL": 0.5, "TSLA": 0.5}), "TSLA: there is no price"),
    ],
)
def test_impossible_trades_are_refused_and_change_nothing(order: Any, says: str) -> None:
    account = Account({"USD": 1_000.0, "AAPL": 5.0}, {"AAPL": 100.0}, 0.0005)
    with pytest.raises(TradeRefused, match=says):
        order(account)
    assert account.portfolio == {"USD": 1_000.0, "AAPL": 5.0}
    assert account.fills == []


@pytest.mark.parametrize("price", [0.0, -1.0, math.nan, math.inf])
def test_an_impossible_price_is_refused(price: float) -> None:
    with pytest.raises(TradeRefused, match=r"AAPL at a price of .*: expected a price above 0"):
        Account({"USD": 1.0}, {"AAPL": price}, 0.0)


@pytest.mark.parametrize("rate", [-0.0005, 1.0, 2.0, math.nan])
def test_negative_costs_and_costs_above_the_proceeds_are_refused(
    rate: float,
) -> None:
    with pytest.raises(TradeRefused, match=r"costs of .* times a trade's value: expected from 0"):
        Account({"USD": 1.0, "AAPL": 1.0}, {"AAPL": 100.0}, rate)


def test_numpys_short_floats_are_computed_in_full_precision() -> None:
    account = Account({"USD": 1_000.0, "AAPL": 5.0}, {"AAPL": 100.1}, 0.0005)
    account.buy("AAPL", np.float32(33.0))  # type: ignore[arg-type]
    account.sell("AAPL", np.float32(2.0))  # type: ignore[arg-type]
    assert [type(amount) for amount in account.portfolio.values()] == [float, float]
    costs = sum(fill.costs for fill in account.fills)
    assert account.worth(["AAPL"]) + costs == pytest.approx(1_500.5, rel=1e-12)


@pytest.mark.parametrize("amount", [-1.0, math.nan, math.inf, "5", None, True])
def test_an_impossible_portfolio_is_refused(amount: Any) -> None:
    with pytest.raises(TradeRefused, match="the portfolio has AAPL="):
        Account({"USD": 1.0, "AAPL": amount}, {}, 0.0)


prices = st.floats(min_value=1e-6, max_value=1e6)
portfolios = st.fixed_dictionaries(
    {CASH: st.floats(min_value=0, max_value=1e9)},
    optional={
        ticker: st.just(0.0) | st.floats(min_value=1e-6, max_value=1e6) for ticker in TICKERS
    },
)


@given(
    owned=portfolios,
    rounds=st.lists(
        st.tuples(
            st.fixed_dictionaries(dict.fromkeys(TICKERS, prices)),
            st.dictionaries(st.sampled_from(TICKERS), st.sampled_from([-1, 0, 1])),
        ),
        max_size=6,
    ),
    cost_rate=st.sampled_from([0.0, 0.0005, 0.1]),
)
def test_a_round_changes_the_total_value_only_by_its_costs(
    owned: dict[str, float], rounds: Any, cost_rate: float
) -> None:
    for at, decisions in rounds:
        account = Account(owned, at, cost_rate)
        before = account.worth(TICKERS)
        account.follow(decisions)
        costs = sum(fill.costs for fill in account.fills)
        assert account.worth(TICKERS) + costs == pytest.approx(before, rel=1e-9, abs=1e-9)
        assert min(account.portfolio.values()) >= 0
        assert all(fill.quantity > 0 and fill.costs >= 0 for fill in account.fills)
        assert costs == pytest.approx(
            cost_rate * sum(fill.quantity * fill.price for fill in account.fills),
            abs=1e-6 + 1e-14 * before,  # rounding error of differences between large sums
            rel=1e-6,
        )
        assert all(account.held(symbol) == 0 for symbol, d in decisions.items() if d < 0)
        owned = account.portfolio


@given(owned=portfolios, at=st.fixed_dictionaries(dict.fromkeys(TICKERS, prices)))
def test_after_a_ticker_is_added_all_holdings_have_equal_value(
    owned: dict[str, float], at: dict[str, float]
) -> None:
    account = Account({**owned, "MSFT": 0.0}, at, 0.0)
    account.follow(dict.fromkeys(TICKERS, 0) | {"MSFT": 1})
    held = [ticker for ticker in TICKERS if account.held(ticker)]
    shares = [account.held(ticker) * at[ticker] for ticker in held]
    if "MSFT" in held:
        slack = MIN_TRADE * (len(held) + 1) + 1e-9 * sum(shares)
        assert max(shares) - min(shares) <= slack
        assert account.cash <= slack


@given(
    owned=portfolios,
    at=st.fixed_dictionaries(dict.fromkeys(TICKERS, prices)),
    parts=st.lists(st.integers(min_value=0, max_value=9), min_size=3, max_size=3),
)
def test_any_weights_conserve_the_total_value(
    owned: dict[str, float], at: dict[str, float], parts: list[int]
) -> None:
    account = Account(owned, at, 0.001)
    before = account.worth(TICKERS)
    account.rebalance(
        {t: part / max(1, sum(parts)) for t, part in zip(TICKERS, parts, strict=True)}
    )
    costs = sum(fill.costs for fill in account.fills)
    assert account.worth(TICKERS) + costs == pytest.approx(before, rel=1e-9, abs=1e-9)
    assert min(account.portfolio.values()) >= 0


# commissions ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("commission", "cash", "quantity"),
    [
        (Commission(per_trade=1.0), 1_001.0, 10.0),
        (Commission(per_share=0.5), 1_005.0, 10.0),
        (Commission(per_trade=1.0, per_share=0.5), 1_006.0, 10.0),
        (Commission(per_share=0.5, minimum=20.0), 1_020.0, 10.0),
        (Commission(per_share=0.5, minimum=20.0), 5_025.0, 50.0),
    ],
)
def test_a_purchase_includes_its_commission(
    commission: Commission, cash: float, quantity: float
) -> None:
    account = Account({"USD": cash}, {"AAPL": 100.0}, Costs(0.0, commission))
    fill = account.buy("AAPL")
    assert fill is not None
    assert fill.quantity == pytest.approx(quantity)
    assert fill.costs == pytest.approx(cash - 100 * quantity)
    assert account.cash == 0
    sold = account.sell("AAPL")
    assert sold is not None
    assert sold.costs == pytest.approx(cash - 100 * quantity)


def test_a_commission_above_the_cash_buys_nothing_and_never_exceeds_a_sales_proceeds() -> None:
    costs = Costs(0.0, Commission(per_trade=5.0))
    account = Account({"USD": 5.0, "IBM": 0.01}, {"AAPL": 100.0, "IBM": 50.0}, costs)
    account.follow({"AAPL": 1})
    assert account.buy("AAPL") is None
    with pytest.raises(TradeRefused, match=r"for 3\.00 USD: the commission is higher"):
        account.buy("AAPL", 3.0)
    assert account.fills == []
    account.follow({"IBM": -1})
    [sale] = account.fills
    assert (sale.costs, account.cash) == (0.5, 5.0)


@given(
    owned=st.fixed_dictionaries({name: st.floats(0, 1e6) for name in ("USD", "A", "B", "C")}),
    rounds=st.lists(
        st.fixed_dictionaries({name: st.sampled_from([-1, 0, 1]) for name in "ABC"}), max_size=5
    ),
    fees=st.tuples(st.floats(0, 20), st.floats(0, 1), st.floats(0, 30)),
)
def test_no_commission_increases_or_overdraws_the_cash(
    owned: dict[str, float], rounds: Any, fees: tuple[float, float, float]
) -> None:
    prices = {"A": 1.0, "B": 37.5, "C": 4_000.0}
    account = Account(owned, prices, Costs(0.001, Commission(*fees)))
    before = account.worth("ABC")
    for decisions in rounds:
        account.follow(decisions)
        assert min(account.portfolio.values()) >= 0
    costs = sum(fill.costs for fill in account.fills)
    assert account.worth("ABC") + costs == pytest.approx(before, rel=1e-9, abs=1e-6)
