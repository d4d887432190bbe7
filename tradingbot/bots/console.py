"""Console output and exit code of a bot's round."""

import logging
import sys
import traceback
from collections.abc import Callable
from typing import NoReturn, TypeVar

from tradingbot.bots.account import CASH, MIN_TRADE
from tradingbot.bots.round_result import Decision, Round
from tradingbot.errors import KronosError, StrategyError
from tradingbot.formatting import bar_text, one_line, price_text
from tradingbot.runtime.signals import Stopped, stop_on_signals
from tradingbot.runtime.streams import SafeStream
from tradingbot.runtime.wrapping import width_of, wrapped

Done = TypeVar("Done")


def run_as_command(run: Callable[[], Done], text_of: Callable[[Done], str]) -> NoReturn:
    """Run a round or a backtest, print it, and exit. Exit codes: see `Bot.main`."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    try:
        with stop_on_signals():
            done = run()
            text = wrapped(text_of(done), width_of(sys.stdout))
            SafeStream(sys.stdout).as_text().write(text + "\n")
        sys.exit(0)
    except (KronosError, Stopped) as error:
        if isinstance(error, StrategyError) and error.__cause__ is not None:
            traceback.print_exception(error.__cause__)  # shows where the strategy failed
        stopped = isinstance(error, Stopped)
        message = f"Stopped by {error}" if stopped else f"Error: {error}"
        sys.stderr.write(wrapped(message, width_of(sys.stderr)) + "\n")
        sys.exit(error.exit_code)


def lines(done: Round) -> list[str]:
    """Return the summary of a round for a person."""
    width = max(len(name) for name in ["Ticker", *done.prices, *done.left_out])
    heading = f"{done.name} (dry run: nothing is stored)" if done.dry_run else done.name
    text = [heading, "", f"{'Ticker':<{width}}  {'Bar':<14}  {'Close':>9}  Decision"]
    for decision in done.decisions:
        bar, close = bar_text(decision.bar, done.interval), price_text(decision.close)
        text.append(f"{decision.symbol:<{width}}  {bar}  {close:>9}  {_decision_text(decision)}")
    for symbol, error in done.left_out.items():
        text.append(f"{symbol:<{width}}  left out: {error.reason}")
    text.append("")
    trades = [
        f"{'bought' if fill.side == 'buy' else 'sold'} {fill.quantity:.6g} {fill.symbol} "
        f"at {price_text(fill.price)}, costs {fill.costs:.2f}"
        for fill in done.fills
    ]
    for number, trade in enumerate(trades or ["none"]):
        text.append(f"{'Trades' if not number else '':<9}  {trade}")
    for number, symbol in enumerate(_ordered(done)):
        text.append(f"{'Orders' if not number else '':<9}  {symbol}")
    text.append(f"Portfolio  {_portfolio(done)}")
    text += [
        f"{'Note' if not number else '':<9}  {remark}" for number, remark in enumerate(done.remarks)
    ]
    return text


def _decision_text(decision: Decision) -> str:
    word = {1: "buy", 0: "keep", -1: "sell"}[decision.answer]
    if decision.traded_before:
        word += " (traded on this bar before, and left alone)"
    return f"{word}: {one_line(decision.reason)}" if decision.reason else word


def _ordered(done: Round) -> list[str]:
    """Return what is traded at the next open, as far as known."""
    newest = {order.symbol: order.decision for order in done.orders}
    held = {symbol for symbol, amount in done.portfolio.items() if amount}
    has_cash = done.portfolio[CASH] >= MIN_TRADE
    sold = [symbol for symbol, want in newest.items() if want < 0 and symbol in held]
    bought = [
        symbol for symbol, want in newest.items() if want > 0 and (has_cash or symbol not in held)
    ]
    return [f"sell {symbol} at its next open" for symbol in sold] + [
        f"buy {symbol} at its next open" for symbol in bought
    ]


def _portfolio(done: Round) -> str:
    """Format a portfolio: USD 5,000.00; AAPL 11.2 = 4,995.00; 9,995.00 in all."""
    parts, total = [f"{CASH} {done.portfolio[CASH]:,.2f}"], done.portfolio[CASH]
    for symbol, quantity in sorted(done.portfolio.items()):
        if symbol == CASH or not quantity:
            continue
        price = done.prices.get(symbol)
        if price is None:
            parts.append(f"{symbol} {quantity:.6g} (no price now)")
            continue
        total += quantity * price
        parts.append(f"{symbol} {quantity:.6g} = {quantity * price:,.2f}")
    if len(parts) > 1:
        parts.append(f"{total:,.2f} in all")
    return "; ".join(parts)
