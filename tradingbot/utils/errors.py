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
├── HubError                the Hub could not start, stop or describe the Space
│   └── HubRefused          the token or the Space's name is wrong: exit code 2
└── DatabaseError           the database is out of reach or refuses
"""


class KronosError(Exception):
    """Root of the tree. `str(error)` names the thing, the value and the way out, in one line."""


class ConfigError(KronosError):
    """A setting is wrong or missing."""


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


class HubError(KronosError):
    """The Hugging Face Hub could not start, stop or describe the Space."""


class HubRefused(HubError):
    """The Hub refuses the token or does not know the Space."""


class DatabaseError(KronosError):
    """The database is out of reach or refuses."""
