"""What one run of the job is asked to do."""

from dataclasses import dataclass

from tradingbot.jobs.sharding import WHOLE, Shard
from tradingbot.settings import TEMPERATURE, TOP_P


@dataclass(frozen=True)
class JobOptions:
    """What one run is asked to do."""

    symbols: tuple[str, ...] = ()  # these tickers; none: the active ones
    shard: Shard = WHOLE  # only its part of them
    force: bool = False  # forecast again what is already stored
    dry_run: bool = False  # forecast, but store nothing
    local: bool = False  # with a Space of this machine
    database_url: str | None = None  # None: what the environment says
    model: str | None = None  # with `local` the one to load, else the one that the Space must have
    temperature: float = TEMPERATURE
    top_p: float = TOP_P
