"""KRONOS_MODELS: which models the job asks, and where the others are."""

import re
from dataclasses import dataclass

from tradingbot.errors import ConfigError
from tradingbot.settings.variables import check_url, wrong

_FORM = (
    "models with commas between them, each once: NAME of the Space, and of another one "
    "NAME=https://… or NAME=owner/space"
)


@dataclass(frozen=True)
class AskedModel:
    """A model that the job asks, and the Space that it is asked of."""

    name: str  # as the Space's /health lists it, with or without its owner
    space_url: str | None = None  # None, without `space_repo`: the Space of KRONOS_SPACE_URL
    space_repo: str = ""  # on the Hub

    @property
    def is_elsewhere(self) -> bool:
        """Whether another Space has it."""
        return bool(self.space_url or self.space_repo)

    def is_called(self, name: str) -> bool:
        """Whether this is its name, by which a Space or the ledger knows it."""
        asked = self.name.casefold()
        return asked in (name.casefold(), name.rpartition("/")[2].casefold())


def parse_models(text: str) -> tuple[AskedModel, ...]:
    """'mini,tuned=me/space' -> both; ConfigError for what cannot be meant."""
    models = tuple(_model(part.strip(), text) for part in text.split(","))
    names = [model.name.casefold() for model in models]
    if len({*names}) < len(names):
        raise wrong("KRONOS_MODELS", text, _FORM)
    if models[0].is_elsewhere:
        raise ConfigError(
            f"KRONOS_MODELS={text!r}: the first model is what bots are given, and is asked of the "
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
