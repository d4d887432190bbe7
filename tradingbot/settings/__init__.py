"""What the environment sets: read once, checked, and passed inward as `Settings`."""

from tradingbot.settings.job import (
    DEFAULT_SOURCE,
    MAX_HORIZON,
    MAX_SAMPLES,
    MAX_SHARDS,
    SOURCES,
    SOURCES_IN_WORDS,
    TEMPERATURE,
    TOP_P,
    PausePolicy,
    Settings,
    check_recipient,
    check_source,
    check_symbols,
    hub_endpoint,
    parse_symbols,
    split_source,
)
from tradingbot.timeouts import Timeouts, default_timeouts, use_timeouts

__all__ = [
    "DEFAULT_SOURCE",
    "MAX_HORIZON",
    "MAX_SAMPLES",
    "MAX_SHARDS",
    "SOURCES",
    "SOURCES_IN_WORDS",
    "TEMPERATURE",
    "TOP_P",
    "PausePolicy",
    "Settings",
    "Timeouts",
    "check_recipient",
    "check_source",
    "check_symbols",
    "default_timeouts",
    "hub_endpoint",
    "parse_symbols",
    "split_source",
    "use_timeouts",
]
