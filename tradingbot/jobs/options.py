"""The options of one run of the job."""

from dataclasses import dataclass

from tradingbot.jobs.sharding import WHOLE, Shard
from tradingbot.settings import TEMPERATURE, TOP_P


@dataclass(frozen=True)
class JobOptions:
    """The options of one run."""

    symbols: tuple[str, ...] = ()  # only these tickers; empty: the active ones
    shard: Shard = WHOLE  # only this part of the tickers
    force: bool = False  # forecast again what is already stored
    dry_run: bool = False  # forecast, but store nothing
    local: bool = False  # use a Space on this machine
    database_url: str | None = None  # None: from the environment
    model: str | None = None  # model to load with `local`, or else one that the Space must have
    temperature: float = TEMPERATURE
    top_p: float = TOP_P
