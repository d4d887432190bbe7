"""The models of a Space, from its /health."""

from collections.abc import Mapping, Sequence
from typing import Any

from tradingbot.errors import ConfigError
from tradingbot.settings.models import AskedModel


def served_models(health: Mapping[str, Any]) -> list[str]:
    """Return the names of the models. The first is the default."""
    listed = [str(model["model"]) for model in health.get("models") or ()]
    return listed or [str(health["model"])]  # an older Space has one model


def find_model(health: Mapping[str, Any], asked: AskedModel, *, setting: str, url: str) -> str:
    """Return the name under which the Space serves a model.

    Raises:
        ConfigError: The Space has no model of this name. `setting` is the setting that named it.
    """
    names = served_models(health)
    found = next(filter(asked.is_called, names), None)
    if found is None:
        raise ConfigError(
            f"{setting}: {asked.name!r}: the Space at {url} does not serve this model; "
            f"it serves {', '.join(names)}"
        )
    return found


def revision_of(health: Mapping[str, Any], name: str) -> str | None:
    """Return the revision of one of the Space's models, or None if the Space does not report it."""
    listed = [*(health.get("models") or ()), health]
    revisions = (model.get("model_revision") for model in listed if model.get("model") == name)
    return next((str(model) for model in revisions if model), None)


def as_named(health: Mapping[str, Any], asked: Sequence[AskedModel]) -> tuple[AskedModel, ...]:
    """Return the models with the names that a local Space, which was started with them, reports."""
    names = iter(served_models(health))
    return tuple(
        model if model.is_elsewhere else AskedModel(next(names, model.name)) for model in asked
    )
