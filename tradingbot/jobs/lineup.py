"""The models of a night: the champion, whose forecasts are served, and its challengers."""

from dataclasses import dataclass

from tradingbot.jobs.options import JobOptions
from tradingbot.jobs.steps import Forecaster
from tradingbot.settings import Settings
from tradingbot.settings.models import AskedModel
from tradingbot.space.served_models import as_named, find_model, served_models


@dataclass(frozen=True)
class Lineup:
    """The models of a night."""

    champion: str | None = None  # the model whose forecasts are served, as named by the Space
    asked: str | None = None  # the champion's name in requests; None: the Space's first model
    challengers: tuple[AskedModel, ...] = ()


def lineup_of(space: Forecaster, settings: Settings, options: JobOptions) -> Lineup:
    """Return the models of KRONOS_MODELS, or the Space's first model if KRONOS_MODELS is empty.

    With `--model`, return only the model that this option names.

    Raises:
        ConfigError: The Space does not have the champion's model.
        SpaceError: The Space does not answer.
    """
    health = space.health()
    first, *_ = served_models(health)
    if options.model:  # the Space has this model, or was started with it
        found = first if options.local else options.model
        return Lineup(found, None if found == first else found)
    models = as_named(health, settings.models) if options.local else settings.models
    if not models:
        return Lineup(first)
    url = getattr(space, "url", "")
    found = find_model(health, models[0], setting="KRONOS_MODELS", url=url)
    return Lineup(found, None if found == first else found, models[1:])
