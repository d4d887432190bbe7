"""Strategies: the decision rule, the bars it may see, and its possible answers.

A `Strategy` does no I/O. `tradingbot.bots.bot.Bot` adds candles, a database and trades.
"""

import difflib
import inspect
import pickle
import re
import threading
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from numbers import Real
from typing import Any, ClassVar, Literal, Self, SupportsIndex, cast

import pandas as pd

from tradingbot.bots.account import CASH, Account, Costs
from tradingbot.errors import ConfigError, KronosError, StrategyError
from tradingbot.formatting import one_line
from tradingbot.runtime.decisions import decision_of
from tradingbot.runtime.lookahead import in_backtest, is_deciding
from tradingbot.settings import Settings, parse_symbols

DAYS = {"d": 1, "wk": 7, "mo": 30.5, "y": 365.25}  # per unit
FillAt = Literal["open", "close"]  # at the next bar's open, or the close of the decision's bar
NEAR = 0.8  # similarity above which a keyword counts as misspelt
A_CENTURY = 36_525  # days; older candles do not exist, and Timedelta has a limit


class Strategy:
    """A `decisionFunction` and the data available to it.

    `name` identifies the bot. It watches `tickers` in bars of `interval` (1d, or minutes and hours:
    15m, 1h), over the newest `period` (10d, 4wk, 6mo, 1y, max). Decisions are traded at the open of
    the next bar, or, with `fill="close"`, at the close of their own bar. That is optimistic: when a
    close is known, it is too late to trade at it. `params` are the strategy's own keywords. Raises
    ConfigError for invalid arguments, such as no tickers.
    """

    _per_object: ClassVar[frozenset[str]] = frozenset({"_one_at_a_time", "made_with"})  # per object
    # constructor arguments; None: unknown
    made_with: tuple[tuple[Any, ...], dict[str, Any]] | None = None

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        made = super().__new__(cls)
        made.made_with = args, kwargs
        return made

    def rebuilt(self, keywords: Mapping[str, Any]) -> Self:
        """Return a new object with the same arguments, except these keywords."""
        args, kwargs = self.made_with or ((), {})
        given = inspect.signature(type(self).__init__).bind(self, *args, **kwargs)
        catch_all = next(
            (p.name for p in given.signature.parameters.values() if p.kind is p.VAR_KEYWORD), ""
        )
        for name, value in keywords.items():
            if name in given.signature.parameters:
                given.arguments[name] = value
            else:
                given.arguments.setdefault(catch_all, {})[name] = value
        return type(self)(*given.args[1:], **given.kwargs)

    def __init__(
        self,
        name: str,
        symbol: str | Iterable[str] | None = None,
        tickers: Iterable[str] | None = None,
        interval: str = "1d",
        period: str = "1y",
        *,
        fill: FillAt = "open",
        settings: Settings | None = None,
        **params: Any,
    ) -> None:
        if not isinstance(name, str) or not name.strip() or name.strip() == "kronosbot":
            raise ConfigError(f"a bot named {name!r}: expected another name, such as 'my-bot'")
        if not name.isprintable():  # it appears in tables, logs and terminals
            raise ConfigError(f"a bot named {name!r}: expected letters, digits, spaces and signs")
        self.name = name.strip()
        self.tickers = tickers_of(self.name, symbol, tickers)
        self.symbol = self.tickers[0]  # the ticker of the current decision
        self.reason = ""  # a decisionFunction may set it to explain itself
        self.interval = _interval(interval)
        self.period = period
        self.fill = checked_fill(fill)
        refuse_misspelt(self.name, type(self), params)
        self.params = params
        self.settings = settings or Settings.from_env()
        self._period_days = _days(period)  # None for "max"
        # state of a decision, for one caller at a time
        self._one_at_a_time = threading.RLock()
        self._replayed = False  # whether a backtest is running
        self._account: Account | None = None  # current portfolio
        self._seen: tuple[pd.DataFrame, int] | None = None  # bars, and how many of them are visible

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name not in self._per_object}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self.made_with = None
        self._one_at_a_time = threading.RLock()

    def __copy__(self) -> Self:
        copied = type(self).__new__(type(self))
        copied.__setstate__(self.__getstate__())
        copied.made_with = self.made_with
        return copied

    def __reduce_ex__(self, protocol: SupportsIndex) -> Any:
        for name, value in self.__getstate__().items():
            try:
                pickle.dumps(value)
            except Exception as error:
                raise pickle.PicklingError(
                    f"bot {self.name} cannot be pickled, because of its {name.lstrip('_')}: "
                    f"{one_line(error)}; make such things in the process that uses them"
                ) from error
        return super().__reduce_ex__(protocol)

    def decisionFunction(self, row: pd.Series) -> int:
        """Return 1 to hold `self.symbol`, -1 to sell all of it, 0 to leave it as it is.

        `row` is the newest complete bar: open, high, low, close, volume (if known); its `name` is
        the bar's time. `self.history` ends with it. An exception, or any other answer, ends the
        round without trades.
        """
        raise NotImplementedError(f"{type(self).__name__} has no decisionFunction")

    @property
    def history(self) -> pd.DataFrame:
        """Return the bars of `self.symbol` up to and including the current one."""
        frame, end = self._bars_seen("history is available in a decision only")
        return frame.iloc[:end]

    @property
    def portfolio(self) -> dict[str, float]:
        """Return a copy of the portfolio, `{"USD": cash, "AAPL": quantity}`."""
        if self._account is None:
            raise RuntimeError("Strategy.portfolio is available in a decision only")
        return dict(self._account.portfolio)

    @property
    def cost_rate(self) -> float:
        """Return the cost of a trade as a share of its value."""
        return self.settings.slippage_bps / 10_000

    @property
    def costs(self) -> Costs:
        """Return the costs of trades, including the commission."""
        return Costs(self.cost_rate, self.settings.commission)

    @contextmanager
    def deciding(self, account: Account) -> Iterator[None]:
        """Within this block `decide` may be called, and the portfolio is that of `account`.

        A second thread that uses the same object waits for the first.
        """
        with self._one_at_a_time, decision_of(self):
            self._account, self._replayed = account, in_backtest()
            try:
                yield
            finally:
                self._account, self._seen, self._replayed = None, None, False

    def decide(self, symbol: str, frame: pd.DataFrame, end: int) -> int:
        """Return -1, 0 or 1 for the bar before position `end`. StrategyError if the rule fails."""
        self.symbol, self.reason, self._seen = symbol, "", (frame, end)
        row = frame.iloc[end - 1]
        try:
            answer = self.decisionFunction(row)
        except KronosError:
            raise
        except (Exception, SystemExit) as error:  # sys.exit() would end the process with 0
            message = one_line(error)
            problem = f"{type(error).__name__}: {message}" if message else type(error).__name__
            raise StrategyError(f"{self._where(row)}: {problem}; nothing was traded") from error
        # not a bool: a rule that returns True or False could never sell
        if not isinstance(answer, Real) or isinstance(answer, bool) or answer not in (-1, 0, 1):
            raise StrategyError(
                f"{self._where(row)}: decisionFunction answered {one_line(repr(answer))}; "
                "expected -1, 0 or 1; nothing was traded"
            )
        return int(answer)

    def _bars_seen(self, attribute: str) -> tuple[pd.DataFrame, int]:
        """Return the bars and how many are visible. RuntimeError outside a decision."""
        if self._seen is None:
            raise RuntimeError(f"Bot.{attribute}, in decisionFunction")
        return self._seen

    def _refuse_while_deciding(self, action: str) -> None:
        if is_deciding(self):
            raise RuntimeError(
                f"{action}: not allowed in decisionFunction; its result, -1, 0 or 1, is traded"
            )

    def _where(self, row: pd.Series) -> str:
        return f"{self.name}, deciding on {self.symbol} of {row.name}"


def keywords_of(kind: type, *, from_outside: bool = False) -> set[str]:
    """Return the constructors' keywords, following those that pass on **kwargs."""
    known: set[str] = set()
    for base in kind.__mro__:
        if "__init__" in vars(base) and base is not object:
            parameters = inspect.signature(base.__init__).parameters.values()  # type: ignore[misc]
            known |= {p.name for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)}
            if from_outside and all(p.kind is not p.VAR_KEYWORD for p in parameters):
                break
    return known - {"self"}


def refuse_misspelt(
    bot: str, kind: type, params: Iterable[str], known: Collection[str] = ()
) -> None:
    """Raise ConfigError for a bot's keyword that resembles one of the class, or of `known`."""
    names = sorted({*keywords_of(kind), *known})
    for name in params:
        if near := difflib.get_close_matches(name.lower(), names, n=1, cutoff=NEAR):
            raise ConfigError(
                f"bot {bot}: {name}=: did you mean {near[0]}=? (If it is a parameter of your own, "
                "give it a name that is less like it)"
            )


def tickers_of(
    name: str, symbol: str | Iterable[str] | None, tickers: Iterable[str] | None
) -> tuple[str, ...]:
    """Return each ticker once, `symbol` first. Text with commas is a list too."""
    tickers = [] if tickers is None else tickers
    if not isinstance(tickers, Iterable):
        raise ConfigError(f"bot {name}: tickers={tickers!r}: expected ['SPY', 'GLD']")
    given = tickers.split(",") if isinstance(tickers, str) else list(tickers)
    if isinstance(symbol, str):
        given.insert(0, symbol)
    elif isinstance(symbol, Iterable):
        given = [*symbol, *given]
    elif symbol is not None:
        raise ConfigError(f"bot {name}: symbol={symbol!r}: expected text, such as 'SPY'")
    if not all(isinstance(ticker, str) for ticker in given):
        raise ConfigError(f"bot {name}: tickers {given}: expected text, such as 'SPY'")
    found = parse_symbols(",".join(given))
    if not found:
        raise ConfigError(f"bot {name} has no tickers: give symbol='SPY' or tickers=['SPY', 'GLD']")
    if CASH in found:
        raise ConfigError(f"bot {name}: {CASH} is the cash of a portfolio and no ticker")
    return found


def _interval(interval: str) -> str:
    if re.fullmatch(r"1d|[1-9]\d{0,3}[mh]", str(interval)):
        return interval
    raise ConfigError(f"interval={interval!r}: expected 1d, or minutes or hours as 15m or 1h")


def checked_fill(fill: Any) -> FillAt:
    """Return `fill`. Raises ConfigError for an invalid one."""
    if fill in ("open", "close"):
        return cast("FillAt", fill)
    raise ConfigError(f"fill={fill!r}: expected open (of the next bar) or close (optimistic)")


def _days(period: str) -> float | None:
    """Convert '6mo' to days; 'max' to None."""
    if period == "max":
        return None
    match = re.fullmatch(r"([1-9]\d{0,3})(d|wk|mo|y)", str(period))
    if match is None:
        raise ConfigError(f"period={period!r}: expected 10d, 4wk, 6mo, 1y or max")
    return min(int(match[1]) * DAYS[match[2]], A_CENTURY)
