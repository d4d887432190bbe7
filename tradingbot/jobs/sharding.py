"""Split the tickers into shards, so that several pods can share one night's work."""

import zlib
from dataclasses import dataclass
from typing import Self

from tradingbot.errors import ConfigError
from tradingbot.settings import MAX_SHARDS, Settings


@dataclass(frozen=True)
class Shard:
    """Part `index` of `count`, counted from 0. A ticker is in the same part on every machine."""

    index: int = 0
    count: int = 1

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Return the shard of KRONOS_SHARDS and JOB_COMPLETION_INDEX.

        Raise ConfigError if invalid.
        """
        if settings.shards == 1:  # every pod of an Indexed Job has an index
            return cls()
        index = settings.completion_index
        if index is None:
            raise ConfigError(
                f"KRONOS_SHARDS={settings.shards}, but the part is not set: give --shard I/N, or "
                f"set "
                "JOB_COMPLETION_INDEX, as an Indexed Job does"
            )
        if index >= settings.shards:
            raise ConfigError(
                f"JOB_COMPLETION_INDEX={index}: expected less than "
                f"KRONOS_SHARDS={settings.shards}, since parts count from 0"
            )
        return cls(index, settings.shards)

    def takes(self, symbol: str) -> bool:
        """Return whether this part contains the ticker."""
        # not hash(), which differs between processes
        return zlib.crc32(symbol.encode()) % self.count == self.index

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse `--shard I/N`. Raise ConfigError if invalid."""
        index, _, count = text.partition("/")
        if all(part.isascii() and part.isdecimal() and len(part) < 10 for part in (index, count)):
            made = cls(int(index), int(count))
            if made.index < made.count <= MAX_SHARDS:
                return made
        raise ConfigError(
            f"--shard={text!r}: expected I/N, part I (from 0 to N-1) of N (at most {MAX_SHARDS})"
        )


WHOLE = Shard()  # all tickers
