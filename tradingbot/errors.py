"""All errors of the package, as a tree.

A transient error may disappear when the caller tries again later. A Space is a web app on the
Hugging Face Hub that runs the model.

KronosError                 the root; its text is one line for a person
├── ConfigError             a setting is wrong: exit code 2, nothing was changed
├── DataError               no usable candles for one ticker; the other tickers continue
│   ├── UnknownSymbol       the source does not know the ticker
│   ├── TooFewBars          the history is too short for a forecast
│   └── DataUnavailable     the source is out of reach or limits requests: transient
├── SpaceError              the Space could not answer
│   ├── SpaceUnavailable    out of reach, asleep, overloaded or too slow: transient
│   └── SpaceRejected       the Space refuses this request: permanent
├── BotError                a bot's round failed, and nothing was traded
│   ├── StrategyError       its decisionFunction raised, or did not return -1, 0 or 1
│   └── TradeRefused        an impossible trade, such as one without enough cash
├── AIError                 the language model is not available, or gave no answer
├── HubError                the Hub could not start, stop or describe the Space
│   └── HubRefused          the token or the Space's name is wrong: exit code 2
├── DatabaseError           the database is out of reach or refuses
│   └── DatabaseUnavailable a lost connection, a restart, a lock of others: transient
├── RunOvertaken            another run of the job has replaced this one
└── RunStuck                another run of the job holds its lock and does nothing
"""

from typing import ClassVar


class KronosError(Exception):
    """Root of the tree. `str(error)` is one line: what failed, the value, and what to do.

    Attributes:
        symbol: The ticker that the error concerns, or None. `str(error)` begins with it.
        reason: The text without the ticker.
        exit_code: The exit code of a command that ends with this error.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, reason: str = "", *, symbol: str | None = None) -> None:
        super().__init__(reason if symbol is None else f"{symbol}: {reason}")
        self.symbol = symbol
        self.reason = reason


class ConfigError(KronosError):
    """A setting is wrong or missing."""

    exit_code = 2


class DataError(KronosError):
    """No usable candles for one ticker."""


class UnknownSymbol(DataError):
    """The data source does not know the ticker."""


class TooFewBars(DataError):
    """The ticker's history is shorter than a forecast needs."""


class DataUnavailable(DataError):
    """The data source is out of reach or limits requests; trying later may help."""


class SpaceError(KronosError):
    """The Space could not answer."""


class SpaceUnavailable(SpaceError):
    """The Space is out of reach, asleep, overloaded or too slow; trying later may help."""


class SpaceRejected(SpaceError):
    """The Space refuses this request; sending it again will not help."""


class BotError(KronosError):
    """A bot's round failed; nothing was traded."""


class StrategyError(BotError):
    """A bot's decision function raised, or did not return -1, 0 or 1."""


class TradeRefused(BotError):
    """An impossible trade or portfolio: the price is not valid, or the cash is not enough."""


class AIError(KronosError):
    """The language model is not available, or gave no answer."""


class HubError(KronosError):
    """The Hugging Face Hub could not start, stop or describe the Space."""


class HubRefused(HubError):
    """The Hub refuses the token or does not know the Space."""

    exit_code = 2


class DatabaseError(KronosError):
    """The database is out of reach or refuses."""


class DatabaseUnavailable(DatabaseError):
    """The connection was lost, or the server is restarting, full or locked: transient."""


class RunOvertaken(KronosError):
    """The connection to the database broke, and another run now holds this run's lock."""


class RunStuck(KronosError):
    """Another run holds this run's lock and shows no activity."""
