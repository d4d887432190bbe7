"""Which models a Space has, by its /health."""

from collections.abc import Mapping, Sequence
from typing import Any

from tradingbot.errors import ConfigError
from tradingbot.settings.models import AskedModel


def served_models(health: Mapping[str, Any]) -> list[str]:
    """Their names; the first one answers requests that name none."""
    listed = [str(one["model"]) for one in health.get("models") or ()]
    return listed or [str(health["model"])]  # an older Space has one


def find_model(health: Mapping[str, Any], asked: AskedModel, *, setting: str, url: str) -> str:
    """Return the name by which the Space has a model.

    Raises:
        ConfigError: It has none of this name. `setting` is what named it.
    """
    names = served_models(health)
    found = next(filter(asked.is_called, names), None)
    if found is None:
        raise ConfigError(f"{setting}: {asked.name!r}: the Space at {url} has {', '.join(names)}")
    return found


def as_named(health: Mapping[str, Any], asked: Sequence[AskedModel]) -> tuple[AskedModel, ...]:
    """The models of a Space of this machine, which was told to load them, by their own names."""
    names = iter(served_models(health))
    return tuple(
        model if model.is_elsewhere else AskedModel(next(names, model.name)) for model in asked
    )
