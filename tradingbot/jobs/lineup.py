"""Which models a night asks: the champion, whose forecasts are served, and its challengers."""

from dataclasses import dataclass

from tradingbot.jobs.options import JobOptions
from tradingbot.jobs.steps import Forecaster
from tradingbot.settings import Settings
from tradingbot.settings.models import AskedModel
from tradingbot.space.served_models import as_named, find_model, served_models


@dataclass(frozen=True)
class Lineup:
    """The models of a night."""

    champion: str | None = None  # whose forecasts are served, as the Space names it
    asked: str | None = None  # the same where it is not the Space's first, and has to be named
    challengers: tuple[AskedModel, ...] = ()


def lineup_of(space: Forecaster, settings: Settings, options: JobOptions) -> Lineup:
    """KRONOS_MODELS, else the Space's first model; `--model` alone where it is given.

    Raises:
        ConfigError: The Space has not the model that is to be the champion.
        SpaceError: It does not answer.
    """
    health = space.health()
    first, *_ = served_models(health)
    if options.model:  # which the Space has, or was started with
        found = first if options.local else options.model
        return Lineup(found, None if found == first else found)
    models = as_named(health, settings.models) if options.local else settings.models
    if not models:
        return Lineup(first)
    url = getattr(space, "url", "")
    found = find_model(health, models[0], setting="KRONOS_MODELS", url=url)
    return Lineup(found, None if found == first else found, models[1:])
