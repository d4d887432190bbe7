"""KRONOS_MODELS: the models that the job uses, and the Spaces that serve them."""

import re
from dataclasses import dataclass

from tradingbot.errors import ConfigError
from tradingbot.settings.variables import check_url, wrong

_FORM = (
    "distinct models separated by commas: NAME for the Space's own, and for another Space "
    "NAME=https://… or NAME=owner/space"
)


@dataclass(frozen=True)
class AskedModel:
    """A model that the job uses, and the Space that serves it."""

    name: str  # as listed in the Space's /health, with or without the owner
    space_url: str | None = None  # address of another Space
    # Name of another Space on the Hub. Without `space_url` and `space_repo`, the Space of
    # KRONOS_SPACE_URL serves the model.
    space_repo: str = ""

    @property
    def is_elsewhere(self) -> bool:
        """Return whether another Space serves the model."""
        return bool(self.space_url or self.space_repo)

    def is_called(self, name: str) -> bool:
        """Return whether `name` is this model.

        `name` is the model's name in a Space or in the ledger, the table of all stored forecasts.
        """
        asked = self.name.casefold()
        return asked in (name.casefold(), name.rpartition("/")[2].casefold())


def parse_models(text: str) -> tuple[AskedModel, ...]:
    """Parse a list of models such as 'mini,tuned=me/space'.

    Raises:
        ConfigError: The list is invalid.
    """
    models = tuple(_model(part.strip(), text) for part in text.split(","))
    names = [model.name.casefold() for model in models]
    if len({*names}) < len(names):
        raise wrong("KRONOS_MODELS", text, _FORM)
    if models[0].is_elsewhere:
        raise ConfigError(
            f"KRONOS_MODELS={text!r}: bots use the first model, which is always served by the "
            "Space of KRONOS_SPACE_URL: name it without an address"
        )
    return models


def _model(part: str, text: str) -> AskedModel:
    name, equals, space = (piece.strip() for piece in part.partition("="))
    if not name or len(name) > 200 or not name.isprintable() or bool(equals) != bool(space):
        raise wrong("KRONOS_MODELS", text, _FORM)
    if not space:
        return AskedModel(name)
    if re.fullmatch(r"[\w.-]+/[\w.-]+", space, re.ASCII):
        return AskedModel(name, space_repo=space)
    return AskedModel(name, space_url=check_url("KRONOS_MODELS", space))
