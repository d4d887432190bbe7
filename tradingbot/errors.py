"""Everything that can go wrong, as a tree to catch from.

KronosError                 the root; its text is one line for a person
├── ConfigError             a setting is wrong: exit code 2, nothing was touched
├── DataError               the candles of one ticker; the other tickers go on
│   ├── UnknownSymbol       the source has never heard of it
│   ├── TooFewBars          known, but its history is too short to forecast from
│   └── DataUnavailable     the source is out of reach or limits us: may pass
├── SpaceError              the Space could not answer
│   ├── SpaceUnavailable    out of reach, asleep, overloaded or too slow: may pass
│   └── SpaceRejected       it answered, and refuses this request: will not pass
├── BotError                a bot's round failed, and nothing was traded
│   ├── StrategyError       its decisionFunction raised, or answered neither -1, 0 nor 1
│   └── TradeRefused        a trade that cannot be: no such price, not so much cash
├── AIError                 the language model is not available, or came to no answer
├── HubError                the Hub could not start, stop or describe the Space
│   └── HubRefused          the token or the Space's name is wrong: exit code 2
├── DatabaseError           the database is out of reach or refuses
│   └── DatabaseUnavailable a lost connection, a restart, a lock of others: may pass
├── RunOvertaken            another run of the job has taken this one's place
└── RunStuck                another run of the job holds its lock and does nothing
"""

from typing import ClassVar


class KronosError(Exception):
    """Root of the tree. `str(error)` names the thing, the value and the way out, in one line.

    Attributes:
        symbol: The ticker that the error concerns, or None. `str(error)` then begins with it.
        reason: The text without the ticker.
        exit_code: What a command ends with after this error.
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
    """The data source is out of reach or limits its callers; trying later may help."""


class SpaceError(KronosError):
    """The Space could not answer."""


class SpaceUnavailable(SpaceError):
    """The Space is out of reach, asleep, overloaded or too slow; trying later may help."""


class SpaceRejected(SpaceError):
    """The Space refuses this request; sending it again will not help."""


class BotError(KronosError):
    """A bot's round failed; nothing was traded."""


class StrategyError(BotError):
    """A bot's decision function raised, or answered neither -1, 0 nor 1."""


class TradeRefused(BotError):
    """A trade or a portfolio that cannot be: no such price, not so much cash."""


class AIError(KronosError):
    """The language model is not available, or came to no answer."""


class HubError(KronosError):
    """The Hugging Face Hub could not start, stop or describe the Space."""


class HubRefused(HubError):
    """The Hub refuses the token or does not know the Space."""

    exit_code = 2


class DatabaseError(KronosError):
    """The database is out of reach or refuses."""


class DatabaseUnavailable(DatabaseError):
    """The connection was lost, or the server restarts, is full or locked; trying later may help."""


class RunOvertaken(KronosError):
    """The lock of this run was lost with the database's connection, and another run has it now."""


class RunStuck(KronosError):
    """Another run holds this run's lock and shows no sign of work."""
